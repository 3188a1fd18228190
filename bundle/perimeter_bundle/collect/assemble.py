"""Fetched blobs → index.json and the items of bundle.json. Pure but for the blobs it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perimeter_bundle.catalog.built import made_files
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.artifacts import Artifact
from perimeter_bundle.collect.pull import PulledImage
from perimeter_bundle.collect.room import FILES_FACTOR, UNPACKED_FACTOR
from perimeter_bundle.collect.wanted import wanted_builds
from perimeter_bundle.format.layout import REF_NAME_ANNOTATION
from perimeter_bundle.format.manifest import BundleComponent, BundleItem, ItemKind, Room
from perimeter_bundle.format.oci import Descriptor, OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import (
    WORKLOADS,
    FileKind,
    ImageOrigin,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
)
from perimeter_bundle.model.reference import ImageReference

# why the files that are made with an image are there, in the order of ``made_files``
_MADE = ("the source of", "what is in", "how it was made:")


@dataclass(frozen=True, slots=True)
class PackedEntry:
    """A chart, file or source of the lock and the artifact made of it."""

    locked: LockedChart | LockedFile | LockedSource
    artifact: Artifact


def write_index(images: Sequence[PulledImage], packed: Sequence[PackedEntry]) -> bytes:
    """index.json: every image, chart and file under its full reference, sorted."""
    entries = {str(image.locked.reference): image.top for image in images}
    entries |= {str(one.locked.reference): one.artifact.descriptor for one in packed}
    named = [
        replace(entries[name], annotations={REF_NAME_ANNOTATION: name}) for name in sorted(entries)
    ]
    return OciIndex(tuple(named)).to_bytes()


PACKAGE_LICENCE = "LicenseRef-distribution"


def image_item(image: PulledImage, release: Release) -> BundleItem:
    """An image as bundle.json describes it."""
    locked = image.locked
    names = sorted(set(locked.components) - {WORKLOADS})
    component = release.component(names[0]) if names else None
    first = locked.manifests[release.platforms[0]]
    return BundleItem(
        kind=ItemKind.IMAGE,
        name=str(locked.reference),
        digest=image.top.digest,
        payload=first,
        size_bytes=sum(image.sizes.values()),
        platforms=tuple(str(platform) for platform in sorted(locked.manifests)),
        source=_image_source(locked, release),
        licence=(
            component.licence_of(locked.reference)
            if component
            else _workload_licence(release, locked.reference)
        ),
        component=component.name if component else WORKLOADS,
        why=tuple(sorted(locked.why)),
        version=locked.reference.tag,
    )


def packed_item(one: PackedEntry, release: Release) -> BundleItem:
    """A chart, file, manifest or source as bundle.json describes it."""
    locked = one.locked
    if isinstance(locked, LockedSource):
        return _source_item(locked, one.artifact, release)
    component = release.component(locked.component)
    platforms: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    if isinstance(locked, LockedChart):
        kind, why = ItemKind.CHART, f"installs {component.title}"
        inside = tuple(
            f"{d.place} in it is {d.name} {d.version} from {d.url}" for d in locked.dependencies
        )
        licence = next(c.licence for c in component.charts if c.name == locked.name)
    elif locked.kind is FileKind.FILE:
        kind, why = ItemKind.FILE, f"a program of {component.title}"
        platforms = (str(locked.platform),) if locked.platform else ()
        licence = next((f.licence for f in component.files if f.name == locked.name), "")
        for spec in component.built_images:
            if locked.name in (names := made_files(spec.short_name)):
                licence, why = spec.licence, f"{_MADE[names.index(locked.name)]} {spec.reference}"
        if not licence:  # a package of the hosts' system: its own copyright file says it
            licence, why = PACKAGE_LICENCE, f"{component.title} installs it on the site's hosts"
    else:
        kind, why = ItemKind.MANIFEST, f"installs {component.title}"
        licence = next(m.licence for m in component.manifests if m.name == locked.name)
    return BundleItem(
        kind=kind,
        name=str(locked.reference),
        digest=one.artifact.descriptor.digest,
        payload=one.artifact.payload.digest,
        size_bytes=one.artifact.size_bytes,
        platforms=platforms,
        source=locked.url,
        licence=licence,
        component=component.name,
        why=(why, *sorted(set(inside))),
        version=locked.version,
    )


def _source_item(locked: LockedSource, artifact: Artifact, release: Release) -> BundleItem:
    users = [
        component
        for component in release.components
        if any(one.source.name == locked.name for one in component.kustomizations)
    ]
    source = next(one for one in release.sources if one.name == locked.name)
    return BundleItem(
        kind=ItemKind.SOURCE,
        name=str(locked.reference),
        digest=artifact.descriptor.digest,
        payload=artifact.payload.digest,
        size_bytes=artifact.size_bytes,
        platforms=(),
        source=f"{locked.url}@{locked.commit}",
        licence=source.licence,
        component=users[0].name,
        why=tuple(f"{component.name}: installs {component.title}" for component in users),
        version=locked.version,
    )


def bundle_components(release: Release) -> tuple[BundleComponent, ...]:
    """The components in the order in which they are installed."""
    return tuple(
        BundleComponent(c.name, c.version, c.licence, c.source, c.phase.value)
        for c in release.components
    )


def exact_room(
    sizes: Mapping[Digest, int], images: Sequence[PulledImage], other: int, left_out_bytes: int
) -> Room:
    """Room by what really is there: each blob once; ``other`` is everything beside the blobs.

    What a delta leaves out takes no room in the bundle; registry and nodes need all.
    """
    blobs = sum(sizes.values())
    of_images = {digest: size for image in images for digest, size in image.sizes.items()}
    images_bytes = sum(of_images.values())
    files_bytes = blobs - images_bytes
    return Room(
        bundle_bytes=blobs - left_out_bytes + other,
        registry_bytes=blobs,
        node_bytes=images_bytes * UNPACKED_FACTOR + files_bytes * FILES_FACTOR,
    )


def all_sizes(images: Sequence[PulledImage], packed: Sequence[PackedEntry]) -> dict[Digest, int]:
    """Size of every blob of the bundle, each once."""
    sizes = {digest: size for image in images for digest, size in image.sizes.items()}
    for one in packed:
        blobs: tuple[Descriptor, ...] = (one.artifact.descriptor, one.artifact.payload)
        sizes |= {blob.digest: blob.size_bytes for blob in blobs}
        sizes[Digest.of_bytes(one.artifact.config)] = len(one.artifact.config)
    return sizes


def _image_source(locked: LockedImage, release: Release) -> str:
    if locked.origin is ImageOrigin.REGISTRY:
        return f"oci://{locked.place}"
    for wanted in wanted_builds(release):
        if wanted.spec.reference == locked.reference:
            return wanted.source_url
    return f"{locked.origin.value} of the builder"


def _workload_licence(release: Release, reference: ImageReference) -> str:
    images = {image.reference: image.licence for image in release.workloads.images}
    return images[reference]
