"""perimeter-bundle diff: what changes from one lock, or bundle, to another."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.cli.options import read_lock
from perimeter_bundle.collect.changes import Change, ChangeKind, LockChanges, lock_changes
from perimeter_bundle.format import layout
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes

_SIGNS = {
    ChangeKind.MOVED: "!",
    ChangeKind.CHANGED: "~",
    ChangeKind.RESOLVED: "=",
    ChangeKind.ADDED: "+",
    ChangeKind.REMOVED: "-",
}


@click.command()
@click.argument("old", metavar="OLD", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW", type=click.Path(path_type=Path))
@common_options
def diff(output: Output, old: Path, new: Path) -> None:
    """Shows what changes from one lock to another: versions, what comes, what goes.

    OLD and NEW are images.lock files or bundle folders. A name that keeps its version and stands
    for other bytes has MOVED: somebody pushed it again, so find out who and why. Sizes are upper
    bounds, since images share layers.

    \b
    Examples:
      perimeter-bundle diff site/images.lock images.lock
      perimeter-bundle diff /srv/bundles/2026.11 /srv/bundles/2027.02 --json
    """
    before, now = _lock_of(old), _lock_of(new)
    changes = lock_changes(before, now)
    output.result(_to_dict(before, now, changes), _text(before, now, changes))


def _lock_of(path: Path) -> Lock:
    """The lock in a file, or of a bundle; raises InputError[no-lock] or [bad-lock]."""
    return Lock.parse(read_lock(path / layout.LOCK if path.is_dir() else path, "RELEASE"))


def _to_dict(before: Lock, now: Lock, changes: LockChanges) -> dict[str, object]:
    return {
        "old": _about(before),
        "new": _about(now),
        "changes": [change.to_dict() for change in changes.changes],
        "unchanged": changes.unchanged,
        "fetch_bytes": changes.fetch_bytes,
    }


def _about(lock: Lock) -> dict[str, object]:
    return {
        "release": lock.release,
        "number": lock.number,
        "platforms": [str(platform) for platform in lock.platforms],
    }


def _text(before: Lock, now: Lock, changes: LockChanges) -> str:
    lines = [f"{_title(before)} → {_title(now)}"]
    for name, some in changes.by_component().items():
        lines += ["", name, *(line for change in some for line in _lines(change))]
    counts = [
        f"{changes.count(kind)} {kind.value.upper() if kind is ChangeKind.MOVED else kind.value}"
        for kind in ChangeKind
        if changes.count(kind)
    ]
    counts.append(f"{changes.unchanged} unchanged")
    lines += ["", f"{', '.join(counts)}; at most {human_bytes(changes.fetch_bytes)} to fetch"]
    return "\n".join(lines)


def _title(lock: Lock) -> str:
    platforms = ", ".join(str(platform) for platform in lock.platforms)
    return f"{lock.release} (number {lock.number}, {platforms})"


def _lines(change: Change) -> list[str]:
    name = f"{change.name} {change.version}".rstrip()
    head = f"  {_SIGNS[change.kind]} {change.what} {name}"
    size = f"  {human_bytes(change.fetch_bytes)}" if change.fetch_bytes else ""
    match change.kind:
        case ChangeKind.MOVED:
            was, now = change.before[0], change.now[0]
            return [f"{head} MOVED{size}", f"      was {was}", f"      is  {now}"]
        case ChangeKind.RESOLVED:
            return [f"{head} has a digest now{size}"]
        case ChangeKind.CHANGED:
            return [f"{head} {', '.join(change.before)} → {', '.join(change.now)}{size}"]
    return [f"{head} {', '.join(change.now or change.before)}{size}"]
