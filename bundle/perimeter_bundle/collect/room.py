"""Room a release needs on each machine, from what its lock says. Pure.

The factors were measured with release 2026.11 and rounded up; docs/perimeter-bundle.md has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.lock import Lock

# perimeter's wheels for three Pythons, collections, roles: 32 MiB measured
CONTENT_BYTES = 64 * MIB
# while building: the package the collections come from (54 MiB), what pip unpacks, kubeadm's copy
BUILD_EXTRA_BYTES = 256 * MIB
# in volumes each file has a header and is padded, together at most 1 KiB; each volume holds a list
VOLUMES_EXTRA_BYTES = 16 * MIB
VOLUMES_PART = 200  # one part in so many
# perimeter-install and what it brings, installed from the wheelhouse: 146 MiB measured
INSTALLED_BYTES = 256 * MIB
# containerd keeps the compressed layers and unpacks them: together 3.8 times their size, measured
UNPACKED_FACTOR = 4
# programs are kept once and unpacked once
FILES_FACTOR = 3


@dataclass(frozen=True, slots=True)
class RoomNeeded:
    """Bytes that must be free on each machine; at most, since blobs may be shared."""

    builder_bytes: int
    carrier_bytes: int
    volumes_bytes: int  # all of them together, without parity
    jump_bytes: int  # with the bundle unpacked there
    jump_volumes_bytes: int  # used straight from volumes: volume 1 is unpacked beside
    registry_bytes: int
    node_bytes: int

    def to_dict(self) -> dict[str, object]:
        """As ``plan --json`` prints it."""
        return {
            "builder_bytes": self.builder_bytes,
            "carrier_bytes": self.carrier_bytes,
            "volumes_bytes": self.volumes_bytes,
            "jump_bytes": self.jump_bytes,
            "jump_volumes_bytes": self.jump_volumes_bytes,
            "registry_bytes": self.registry_bytes,
            "node_bytes": self.node_bytes,
        }


def room_needed(
    images_bytes: int,
    files_bytes: int,
    charts_bytes: int,
    packages_bytes: int = 0,
    *,
    at_site_bytes: int = 0,
    read_here_bytes: int = 0,
) -> RoomNeeded:
    """The room for so much of each kind; files are programs and manifests.

    The site's Python packages travel in the bundle and do not go into its registry. A delta leaves
    ``at_site_bytes`` of the rest out: the registry holds them already, and nodes unpack them all
    the same. Of these the builder fetches ``read_here_bytes``, and drops them at the end.
    """
    stored = images_bytes + files_bytes + charts_bytes
    carried = max(0, stored - at_site_bytes)
    bundle = carried + packages_bytes + CONTENT_BYTES
    return RoomNeeded(
        builder_bytes=bundle + read_here_bytes + BUILD_EXTRA_BYTES,
        carrier_bytes=bundle,
        volumes_bytes=bundle + bundle // VOLUMES_PART + VOLUMES_EXTRA_BYTES,
        jump_bytes=bundle + INSTALLED_BYTES,
        jump_volumes_bytes=INSTALLED_BYTES,
        registry_bytes=carried,
        node_bytes=images_bytes * UNPACKED_FACTOR + files_bytes * FILES_FACTOR,
    )


def room_of_lock(lock: Lock, *, at_site_bytes: int = 0, read_here_bytes: int = 0) -> RoomNeeded:
    """The room for everything a lock pins; what a delta leaves out as ``room_needed`` says."""
    return room_needed(
        sum(image.size_bytes for image in lock.images),
        sum(file.size_bytes for file in lock.files),
        sum(chart.size_bytes for chart in lock.charts)
        + sum(source.size_bytes for source in lock.sources),
        sum(package.size_bytes for package in lock.packages),
        at_site_bytes=at_site_bytes,
        read_here_bytes=read_here_bytes,
    )
