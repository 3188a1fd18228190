"""A chart with everything it depends on below its charts/, so that rendering needs no network.

1. What lies in charts/ already stays: it counts when its name fits, and its version if it can.
2. What is missing is brought, all of it, whatever ``condition`` and ``tags`` say: a site's values
   may switch it on. Chart.lock decides the version, else the newest that is in the range.
3. What was brought lies there as it came, ``charts/NAME-VERSION.tgz``. A chart that lacks something
   itself is completed in turn and lies there as a folder; Helm itself would leave that out.
4. Circles, depth, number and size are bounded.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from perimeter_bundle.charts.archive import below, pack_chart, unpack_chart
from perimeter_bundle.charts.declared import Declared, Requirement, read_declared
from perimeter_bundle.charts.ignore import without_ignored
from perimeter_bundle.charts.versions import Version, same_version
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.locked_dependency import LockedDependency

FILE_SCHEME = "file://"
MAX_DEPTH = 10
MAX_DEPENDENCIES = 200
MAX_TOTAL_BYTES = 512 * MIB  # of all that is read and unpacked for one chart


@dataclass(frozen=True, slots=True)
class Brought:
    """The archive of a dependency, and where it was."""

    data: bytes
    version: str
    url: str


class Bringer(Protocol):
    """Brings what repositories hold."""

    def bring(self, wanted: Requirement, folder: str, what: str) -> Brought:
        """The dependency of the chart ``what``, whose charts lie in ``folder``."""
        ...


@dataclass(frozen=True, slots=True)
class VendoredChart:
    """The files of a chart that lacks nothing, and what was put into it; nothing: it was whole."""

    files: Mapping[str, bytes]
    dependencies: tuple[LockedDependency, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A chart: its folder in the tree that it came with, and its path in the archive."""

    tree: FileTree
    folder: str
    prefix: str  # "" or ends with /
    chain: tuple[str, ...]  # who asked for it: names and versions, from the outermost


def vendor_folder(tree: FileTree, folder: str, bringer: Bringer, what: str) -> VendoredChart:
    """The chart in ``folder`` of a tree, as Helm would pack it, with its dependencies.

    ``file://`` leads to folders of the same tree. Raises what ``vendor_chart`` raises.
    """
    files = without_ignored(below(tree, folder), what)
    if "Chart.yaml" not in files:
        raise IntegrityError("bad-chart", f"{what}: there is no chart in {folder}")
    return _vendor(files, _Place(tree, folder, "", ()), bringer)


def vendor_chart(files: FileTree, bringer: Bringer) -> VendoredChart:
    """The chart of these files, with its dependencies.

    Raises IntegrityError[bad-chart],
    [chart-lock-stale], [chart-dependencies], [circular-charts], [chart-too-large],
    InputError[no-such-chart], and what ``bringer`` raises.
    """
    return _vendor(files, _Place(files, "", "", ()), bringer)


def missing_dependencies(files: FileTree, what: str) -> tuple[str, ...]:
    """What a chart names and does not hold itself; raises IntegrityError[bad-chart]."""
    declared = read_declared(files, what, believe_lock=False)
    missing = _missing(declared, _who_is_inside(files, what))
    return tuple(
        sorted(f"{one.name} {one.asked} from {one.repository or 'nowhere'}" for one in missing)
    )


def _vendor(files: FileTree, place: _Place, bringer: Bringer) -> VendoredChart:
    walk = _Walk(bringer)
    completed = walk.complete(files, place)
    found = {(one.place, *one.key): one for one in walk.found}
    return VendoredChart(completed, tuple(found[key] for key in sorted(found)))


@dataclass(slots=True)
class _Walk:
    bringer: Bringer
    found: list[LockedDependency] = field(default_factory=list)
    read_bytes: int = 0

    def complete(self, files: FileTree, place: _Place) -> dict[str, bytes]:
        """``files`` of a chart and what it lacks."""
        outer = " → ".join(place.chain)
        declared = read_declared(files, f"chart {outer or 'to be packed'}", believe_lock=False)
        own = f"{declared.name} {declared.version}"
        what = f"chart {' → '.join((*place.chain, own))}"
        self._refuse_circle(own, place.chain)
        chain = (*place.chain, own)
        result = dict(files)
        self._complete_inside(result, place, chain)  # first: it counts what it unpacks
        inside = _who_is_inside(files, what)
        if not _missing(declared, inside):
            return result
        for wanted in _missing(read_declared(files, what), inside):
            self._put(result, wanted, place, chain, what)
        return result

    def _complete_inside(
        self, result: dict[str, bytes], place: _Place, chain: tuple[str, ...]
    ) -> None:
        """Each chart that lies in charts/ already is completed where it lies."""
        for at, is_archive in _subcharts(result):
            if is_archive:
                self._archive(result, at, result[at], place, chain)
                continue
            files = dict(below(result, at))
            inner = _Place(files, "", f"{place.prefix}{at}/", chain)
            for path, data in self.complete(files, inner).items():
                result[f"{at}/{path}"] = data

    def _archive(
        self,
        result: dict[str, bytes],
        at: str,
        data: bytes,
        place: _Place,
        chain: tuple[str, ...],
    ) -> None:
        """Puts an archive into charts/; a folder takes its place when something had to be added."""
        what = f"chart {' → '.join(chain)}: {at}"
        self._count(len(data), what)
        files = unpack_chart(data, what)[1]
        self._count(sum(map(len, files.values())), what)
        folder = at.removesuffix(".tgz")
        before = len(self.found)
        completed = self.complete(files, _Place(files, "", f"{place.prefix}{folder}/", chain))
        result.pop(at, None)
        if len(self.found) == before:
            result[at] = data
        else:
            self._put_folder(result, folder, completed, what)

    def _put(
        self,
        result: dict[str, bytes],
        wanted: Requirement,
        place: _Place,
        chain: tuple[str, ...],
        what: str,
    ) -> None:
        if len(self.found) >= MAX_DEPENDENCIES:
            raise _too_large(what, f"more than {MAX_DEPENDENCIES} dependencies")
        if not wanted.repository:
            raise IntegrityError(
                "chart-dependencies",
                f"{what}: {wanted.text} is not in its charts/, and no repository is named",
                hint="use an archive that `helm package` made with its dependencies",
            )
        if wanted.repository.startswith(FILE_SCHEME):
            self._put_local(result, wanted, place, chain, what)
            return
        brought = self.bringer.bring(wanted, f"{place.prefix}charts", what)
        label = f"{what}: {wanted.text} from {brought.url}"
        declared = read_declared(unpack_chart(brought.data, label)[1], label, believe_lock=False)
        if declared.name != wanted.name or not same_version(declared.version, brought.version):
            raise IntegrityError(
                "bad-chart",
                f"refused {label}: it says to be {declared.name} {declared.version}",
                hint="the repository is inconsistent: tell whoever runs it, or name another one "
                "under alternates: of the chart in component.yaml",
            )
        stem = f"{wanted.name}-{declared.version}"
        self._refuse_other(result, f"charts/{stem}.tgz", brought.data, label)
        before = len(self.found)
        self._archive(result, f"charts/{stem}.tgz", brought.data, place, chain)
        suffix = ".tgz" if len(self.found) == before else ""
        self._note(
            wanted, f"{place.prefix}charts/{stem}{suffix}", declared, brought.data, brought.url
        )

    def _put_local(
        self,
        result: dict[str, bytes],
        wanted: Requirement,
        place: _Place,
        chain: tuple[str, ...],
        what: str,
    ) -> None:
        label = f"{what}: {wanted.text} from {wanted.repository}"
        path = wanted.repository.removeprefix(FILE_SCHEME)
        target = posixpath.normpath(posixpath.join(place.folder or ".", path))
        target = "" if target == "." else target
        if path.startswith("/") or target.split("/")[0] == "..":
            raise IntegrityError(
                "chart-dependencies",
                f"refused {label}: it leads out of what the chart came with",
                hint="a chart from git may name folders of its own repository; else use an archive "
                "that `helm package` made with its dependencies",
            )
        files = without_ignored(below(place.tree, target), label)
        if "Chart.yaml" not in files:
            raise IntegrityError(
                "chart-dependencies",
                f"{label}: there is no chart",
                hint="is the folder among what the source keeps? An archive from a repository "
                "holds no folder beside the chart: take the chart from git with source: and path:",
            )
        declared = read_declared(files, label, believe_lock=False)
        if declared.name != wanted.name or not _fits(declared, wanted):
            raise IntegrityError(
                "chart-dependencies",
                f"refused {label}: it is {declared.name} {declared.version}",
                hint="upstream must make Chart.yaml and Chart.lock say what lies there",
            )
        stem = f"{wanted.name}-{declared.version}"
        data = pack_chart(wanted.name, files)
        self._count(len(data), label)
        inner = _Place(place.tree, target, f"{place.prefix}charts/{stem}/", chain)
        completed = self.complete(files, inner)
        self._put_folder(result, f"charts/{stem}", completed, label)
        self._note(wanted, f"{place.prefix}charts/{stem}", declared, data, wanted.repository)

    def _put_folder(
        self, result: dict[str, bytes], folder: str, files: FileTree, what: str
    ) -> None:
        for path, data in files.items():
            self._refuse_other(result, f"{folder}/{path}", data, what)
            result[f"{folder}/{path}"] = data

    def _refuse_other(self, result: FileTree, path: str, data: bytes, what: str) -> None:
        if result.get(path, data) != data:
            raise IntegrityError(
                "chart-dependencies",
                f"refused {what}: another chart of that name and version lies at {path} already",
                hint="two repositories give different charts one name; upstream must rename one",
            )

    def _note(
        self, wanted: Requirement, at: str, declared: Declared, data: bytes, url: str
    ) -> None:
        self.found.append(
            LockedDependency(
                place=at,
                name=wanted.name,
                version=declared.version,
                asked=wanted.asked,
                repository=wanted.repository,
                url=url,
                digest=Digest.of_bytes(data),
                size_bytes=len(data),
            )
        )

    def _refuse_circle(self, own: str, chain: tuple[str, ...]) -> None:
        if own in chain:
            raise IntegrityError(
                "circular-charts",
                f"chart {chain[0]}: dependencies come back to {own}",
                problems=[" → ".join((*chain[chain.index(own) :], own))],
                hint="upstream must break the circle; use another version of one of them",
            )
        if len(chain) > MAX_DEPTH:
            raise _too_large(
                f"chart {chain[0]}", f"dependencies nested deeper than {MAX_DEPTH}: {own}"
            )

    def _count(self, size_bytes: int, what: str) -> None:
        self.read_bytes += size_bytes
        if self.read_bytes > MAX_TOTAL_BYTES:
            raise _too_large(what, f"dependencies of more than {MAX_TOTAL_BYTES} bytes together")


def _subcharts(files: FileTree) -> list[tuple[str, bool]]:
    """What Helm reads of charts/, sorted, and whether it is an archive."""
    names = sorted({path.split("/")[1] for path in files if path.startswith("charts/")})
    return [
        (f"charts/{name}", f"charts/{name}" in files)
        for name in names
        if name[0] not in "._" and (f"charts/{name}" not in files or name.endswith(".tgz"))
    ]


def _who_is_inside(files: FileTree, what: str) -> list[Declared]:
    """Who lies in charts/ already."""
    found = []
    for at, is_archive in _subcharts(files):
        label = f"{what}: {at}"
        inner = unpack_chart(files[at], label)[1] if is_archive else below(files, at)
        if "Chart.yaml" not in inner:
            raise IntegrityError("bad-chart", f"{label} has no Chart.yaml")
        found.append(read_declared(inner, label, believe_lock=False))
    return found


def _missing(declared: Declared, inside: list[Declared]) -> list[Requirement]:
    """What is not in charts/; a version that fits nothing stands in for its name, as in Helm."""
    needed = declared.requirements
    spare = {
        one.name
        for one in inside
        if not any(need.name == one.name and _fits_range(one, need) for need in needed)
    }
    return [
        need
        for need in needed
        if need.name not in spare
        and not any(one.name == need.name and _fits_range(one, need) for one in inside)
    ]


def _fits(declared: Declared, wanted: Requirement) -> bool:
    if wanted.locked:
        return same_version(declared.version, wanted.locked)
    return _fits_range(declared, wanted)


def _fits_range(declared: Declared, wanted: Requirement) -> bool:
    try:
        return wanted.range.allows(Version.parse(declared.version))
    except InputError:
        return False


def _too_large(what: str, reason: str) -> IntegrityError:
    return IntegrityError(
        "chart-too-large",
        f"refused {what}: {reason}",
        hint="no honest chart needs that; use an archive that `helm package` made",
    )
