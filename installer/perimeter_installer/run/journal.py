"""The journal: an append-only list of what was begun and finished, safe against power cuts.

One JSON object a line, flushed to the disc before work goes on. A last line that a crash tore is
left out; damage anywhere else is refused, since a journal that lies skips work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError
from perimeter_installer.plan.steps import History
from perimeter_installer.run.files import sync_folder

AFRESH = "begins at the first step"  # message of a run that goes on nowhere


class EntryKind(Enum):
    """What happened."""

    RUN_STARTED = "run-started"
    STEP_STARTED = "step-started"
    STEP_FINISHED = "step-finished"
    STEP_SKIPPED = "step-skipped"  # an interrupted run had finished it
    STEP_FAILED = "step-failed"
    RUN_FINISHED = "run-finished"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``whole``: every step was planned, not one chosen with --step."""

    kind: EntryKind
    time: str  # UTC, 2026-11-22T17:30:00Z
    run: str
    bundle: str  # digest of SHA256SUMS
    site: str  # digest of site.yaml
    release: str
    number: int
    user: str = ""
    step: str = ""
    whole: bool = True
    changed: int = 0
    message: str = ""
    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """The entry as one JSON line."""
        table: dict[str, object] = {
            "kind": self.kind.value,
            "time": self.time,
            "run": self.run,
            "bundle": self.bundle,
            "site": self.site,
            "release": self.release,
            "number": self.number,
            "user": self.user,
            "step": self.step,
            "whole": self.whole,
            "changed": self.changed,
            "message": self.message,
            "hosts": {host: dict(stats) for host, stats in self.hosts.items()},
        }
        return json.dumps(table, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """The entry in ``line``; raises ValueError."""
        table = json.loads(line)
        if not isinstance(table, dict):
            raise TypeError("not an object")
        try:
            return cls(**{**table, "kind": EntryKind(table["kind"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a journal entry: {error}") from error


def read(path: Path) -> tuple[Entry, ...]:
    """All entries; none when there is no journal. Raises HostError[journal-damaged]."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    *lines, _torn = data.split(b"\n")  # what follows the last newline was never finished
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(Entry.parse(line))
        except (ValueError, TypeError) as error:
            raise HostError(
                "journal-damaged",
                f"{path} is damaged in line {number}",
                context={"found": line[:100].decode("utf-8", "replace")},
                hint="move it away; the next apply then begins at the first step",
            ) from error
    return tuple(entries)


def append(path: Path, entry: Entry) -> None:
    """Adds ``entry`` and returns when it is on the disc; raises HostError[cannot-write]."""
    append_line(path, entry.to_line())


def append_line(path: Path, line: bytes) -> None:
    """Adds one line to a file of lines, first taking off a line that a crash tore."""
    try:
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = _end_of_last_line(descriptor)
            os.ftruncate(descriptor, end)
            os.pwrite(descriptor, line, end)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise HostError(
            "cannot-write",
            f"cannot write {path}: {error.strerror}",
            hint="make room on this machine's disc, then run again: it goes on where it stopped",
        ) from error


def history(entries: Iterable[Entry], bundle: Digest, site: Digest) -> History:
    """What a plan needs to know. Pure.

    Steps count as finished only when the newest whole run was of this bundle and this site.yaml and
    did not end well, and nothing of another bundle or site.yaml was applied since. A run that
    was told to begin at the first step forgets what was finished before it.
    """
    newest: Entry | None = None
    finished: set[str] = set()
    for entry in entries:
        same = (entry.bundle, entry.site) == (str(bundle), str(site))
        begun = entry.kind is EntryKind.STEP_STARTED and (
            newest is None or entry.number > newest.number
        )
        if begun:  # half of a newer release is newer, too
            newest = entry
        if entry.kind is EntryKind.RUN_FINISHED and entry.whole:
            newest = entry
            finished = set()
        elif not same or (entry.kind is EntryKind.RUN_STARTED and entry.message == AFRESH):
            finished = set()
        elif entry.whole and entry.kind in (EntryKind.STEP_FINISHED, EntryKind.STEP_SKIPPED):
            finished.add(entry.step)
        elif entry.kind in (EntryKind.STEP_STARTED, EntryKind.STEP_FAILED):
            finished.discard(entry.step)
    return History(
        newest_number=newest.number if newest else None,
        newest_release=newest.release if newest else "",
        finished_steps=frozenset(finished),
    )


def _end_of_last_line(descriptor: int) -> int:
    """Offset just behind the last newline."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 4096)
        block = os.pread(descriptor, end - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
