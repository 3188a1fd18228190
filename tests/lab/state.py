"""Where a lab keeps what it knows: folders, names, and the processes it started.

Everything a lab makes on a host is recognisable: files lie in the state folder, control groups
under ``perimeter-lab/<tag>``, network namespaces begin with ``<tag>-``, and processes are recorded
with their start time, so that a recycled process id is never mistaken for ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

DEFAULT_STATE = Path("/var/lib/perimeter-lab")
DEFAULT_CACHE = Path("/var/cache/perimeter-lab")
REPOSITORY = Path(__file__).resolve().parents[2]


class LabError(RuntimeError):
    """Something the lab could not do; the message says what and why."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The folder of one lab. Two labs with different folders can run side by side."""

    path: Path

    @classmethod
    def from_environment(cls) -> StateFolder:
        return cls(Path(os.environ.get("PERIMETER_LAB_STATE") or DEFAULT_STATE).resolve())

    @property
    def tag(self) -> str:
        """Prefix of this lab's network namespaces, and the name of its control group."""
        if self.path == DEFAULT_STATE:
            return "pl"
        return "pl" + hashlib.sha256(str(self.path).encode()).hexdigest()[:4]

    def namespace(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def node(self, name: str) -> Path:
        return self.path / "nodes" / name

    def record(self, name: str) -> Path:
        """File that names a process of the lab."""
        return self.path / "processes" / f"{name}.json"

    @property
    def config(self) -> Path:
        return self.path / "lab.json"

    @property
    def ssh_key(self) -> Path:
        return self.path / "id_jump"

    @property
    def upstream_ca(self) -> Path:
        return self.path / "upstream-ca.crt"

    @property
    def upstream_log(self) -> Path:
        """Access log of the upstream: one JSON object per line."""
        return self.path / "upstream.log"

    @property
    def upstream_faults(self) -> Path:
        """File with the faults that the upstream shall show."""
        return self.path / "upstream-faults.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time builds up or takes down this lab."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise LabError(f"another process is changing the lab in {self.path}") from err
            yield

    def use(self) -> None:
        """This lab is this process's own until ``give_back``, or until the process ends.

        Raises LabError where another process uses it: taken down under a test, it would break.
        """
        if self.path in _IN_USE:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "in-use").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            lock.seek(0)
            user = lock.read().strip()
            lock.close()
            raise LabError(
                f"the lab in {self.path} is in use by process {user}; wait until that ends,"
                " or set PERIMETER_LAB_STATE to another folder for a lab beside it"
            ) from err
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _IN_USE[self.path] = lock

    def give_back(self) -> None:
        """Others may use this lab, or take it down."""
        if lock := _IN_USE.pop(self.path, None):
            lock.close()


_IN_USE: dict[Path, TextIO] = {}  # locks that this process holds, by the lab's folder


def cache_folder() -> Path:
    """Folder of what is built once and used by every lab on this host."""
    return Path(os.environ.get("PERIMETER_LAB_CACHE") or DEFAULT_CACHE).resolve()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where there is no readable one."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace the file as a whole: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def start_time(pid: int) -> int | None:
    """Clock ticks after boot when the process began; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Process:
    """A process that stays the same one: its id together with its start time."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The recorded process, if it is still that one and alive."""
        data = read_json(path)
        try:
            process = None if data is None else cls(int(data["pid"]), int(data["started"]))
        except (KeyError, TypeError, ValueError):
            return None
        return process if process and process.alive() else None

    def write(self, path: Path) -> None:
        write_json(path, {"pid": self.pid, "started": self.started})

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, timeout_s: float) -> bool:
        return wait_until(lambda: not self.alive(), timeout_s, step_s=0.05)

    def end(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL for what does not listen."""
        self.signal(signal.SIGTERM)
        if not self.wait_gone(timeout_s):
            self.signal(signal.SIGKILL)
            self.wait_gone(5.0)


def wait_until(condition: Callable[[], object], timeout_s: float, step_s: float = 0.2) -> bool:
    """Whether the condition became true within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step_s)
    return True
