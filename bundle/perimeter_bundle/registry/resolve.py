"""What a name stands for on the platforms asked for, wherever manifests come from.

A registry is one such place; a folder, an archive or an engine on the builder are others
(``perimeter_bundle.imagesource``). The rules are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from perimeter_bundle.format.oci import (
    INDEX_TYPES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    ImageManifest,
    OciIndex,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.choose import choose_manifest, platforms_of, runs_on
from perimeter_bundle.registry.manifests import FetchedManifest, platform_of_config
from perimeter_bundle.registry.part_file import MAX_BLOB_BYTES
from perimeter_bundle.registry.transfer import Verified

IMAGE_CONFIG_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)


class ManifestSource(Protocol):
    """What gives manifests and small blobs by name and digest, checked."""

    def fetch_manifest(
        self, reference: ImageReference, digest: Digest | None = None
    ) -> FetchedManifest:
        """The manifest or index under ``digest``, else under the reference's own digest or tag."""
        ...

    def fetch_small_blob(
        self, reference: ImageReference, descriptor: Descriptor, limit_bytes: int
    ) -> bytes:
        """The bytes of a blob that fits into memory."""
        ...


class ImageSource(ManifestSource, Protocol):
    """Where images come from: a registry, or something on the builder."""

    def resolve(self, reference: ImageReference, platforms: Sequence[Platform]) -> Resolved:
        """What ``reference`` stands for on each of ``platforms``."""
        ...

    def fetch_blob(
        self,
        reference: ImageReference,
        descriptor: Descriptor,
        target: Path,
        on_event: OnEvent | None = None,
        *,
        verified: Verified | None = None,
    ) -> int:
        """Brings a blob to ``target``, hashed on the way; gives back its size."""
        ...


class Registries(ImageSource, Protocol):
    """Registries, which also tell what else they have."""

    def list_tags(self, reference: ImageReference) -> frozenset[str]:
        """Every tag of the reference's repository."""
        ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference stands for, for the platforms that were asked for.

    ``digest`` and ``raw`` are the index when upstream has one, else the single manifest.
    ``descriptors`` are the configurations and layers of all ``manifests``, each blob once.
    """

    reference: ImageReference
    digest: Digest
    media_type: str
    raw: bytes
    manifests: Mapping[Platform, FetchedManifest]
    descriptors: tuple[Descriptor, ...]

    @property
    def is_index(self) -> bool:
        """Whether upstream has an index under this name."""
        return self.media_type in INDEX_TYPES

    @property
    def size_bytes(self) -> int:
        """Bytes of everything: index, manifests, configurations, layers, each once."""
        texts = {self.digest: len(self.raw)}
        texts |= {manifest.digest: len(manifest.raw) for manifest in self.manifests.values()}
        return sum(texts.values()) + sum(blob.size_bytes for blob in self.descriptors)


def resolve(
    source: ManifestSource, reference: ImageReference, platforms: Sequence[Platform]
) -> Resolved:
    """What ``reference`` stands for in ``source`` on each of ``platforms``.

    Raises what ``source`` raises, IntegrityError, and InputError[platform-missing] with the
    platforms there are.
    """
    top = source.fetch_manifest(reference)
    if isinstance(top.parsed, OciIndex):
        manifests = _manifests_of(source, reference, top.parsed, platforms)
    else:
        manifests = _single(source, reference, top, top.parsed, platforms)
    blobs: dict[Digest, Descriptor] = {}
    for manifest in manifests.values():
        if isinstance(manifest.parsed, ImageManifest):
            _collect(blobs, manifest.parsed.descriptors, reference)
    return Resolved(
        reference, top.digest, top.media_type, top.raw, manifests, tuple(blobs.values())
    )


def _manifests_of(
    source: ManifestSource,
    reference: ImageReference,
    index: OciIndex,
    platforms: Sequence[Platform],
) -> dict[Platform, FetchedManifest]:
    chosen = {wanted: choose_manifest(index.manifests, wanted) for wanted in platforms}
    missing = [wanted for wanted, entry in chosen.items() if entry is None]
    if missing:
        raise _platform_missing(reference, missing, platforms_of(index.manifests))
    manifests = {}
    for wanted, entry in chosen.items():
        if entry is None:
            continue
        if entry.size_bytes > MAX_MANIFEST_BYTES:
            _refuse_size(reference, entry.digest, entry.size_bytes, MAX_MANIFEST_BYTES)
        manifest = source.fetch_manifest(reference, entry.digest)
        if len(manifest.raw) != entry.size_bytes:
            _refuse_size(reference, entry.digest, entry.size_bytes, len(manifest.raw))
        if not isinstance(manifest.parsed, ImageManifest):
            raise IntegrityError(
                "bad-manifest",
                f"{reference}: the index names another index for {wanted}",
                hint="nested indexes are not supported; name the inner one by its digest",
            )
        manifests[wanted] = manifest
    return manifests


def _single(
    source: ManifestSource,
    reference: ImageReference,
    top: FetchedManifest,
    manifest: ImageManifest,
    platforms: Sequence[Platform],
) -> dict[Platform, FetchedManifest]:
    """A manifest without an index: only its configuration tells what it was built for."""
    built_for: tuple[Platform, ...] = ()
    if manifest.config.media_type in IMAGE_CONFIG_TYPES and platforms:
        config = source.fetch_small_blob(reference, manifest.config, MAX_MANIFEST_BYTES)
        built_for = (platform_of_config(config, reference),)
        missing = [wanted for wanted in platforms if not runs_on(built_for[0], wanted)]
        if missing:
            raise _platform_missing(reference, missing, built_for)
    # anything that is not an image (a chart, an artifact) is the same on every platform
    return dict.fromkeys(platforms, top)


def _collect(
    blobs: dict[Digest, Descriptor], found: Sequence[Descriptor], reference: ImageReference
) -> None:
    for descriptor in found:
        refuse_absurd(descriptor, reference)
        known = blobs.setdefault(descriptor.digest, descriptor)
        if known.size_bytes != descriptor.size_bytes:
            _refuse_size(reference, known.digest, known.size_bytes, descriptor.size_bytes)


def refuse_absurd(descriptor: Descriptor, reference: ImageReference) -> None:
    """Raises IntegrityError[size-mismatch] for a blob larger than any honest one."""
    if descriptor.size_bytes > MAX_BLOB_BYTES:
        _refuse_size(reference, descriptor.digest, descriptor.size_bytes, MAX_BLOB_BYTES)


def _refuse_size(reference: ImageReference, digest: Digest, promised: int, found: int) -> None:
    raise IntegrityError(
        "size-mismatch",
        f"refused {reference}: a size in its manifest is wrong",
        context={"blob": digest, "promised": f"{promised} bytes", "found": f"{found} bytes"},
        hint="the image is damaged upstream",
    )


def _platform_missing(
    reference: ImageReference, missing: Sequence[Platform], there: Sequence[Platform]
) -> InputError:
    names = ", ".join(map(str, missing))
    return InputError(
        "platform-missing",
        f"{reference} has nothing for {names}",
        context={"there is": ", ".join(map(str, there)) or "no platform at all"},
        hint="collect another platform, or use a tag that was built for this one",
    )
