"""What a release's objects are made of, fetched and rendered: charts, manifests, kustomizations.

Published SHA-256 files are believed where the bytes are not needed yet, because they must match
when they are fetched; a file without one is fetched once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from perimeter_bundle.catalog.values import Catalog, ChartSpec, Component, Release, SourceSpec
from perimeter_bundle.collect.chart_archives import GitTrees, lock_chart
from perimeter_bundle.collect.checksums import MAX_CHECKSUM_BYTES, find_checksum
from perimeter_bundle.collect.complete import Rendered, discover_parts, kubeadm_of, render_release
from perimeter_bundle.collect.kustomizations import (
    KUSTOMIZE,
    is_kustomize,
    kustomization_renderer,
    kustomize_of,
    lock_source,
)
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import (
    WantedChart,
    WantedFile,
    WantedSource,
    wanted_charts,
    wanted_files,
    wanted_sources,
)
from perimeter_bundle.discover.kubeadm import this_platform
from perimeter_bundle.discover.stream import MAX_OBJECTS_BYTES
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import (
    FileKind,
    LockedChart,
    LockedFile,
    LockedSource,
)
from perimeter_bundle.model.reference import ImageReference

MAX_FILE_BYTES = 8 * 1024**3  # a file without a published checksum is read to its end


@dataclass(frozen=True, slots=True)
class FetchedObjects:
    """Entries of a lock for what was looked at, and the objects that come out of it."""

    files: tuple[LockedFile, ...]
    charts: tuple[LockedChart, ...]
    sources: tuple[LockedSource, ...]
    rendered: tuple[Rendered, ...]
    paths: Mapping[ImageReference, Path]  # of the files whose bytes were needed

    def find_file(self, file: LockedFile) -> Path:
        """Where the bytes of a file lie that had to be read."""
        return self.paths[file.reference]


def fetch_objects(
    release: Release, files: Sequence[WantedFile], upstream: Upstream, work: Path
) -> FetchedObjects:
    """``files``, every chart and source of the release, and all of them rendered.

    ``files`` hold at least ``object_files``. ``work`` must allow programs to run. Raises
    NetworkError, IntegrityError, HostError.
    """
    reading = _Reading(release, upstream, work)
    locked_files = run_all(
        {str(one.locked().reference): partial(reading.file, one) for one in files},
        upstream,
        "lock files",
    )
    charts = run_all(
        {one.spec.name: partial(reading.chart, one) for one in wanted_charts(release)},
        upstream,
        "lock charts",
    )
    sources = run_all(
        {one.spec.name: partial(reading.source, one) for one in wanted_sources(release)},
        upstream,
        "lock sources",
    )
    with kustomization_renderer(
        release, locked_files, reading.find_file, reading.read_source, work
    ) as render:
        rendered = render_release(release, reading.read_chart, reading.read_manifest, render)
    return FetchedObjects(
        tuple(locked_files), tuple(charts), tuple(sources), rendered, reading.paths
    )


def object_files(release: Release) -> tuple[WantedFile, ...]:
    """The manifests, and the kustomize that this machine runs; nothing large."""
    every = wanted_files(release)
    program = kustomize_of([one.locked() for one in every]).reference if release.sources else None
    return tuple(
        one for one in every if one.kind is FileKind.MANIFEST or one.locked().reference == program
    )


def files_to_read(release: Release) -> tuple[WantedFile, ...]:
    """``object_files``, and the kubeadm that this machine asks for its images."""
    every = wanted_files(release)
    listing = {
        kubeadm_of(one, [file.locked() for file in every]).reference
        for one in release.components
        if one.kubeadm_file
    }
    objects = object_files(release)
    return tuple(one for one in every if one in objects or one.locked().reference in listing)


def release_of_component(catalog: Catalog, name: str) -> Release:
    """What must be fetched to see one component's objects, as a release of its own.

    Raises InputError[no-kustomize] when it has kustomizations and the catalog has no kustomize.
    """
    component = catalog.components[name]
    components = [component]
    if component.kustomizations and name != KUSTOMIZE:
        if KUSTOMIZE not in catalog.components:
            raise InputError(
                "no-kustomize",
                f"{name} has kustomizations, and the catalog has no component {KUSTOMIZE}",
                context={"catalog": catalog.root},
            )
        components.insert(0, catalog.components[KUSTOMIZE])
    return Release(
        name=name,
        number=1,
        platforms=(this_platform(),),
        minimum_installer="",
        jump_host_pythons=(),
        components=tuple(components),
    )


def discover_component(catalog: Catalog, name: str, upstream: Upstream, work: Path) -> Discovery:
    """What one component's charts, manifests and kustomizations name, by its own rules.

    Raises what ``release_of_component`` and ``fetch_objects`` raise.
    """
    release = release_of_component(catalog, name)
    fetched = fetch_objects(release, object_files(release), upstream, work)
    return discover_parts([one for one in fetched.rendered if one.component.name == name])


@dataclass(slots=True)
class _Reading:
    """One run; what had to be fetched is kept for the checks that follow."""

    release: Release
    upstream: Upstream
    work: Path
    chart_bytes: dict[str, bytes] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    paths: dict[ImageReference, Path] = field(default_factory=dict)
    trees: GitTrees = field(init=False)

    def __post_init__(self) -> None:
        self.trees = GitTrees(self.upstream.files, self.work)

    def find_file(self, file: LockedFile) -> Path:
        return self.paths[file.reference]

    def file(self, wanted: WantedFile) -> LockedFile:
        locked = wanted.locked()
        task = str(locked.reference)
        published: Digest | None = None
        if wanted.checksum_url:
            text = self.upstream.files.fetch_small(wanted.checksum_url, MAX_CHECKSUM_BYTES)
            name = urlsplit(wanted.url).path.rpartition("/")[2]
            published = find_checksum(text, name, wanted.checksum_url)
        if published and not self._is_read_now(wanted):
            digest, size = published, self.upstream.files.size_of(wanted.url)
        elif published:
            path = self.work / published.hex
            size = self.upstream.files.fetch(wanted.url, path, published, task=task)
            digest = published
            self.paths[locked.reference] = path
        else:
            limit = MAX_OBJECTS_BYTES if wanted.kind is FileKind.MANIFEST else MAX_FILE_BYTES
            path, digest = self.upstream.files.fetch_unknown(wanted.url, self.work, limit)
            size = path.stat().st_size
            self.paths[locked.reference] = path
        return replace(locked, digest=digest, size_bytes=size)

    def chart(self, wanted: WantedChart) -> LockedChart:
        locked, data = lock_chart(wanted, self.upstream, self.trees.read)
        self.chart_bytes[wanted.spec.name] = data
        return locked

    def source(self, wanted: WantedSource) -> LockedSource:
        locked, archive = lock_source(wanted, self.upstream.files, self.work)
        self.archives[wanted.spec.name] = archive
        return locked

    def read_source(self, spec: SourceSpec) -> bytes:
        return self.archives[spec.name]

    def read_chart(self, spec: ChartSpec) -> bytes:
        return self.chart_bytes[spec.name]

    def read_manifest(self, component: Component, name: str) -> bytes:
        for wanted in wanted_files(self.release):
            if (wanted.component, wanted.name, wanted.kind) == (component, name, FileKind.MANIFEST):
                return self.paths[wanted.locked().reference].read_bytes()
        raise AssertionError(f"manifest {name} was not locked")

    def _is_read_now(self, wanted: WantedFile) -> bool:
        """Whether its bytes are needed now: a manifest, or a program that is run for locking."""
        if wanted.kind is FileKind.MANIFEST:
            return True
        every = [one.locked() for one in wanted_files(self.release)]
        if self.release.sources and is_kustomize(wanted.locked()):
            return kustomize_of(every).reference == wanted.locked().reference
        component = wanted.component
        if wanted.name != component.kubeadm_file:
            return False
        locked = [w.locked() for w in wanted_files(self.release) if w.component == component]
        return kubeadm_of(component, locked).reference == wanted.locked().reference
