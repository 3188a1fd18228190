"""Two locks, told as a person asks: what comes, what goes, what has another version. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from perimeter_bundle.collect.compare import dependency_label, diff_locks
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import WORKLOADS, FileKind, Lock


class ChangeKind(Enum):
    """What happened to a thing from one lock to the next, the most alarming first."""

    MOVED = "moved"  # the same name and version stands for other bytes
    CHANGED = "changed"  # another version
    RESOLVED = "resolved"  # had no digest before
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; ``before`` and ``now`` are versions, or digests when it moved."""

    kind: ChangeKind
    what: str  # image, chart, dependency, source, file, manifest, package
    name: str  # without the version
    version: str  # empty when that is what changed
    before: tuple[str, ...]
    now: tuple[str, ...]
    components: tuple[str, ...]
    fetch_bytes: int  # at most; nothing for bytes that the old lock has under any name

    def to_dict(self) -> dict[str, object]:
        """As ``diff --json`` prints it."""
        return {
            "change": self.kind.value,
            "kind": self.what,
            "name": self.name,
            "version": self.version,
            "before": list(self.before),
            "now": list(self.now),
            "components": list(self.components),
            "fetch_bytes": self.fetch_bytes,
        }


@dataclass(frozen=True, slots=True)
class LockChanges:
    """Everything that differs, by component; ``unchanged`` counts the rest."""

    changes: tuple[Change, ...]
    unchanged: int
    fetch_bytes: int  # each new digest once

    def count(self, kind: ChangeKind) -> int:
        """How many things changed so."""
        return sum(change.kind is kind for change in self.changes)

    def by_component(self) -> Mapping[str, tuple[Change, ...]]:
        """The changes under the components that ask for them, sorted."""
        groups: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            groups[", ".join(change.components)].append(change)
        return {name: tuple(groups[name]) for name in sorted(groups)}


Versions = tuple[tuple[str, ...], tuple[str, ...]]  # before and now


@dataclass(frozen=True, slots=True)
class _Entry:
    what: str
    name: str
    version: str
    reference: str
    digest: Digest | None
    size_bytes: int
    components: tuple[str, ...]


def lock_changes(old: Lock, new: Lock) -> LockChanges:
    """What ``new`` changes; a name that is there in both at other versions is one change."""
    difference = diff_locks(old, new)
    before, now = _entries(old), _entries(new)
    known = {entry.digest for entry in before.values() if entry.digest}
    changes: list[Change] = []
    digests: Versions
    for moved in difference.moved:
        digests = (str(moved.before),), (str(moved.now),)
        changes.append(_change(ChangeKind.MOVED, digests, (now[moved.name],), known))
    for name in difference.resolved:
        digests = (), (str(now[name].digest),)
        changes.append(_change(ChangeKind.RESOLVED, digests, (now[name],), known))
    gone: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
    come: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
    for name in difference.removed:
        gone[before[name].what, before[name].name].append(before[name])
    for name in difference.added:
        come[now[name].what, now[name].name].append(now[name])
    for key in sorted(gone.keys() | come.keys()):
        left, arrived = tuple(gone[key]), tuple(come[key])
        kind = ChangeKind.CHANGED if left else ChangeKind.ADDED
        versions = _versions(left), _versions(arrived)
        changes.append(
            _change(kind if arrived else ChangeKind.REMOVED, versions, arrived or left, known)
        )
    fresh = {
        entry.digest: entry.size_bytes
        for entry in now.values()
        if entry.digest and entry.digest not in known
    }
    return LockChanges(
        changes=tuple(sorted(changes, key=_order)),
        unchanged=len(now.keys() - set(difference.names)),
        fetch_bytes=sum(fresh.values()),
    )


def _change(
    kind: ChangeKind,
    versions: Versions,
    entries: tuple[_Entry, ...],
    known: set[Digest],
) -> Change:
    is_same_version = kind in (ChangeKind.MOVED, ChangeKind.RESOLVED)
    sizes = {entry.digest: entry.size_bytes for entry in entries if entry.digest not in known}
    return Change(
        kind=kind,
        what=entries[0].what,
        name=entries[0].name,
        version=entries[0].version if is_same_version else "",
        before=versions[0],
        now=versions[1],
        components=tuple(sorted({name for entry in entries for name in entry.components})),
        fetch_bytes=0 if kind is ChangeKind.REMOVED else sum(sizes.values()),
    )


def _versions(entries: tuple[_Entry, ...]) -> tuple[str, ...]:
    return tuple(sorted({entry.version for entry in entries if entry.version}))


def _order(change: Change) -> tuple[int, str, str, tuple[str, ...]]:
    return list(ChangeKind).index(change.kind), change.what, change.name, change.now


def _entries(lock: Lock) -> dict[str, _Entry]:
    """Everything in the lock by the name that ``diff_locks`` gives it."""
    return {entry.reference: entry for entry in _each_entry(lock)}


def _each_entry(lock: Lock) -> Iterator[_Entry]:
    for image in lock.images:
        reference = image.reference
        yield _Entry(
            "image",
            reference.name,
            reference.tag or str(reference.digest),
            str(reference),
            image.digest,
            image.size_bytes,
            image.components,
        )
    for chart in lock.charts:
        yield _Entry(
            "chart",
            chart.name,
            chart.version,
            str(chart.reference),
            chart.digest,
            chart.size_bytes,
            (chart.component,),
        )
        for one in chart.dependencies:
            yield _Entry(
                "dependency",
                f"{one.place.rpartition('/')[0].removesuffix('charts')}{one.name} of {chart.name}",
                one.version,
                dependency_label(chart, one),
                one.digest,
                0,  # it is inside the chart's archive
                (chart.component,),
            )
    for source in lock.sources:
        yield _Entry(
            "source",
            source.name,
            source.version,
            str(source.reference),
            source.digest,
            source.size_bytes,
            ("sources",),
        )
    for file in lock.files:
        suffix = f" ({file.platform})" if file.platform else ""
        yield _Entry(
            "file" if file.kind is FileKind.FILE else "manifest",
            f"{file.component}/{file.name}{suffix}",
            file.version,
            str(file.reference),
            file.digest,
            file.size_bytes,
            (file.component,),
        )
    for package in lock.packages:
        yield _Entry(
            "package",
            package.name,
            package.version,
            package.label,
            package.digest,
            package.size_bytes,
            (WORKLOADS,),
        )
