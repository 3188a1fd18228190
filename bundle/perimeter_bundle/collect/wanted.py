"""What a release asks for by name, before anything is known about it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perimeter_bundle.catalog.built import BuiltImageSpec, made_files
from perimeter_bundle.catalog.values import ChartSpec, Component, Release, SourceSpec
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import (
    GO_BUILD_SCHEME,
    GO_MODULE_SCHEME,
    WORKLOADS,
    FileKind,
    ImageOrigin,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
)
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

_CAPITALS = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image by name, who needs it and why; one entry however many components do."""

    reference: ImageReference
    components: tuple[str, ...]
    why: tuple[str, ...]
    origin: ImageOrigin = ImageOrigin.REGISTRY


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file or manifest for one platform, or (None) for all."""

    component: Component
    name: str
    version: str
    kind: FileKind
    platform: Platform | None
    url: str
    checksum_url: str
    licence: str

    def locked(self) -> LockedFile:
        """Its entry in a lock, still without a digest."""
        return LockedFile(
            name=self.name,
            version=self.version,
            component=self.component.name,
            kind=self.kind,
            platform=self.platform,
            url=self.url,
            digest=None,
            size_bytes=0,
        )


@dataclass(frozen=True, slots=True)
class WantedChart:
    """A chart and the component that brings it."""

    component: Component
    spec: ChartSpec

    def locked(self) -> LockedChart:
        """Its entry in a lock, still without an address of the archive and a digest."""
        return LockedChart(
            name=self.spec.name,
            version=self.spec.version,
            component=self.component.name,
            source=self.spec.origin,
            url="",
            digest=None,
            size_bytes=0,
        )


@dataclass(frozen=True, slots=True)
class WantedBuild:
    """An image that is compiled, and the component that brings it."""

    component: Component
    spec: BuiltImageSpec

    @property
    def why(self) -> str:
        """As a lock says why an image is needed."""
        return f"{self.component.name}: {self.spec.why}"

    def image(self) -> WantedImage:
        """The image by name."""
        return WantedImage(self.spec.reference, (self.component.name,), (self.why,))

    @property
    def source_url(self) -> str:
        """The module's archive, as a path below every module proxy; `!` marks capital letters.

        https://go.dev/ref/mod#goproxy-protocol
        """
        go = self.spec.go
        module, version = (_CAPITALS.sub(_marked, text) for text in (go.module, go.version))
        return f"{GO_MODULE_SCHEME}{module}/@v/{version}.zip"


def wanted_builds(release: Release) -> tuple[WantedBuild, ...]:
    """Every image of the release that is compiled."""
    return tuple(
        WantedBuild(component, spec)
        for component in release.components
        for spec in component.built_images
    )


def made_files_of(wanted: WantedBuild, release: Release) -> tuple[LockedFile, ...]:
    """The files made with an image, still without digests: its source and what explains it."""
    spec = wanted.spec
    source, sbom, provenance = made_files(spec.short_name)
    made = f"{GO_BUILD_SCHEME}{spec.reference}"
    files: list[tuple[str, str, Platform | None, str]] = [
        (source, spec.go.version, None, wanted.source_url),
        (provenance, spec.reference.tag, None, f"{made}/{provenance}.intoto.json"),
    ]
    files += [
        (sbom, spec.reference.tag, platform, f"{made}/{sbom}-{platform.architecture}.cdx.json")
        for platform in release.platforms
    ]
    return tuple(
        LockedFile(name, version, wanted.component.name, FileKind.FILE, platform, url, None, 0)
        for name, version, platform, url in files
    )


def is_made(url: str) -> bool:
    """Whether a file of a lock is made here, not fetched."""
    return url.startswith((GO_MODULE_SCHEME, GO_BUILD_SCHEME))


def _marked(found: re.Match[str]) -> str:
    return f"!{found[0].lower()}"


@dataclass(frozen=True, slots=True)
class WantedSource:
    """A source and the folders in it that are rendered."""

    spec: SourceSpec
    roots: tuple[str, ...]

    def locked(self) -> LockedSource:
        """Its entry in a lock, still without a digest."""
        spec = self.spec
        return LockedSource(spec.name, spec.tag, spec.git, spec.commit, None, 0, ())


def wanted_images(
    release: Release,
    from_kubeadm: Sequence[tuple[str, ImageReference]] = (),
    found: Sequence[tuple[str, ImageReference, str]] = (),
) -> tuple[WantedImage, ...]:
    """Every image the catalog or the site lists, kubeadm listed, or discovery found, with reason.

    Those that are compiled are not among them. Raises InputError[name-taken] when the site brings
    another image under a name of the catalog.
    """
    built = {wanted.spec.reference for wanted in wanted_builds(release)}
    needs: dict[ImageReference, list[tuple[str, str]]] = {}
    for component in release.components:
        for image in component.images:
            needs.setdefault(image.reference, []).append((component.name, image.why))
    for name, reference in from_kubeadm:
        why = f"kubeadm {release.component(name).version} asks for it"
        needs.setdefault(reference, []).append((name, why))
    for name, reference, why in found:
        needs.setdefault(reference, []).append((name, why))
    origins = _add_workloads(release, needs)
    return tuple(
        WantedImage(
            reference,
            tuple(sorted({component for component, _ in pairs})),
            tuple(sorted({f"{_asker(component)}: {why}" for component, why in pairs})),
            origins.get(reference, ImageOrigin.REGISTRY),
        )
        for reference, pairs in sorted(needs.items(), key=lambda item: str(item[0]))
        if reference not in built
    )


def _add_workloads(
    release: Release, needs: dict[ImageReference, list[tuple[str, str]]]
) -> dict[ImageReference, ImageOrigin]:
    """Adds the site's images to ``needs``; where each of them comes from."""
    taken = [
        f"{image.reference}: {', '.join(sorted({name for name, _ in needs[image.reference]}))}"
        for image in release.workloads.images
        if image.origin is not ImageOrigin.REGISTRY and image.reference in needs
    ]
    if taken:
        raise InputError(
            "name-taken",
            "workloads.yaml brings images under names that components of the release use",
            problems=taken,
            hint="give them names of their own",
        )
    for image in release.workloads.images:
        needs.setdefault(image.reference, []).append((WORKLOADS, image.why))
    return {image.reference: image.origin for image in release.workloads.images}


def _asker(component: str) -> str:
    """Who asks, as ``why`` says it."""
    return "workloads.yaml" if component == WORKLOADS else component


def unresolved_image(image: WantedImage) -> LockedImage:
    """The entry of an image in a lock, still without a digest."""
    return LockedImage(
        reference=image.reference,
        digest=image.reference.digest,
        media_type="",
        manifests={},
        size_bytes=0,
        components=image.components,
        why=image.why,
        origin=image.origin,
    )


def wanted_charts(release: Release) -> tuple[WantedChart, ...]:
    """Every chart of the release."""
    return tuple(
        WantedChart(component, spec)
        for component in release.components
        for spec in component.charts
    )


def wanted_sources(release: Release) -> tuple[WantedSource, ...]:
    """Every source that a kustomization of the release is in."""
    roots: dict[str, set[str]] = {}
    for component in release.components:
        for one in component.kustomizations:
            roots.setdefault(one.source.name, set()).add(one.path)
    return tuple(WantedSource(spec, tuple(sorted(roots[spec.name]))) for spec in release.sources)


def wanted_files(release: Release) -> tuple[WantedFile, ...]:
    """Every file for each of the release's platforms, and every manifest."""
    return tuple(
        wanted for component in release.components for wanted in _files_of(component, release)
    )


def _files_of(component: Component, release: Release) -> Iterable[WantedFile]:
    for file in component.files:
        platforms: tuple[Platform | None, ...] = release.platforms if file.platforms else (None,)
        for platform in platforms:
            yield WantedFile(
                component=component,
                name=file.name,
                version=file.version,
                kind=FileKind.FILE,
                platform=platform,
                url=file.url_for(platform),
                checksum_url=file.checksum_url_for(platform),
                licence=file.licence,
            )
    for manifest in component.manifests:
        yield WantedFile(
            component=component,
            name=manifest.name,
            version=manifest.version,
            kind=FileKind.MANIFEST,
            platform=None,
            url=manifest.full_url(),
            checksum_url="",
            licence=manifest.licence,
        )
