"""A chart of the catalog as it is carried: fetched or packed from git, with all it depends on.

While locking, ranges of versions are resolved; while building, exactly what the lock says is taken,
so both give the same archive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock as Mutex

from perimeter_bundle.catalog.values import ChartSpec, SourceSpec
from perimeter_bundle.charts.archive import MAX_CHART_BYTES, pack_chart, unpack_chart
from perimeter_bundle.charts.fetch import ChartFetcher
from perimeter_bundle.charts.vendor import (
    VendoredChart,
    vendor_chart,
    vendor_folder,
)
from perimeter_bundle.collect.charts import check_archive
from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.collect.wanted import WantedChart
from perimeter_bundle.format.files import read_file, write_file
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.lock import LockedChart
from perimeter_bundle.sources.fetch import fetch_source

ReadTree = Callable[[SourceSpec], FileTree]


@dataclass(slots=True)
class GitTrees:
    """Files of sources, each fetched once however many charts it holds."""

    fetcher: FileFetcher
    work: Path
    check_tag: bool = True
    _files: dict[str, FileTree] = field(default_factory=dict)
    _mutex: Mutex = field(default_factory=Mutex)

    def read(self, source: SourceSpec) -> FileTree:
        """All files that the source keeps; raises what ``fetch_source`` raises."""
        with self._mutex:
            if source.name not in self._files:
                found = fetch_source(source, (), self.fetcher, self.work, check_tag=self.check_tag)
                self._files[source.name] = found.tree.files
            return self._files[source.name]


def lock_chart(
    wanted: WantedChart, upstream: Upstream, read_tree: ReadTree
) -> tuple[LockedChart, bytes]:
    """The chart's entry in the lock, and the archive that is carried.

    Raises what fetching and ``vendor_chart`` raise, InputError[catalog-unused].
    """
    spec = wanted.spec
    fetcher = ChartFetcher(upstream, spec.alternates)
    if spec.source is not None:
        url, original = spec.origin, None
        data, vendored = _from_git(spec, read_tree, fetcher)
    else:
        brought = fetcher.fetch(spec.name, spec.version, spec.repository)
        url, original = brought.url, Digest.of_bytes(brought.data)
        data, vendored = _completed(spec, brought.data, fetcher)
    unused = sorted(set(spec.alternates) - fetcher.used)
    if unused:
        raise InputError(
            "catalog-unused",
            f"chart {spec.name} {spec.version} has alternates of repositories that it never asks",
            problems=unused,
            hint=f"remove them under charts: in the component.yaml of {wanted.component.name}",
        )
    locked = replace(
        wanted.locked(),
        url=url,
        digest=Digest.of_bytes(data),
        size_bytes=len(data),
        upstream=original if vendored.dependencies else None,
        dependencies=vendored.dependencies,
    )
    return locked, data


def build_chart(
    wanted: WantedChart,
    locked: LockedChart,
    upstream: Upstream,
    read_tree: ReadTree,
    target: Path,
) -> None:
    """Packs the archive that is locked to ``target``; one that is there already stays.

    Raises what ``lock_chart`` raises, and IntegrityError[digest-mismatch].
    """
    if target.is_file() and Digest.of_bytes(read_file(target, MAX_CHART_BYTES)) == locked.digest:
        return
    spec = wanted.spec
    pins = {one.key: one for one in locked.dependencies}
    fetcher = ChartFetcher(upstream, spec.alternates, pins)
    if spec.source is not None:
        data, _ = _from_git(spec, read_tree, fetcher)
    else:
        data, _ = _completed(spec, _locked_archive(spec, locked, fetcher), fetcher)
    found = Digest.of_bytes(data)
    if found != locked.digest:
        raise IntegrityError(
            "digest-mismatch",
            f"refused chart {locked.name} {locked.version}: it does not pack to what is locked",
            context={"expected": locked.digest, "got": found},
            hint="the lock was edited, or written by another version of perimeter: lock again and "
            "review the difference",
        )
    write_file(target, data)


def _locked_archive(spec: ChartSpec, locked: LockedChart, fetcher: ChartFetcher) -> bytes:
    """What upstream gave when the lock was written."""
    brought = fetcher.fetch_locked(spec.name, spec.version, spec.repository, locked.url)
    found = Digest.of_bytes(brought.data)
    if found != locked.upstream:
        raise IntegrityError(
            "digest-mismatch",
            f"refused chart {spec.name} {spec.version}: it is not what the lock says",
            context={"expected": locked.upstream, "got": found, "from": brought.url},
            hint="the repository changed a version, or a proxy changed the download",
        )
    return brought.data


def _completed(
    spec: ChartSpec, archive: bytes, fetcher: ChartFetcher
) -> tuple[bytes, VendoredChart]:
    """The archive as it came when it lacks nothing, else packed again."""
    check_archive(archive, spec.name, spec.version, f"chart {spec.name} {spec.version}")
    vendored = vendor_chart(unpack_chart(archive, spec.name)[1], fetcher)
    if not vendored.dependencies:
        return archive, vendored
    return _pack(spec, vendored), vendored


def _from_git(
    spec: ChartSpec, read_tree: ReadTree, fetcher: ChartFetcher
) -> tuple[bytes, VendoredChart]:
    if spec.source is None:
        raise AssertionError("a chart of git has a source")
    what = f"chart {spec.name} {spec.version} in source {spec.source.name}"
    vendored = vendor_folder(read_tree(spec.source), spec.path, fetcher, what)
    data = _pack(spec, vendored)
    check_archive(data, spec.name, spec.version, what)
    return data, vendored


def _pack(spec: ChartSpec, vendored: VendoredChart) -> bytes:
    data = pack_chart(spec.name, vendored.files)
    if len(data) > MAX_CHART_BYTES:
        raise IntegrityError(
            "chart-too-large",
            f"refused chart {spec.name} {spec.version}: with its dependencies it has {len(data)} "
            f"bytes, more than the {MAX_CHART_BYTES} allowed",
            hint="leave tests and documentation out, as .helmignore does",
        )
    return data
