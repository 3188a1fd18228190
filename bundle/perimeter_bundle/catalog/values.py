"""What the catalog says, as frozen values: components, what each brings, and releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from perimeter_bundle.catalog.built import BuiltImageSpec
from perimeter_bundle.catalog.site_tags import SiteTag
from perimeter_bundle.catalog.workload_values import NO_WORKLOADS, Workloads
from perimeter_bundle.discover.rules import NO_RULES, Rules
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import GIT_SCHEME
from perimeter_bundle.model.phases import Phase
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.rules import Acceptance, Product


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image a component needs, and why.

    ``alternates`` are other places that have it, tried in order when its own registry no longer
    does; ``digest`` is what it is known to be, wherever it is found.
    """

    reference: ImageReference
    why: str
    licence: str
    alternates: tuple[ImageReference, ...] = ()
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A tree of files at one commit of a git repository."""

    name: str
    licence: str
    git: str  # https://…
    tag: str
    commit: str  # 40 or 64 hexadecimal digits; what the tag must point to
    keep: tuple[str, ...]  # folders that are kept; empty: the whole tree
    alternates: tuple[str, ...]  # other addresses of the same repository, tried in this order

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the repository is, in the order in which they are asked."""
        return (self.git, *self.alternates)


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A Helm chart and how it is rendered for review and completeness.

    It comes from a repository, or from a folder of a source. ``alternates`` are other addresses of
    repositories, its own or those of charts it needs, by the address as it stands in Chart.yaml.
    """

    name: str
    version: str
    repository: str  # https://… (index.yaml below it) or oci://host/path; empty: it has a source
    licence: str
    namespace: str
    release_name: str
    values_path: Path | None
    values: Mapping[str, object]
    source: SourceSpec | None = None
    path: str = ""  # its folder in the source
    alternates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where it comes from, as a lock says it."""
        if self.source is None:
            return self.repository
        return f"{GIT_SCHEME}{self.source.git}@{self.source.commit}#{self.path}"


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file fetched over HTTPS; its addresses may hold ``{version}``, ``{arch}``, ``{os}``."""

    name: str
    version: str
    url: str
    platforms: tuple[Platform, ...]  # empty: the same file on every platform
    licence: str
    checksum_url: str

    def url_for(self, platform: Platform | None) -> str:
        """Where the file for ``platform`` is."""
        return expand_url(self.url, self.version, platform)

    def checksum_url_for(self, platform: Platform | None) -> str:
        """Where upstream publishes its SHA-256; empty when it does not."""
        return expand_url(self.checksum_url, self.version, platform)


@dataclass(frozen=True, slots=True)
class ManifestSpec:
    """Kubernetes objects upstream publishes as one YAML file."""

    name: str
    version: str
    url: str
    licence: str

    def full_url(self) -> str:
        """Where it is."""
        return expand_url(self.url, self.version, None)


@dataclass(frozen=True, slots=True)
class KustomizationSpec:
    """A kustomization of a source that is rendered with the real kustomize."""

    name: str
    source: SourceSpec
    path: str  # its folder in the source


@dataclass(frozen=True, slots=True)
class LicenceRule:
    """The licence of images that a render names, where it is not the component's."""

    image: str  # glob over full references
    licence: str

    def matches(self, reference: ImageReference) -> bool:
        """Whether it speaks of this image."""
        return fnmatchcase(str(reference), self.image)


@dataclass(frozen=True, slots=True)
class ReadyCondition:
    """An object and the state it has when its component works; docs/catalog.md has the states."""

    kind: str
    namespace: str  # empty: the kind has none
    name: str
    condition: str
    api_version: str = ""  # of a kind that is not Kubernetes' own


@dataclass(frozen=True, slots=True)
class Component:
    """One component.yaml."""

    name: str
    title: str
    version: str
    licence: str
    source: str
    phase: Phase
    needs: tuple[str, ...]  # components, or what a component provides
    provides: tuple[str, ...]  # such as network; a release has one component that provides it
    images: tuple[ImageSpec, ...]
    kubeadm_file: str  # name of the file whose `config images list` adds images; empty: none
    charts: tuple[ChartSpec, ...]
    files: tuple[FileSpec, ...]
    manifests: tuple[ManifestSpec, ...]
    kustomizations: tuple[KustomizationSpec, ...]
    licences: tuple[LicenceRule, ...]
    ready: tuple[ReadyCondition, ...]
    folder: Path
    known_images: tuple[ImageSpec, ...] = ()  # say more about images that are found elsewhere
    built_images: tuple[BuiltImageSpec, ...] = ()
    products: tuple[Product, ...] = ()  # images that must be at one version
    rules: Rules = NO_RULES  # what discovery must be told about it
    site_tags: tuple[SiteTag, ...] = ()  # images whose tag depends on the hosts of a site

    def licence_of(self, reference: ImageReference) -> str:
        """Licence of an image: as listed, else by the first rule that speaks of it, else ours."""
        listed: tuple[ImageSpec | BuiltImageSpec, ...] = (
            *self.images,
            *self.built_images,
            *self.known_images,
        )
        for image in listed:
            if image.reference == reference and image.licence:
                return image.licence
        return next((r.licence for r in self.licences if r.matches(reference)), self.licence)


@dataclass(frozen=True, slots=True)
class Release:
    """Components that were put together, in the order in which they are installed."""

    name: str
    number: int
    platforms: tuple[Platform, ...]
    minimum_installer: str
    jump_host_pythons: tuple[str, ...]  # such as 3.11
    components: tuple[Component, ...]
    workloads: Workloads = NO_WORKLOADS  # what a site adds to it
    acceptances: tuple[Acceptance, ...] = ()  # of what the coherence rules find

    def component(self, name: str) -> Component:
        """The component of this name; raises InputError[unknown-component]."""
        for component in self.components:
            if component.name == name:
                return component
        raise InputError("unknown-component", f"release {self.name} has no component {name}")

    @property
    def sources(self) -> tuple[SourceSpec, ...]:
        """Every source a kustomization of the release is in, each once, by name."""
        found = {one.source.name: one.source for c in self.components for one in c.kustomizations}
        return tuple(found[name] for name in sorted(found))

    @property
    def named_sources(self) -> tuple[SourceSpec, ...]:
        """Those and the sources of its charts, each once, by name."""
        of_charts = (chart.source for c in self.components for chart in c.charts)
        found = {one.name: one for one in (*self.sources, *of_charts) if one}
        return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything under manifests/."""

    root: Path
    components: Mapping[str, Component]
    sources: Mapping[str, SourceSpec]

    def providers(self, name: str) -> tuple[str, ...]:
        """Components that provide ``name``, sorted; a component's own name is no such thing."""
        return tuple(sorted(c.name for c in self.components.values() if name in c.provides))

    @property
    def releases_folder(self) -> Path:
        """Where the release files are."""
        return self.root / "releases"

    def release_names(self) -> tuple[str, ...]:
        """Names of the releases there are, sorted."""
        return tuple(sorted(path.stem for path in self.releases_folder.glob("*.yaml")))


def expand_url(template: str, version: str, platform: Platform | None) -> str:
    """``template`` with its placeholders filled in."""
    text = template.replace("{version}", version)
    if platform is not None:
        text = text.replace("{arch}", platform.architecture).replace("{os}", platform.os)
    return text
