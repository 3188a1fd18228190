"""What a site must look like, out of site.yaml and the verified bundle. Pure but for reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.format.manifest import BundleManifest, ItemKind
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import InputError
from perimeter_installer.run.variables import facts_of
from perimeter_installer.site.model import Host, Site

BUSYBOX = "docker.io/library/busybox"
MINIO_CLIENT = "quay.io/minio/mc"


@dataclass(frozen=True, slots=True)
class Expected:
    """Everything checks compare with."""

    site: Site
    manifest: BundleManifest
    images: Mapping[str, tuple[str, ...]]  # reference → digests under which it may run
    nodes_off: tuple[str, ...] = ()

    @property
    def nodes_on(self) -> tuple[Host, ...]:
        """Nodes that are said to be on."""
        return tuple(host for host in self.site.nodes if host.name not in self.nodes_off)

    def version(self, component: str) -> str:
        """Version of a component; empty when the release has none of this name."""
        return next((one.version for one in self.manifest.components if one.name == component), "")

    def image(self, repository: str) -> str:
        """The bundle's image of a repository, by its full reference; empty when it has none."""
        names = [
            item.name
            for item in self.manifest.items_of(ItemKind.IMAGE)
            if item.reference.name == repository
        ]
        return max(names, default="")

    def has(self, component: str) -> bool:
        """Whether the release has this component."""
        return bool(self.version(component))

    def file_digests(self) -> dict[str, str]:
        """``component/name`` → SHA-256 of each file that nodes run as it is."""
        return {
            item.reference.repository.removeprefix("files/"): item.payload.hex
            for item in self.manifest.items_of(ItemKind.FILE)
        }


def expected_of(site: Site, bundle: VerifiedBundle, nodes_off: tuple[str, ...] = ()) -> Expected:
    """Reads what must hold; raises InputError[unknown-node] for a name that is no node."""
    unknown = sorted(set(nodes_off) - {host.name for host in site.nodes})
    if unknown:
        raise InputError(
            "unknown-node",
            f"no node of this site: {', '.join(unknown)}",
            context={"nodes": ", ".join(host.name for host in site.nodes)},
            hint="name nodes as site.yaml does",
        )
    images = {
        name: tuple(str(digest) for digest in digests)
        for name, digests in facts_of(bundle).image_digests.items()
    }
    return Expected(site, bundle.manifest, images, nodes_off)
