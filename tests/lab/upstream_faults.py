"""What can go wrong at an upstream, ordered by a test: rules in a JSON file or in memory.

A rule names host and path by regular expressions, says what goes wrong, and how often. The first
rule that fits is used; a rule that was used up is skipped.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal[
    "status",  # answer with `status`, and Retry-After where `retry_after` is given
    "truncate",  # close the connection after `after_bytes` of the body
    "stall",  # stand still for `seconds` after `after_bytes`, then go on
    "slow",  # `bytes_per_s`
    "length",  # Content-Length is wrong by `delta_bytes`
    "corrupt",  # the byte at `after_bytes` is another one
    "drop",  # close without any answer
    "tag",  # the tag was moved: answer with the manifest `digest`
]


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    host: str = ".*"
    path: str = ".*"
    method: str = "GET|HEAD"
    times: int | None = None  # None: always
    status: int = 503
    retry_after: str | None = None
    after_bytes: int = 0
    seconds: float = 0.0
    bytes_per_s: int = 0
    delta_bytes: int = 0
    digest: str = ""

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Fault:
        """A fault from JSON; raises ValueError naming everything that is wrong with it."""
        known = {field.name for field in dataclasses.fields(cls)}
        problems = [f"unknown setting {name}" for name in sorted(data.keys() - known)]
        if data.get("kind") not in get_args(Kind):
            problems.append(f"kind is one of {', '.join(get_args(Kind))}")
        for name in ("host", "path", "method"):
            try:
                re.compile(data.get(name, ""))
            except re.error as err:
                problems.append(f"{name}: {err}")
        if problems:
            raise ValueError("; ".join(problems))
        return cls(**data)

    def fits(self, method: str, host: str, path: str) -> bool:
        pairs = ((self.method, method), (self.host, host), (self.path, path))
        return all(re.fullmatch(pattern, text) for pattern, text in pairs)


class FaultTable:
    """The rules in force, with how often each may still be used. Threads may share it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._rules: list[tuple[Fault, int | None]] = []

    def set(self, *faults: Fault) -> None:
        """Replace all rules."""
        with self._lock:
            self._rules = [(fault, fault.times) for fault in faults]

    def take(self, method: str, host: str, path: str) -> Fault | None:
        """The fault that this request meets; using it counts."""
        with self._lock:
            self._reload()
            for position, (fault, left) in enumerate(self._rules):
                if left != 0 and fault.fits(method, host, path):
                    self._rules[position] = (fault, None if left is None else left - 1)
                    return fault
        return None

    def _reload(self) -> None:
        """Read the file again when it is another one than before; a missing one has no rules."""
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            text = self._path.read_text()
        except FileNotFoundError:
            self._rules, self._stamp = [], None
            return
        if stamp != self._stamp:
            self._stamp = stamp
            self._rules = [(f, f.times) for f in map(Fault.parse, json.loads(text))]


def write_faults(path: Path, *faults: Fault) -> None:
    """Put rules into the file that a server watches; without any, all is well again."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([dataclasses.asdict(fault) for fault in faults], indent=1))
    temporary.replace(path)
