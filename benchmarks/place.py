"""Where a benchmark keeps its data, and how the next one clears what a killed one left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import command
from tests.lab.state import Process

DEFAULT_FOLDER = Path("/var/tmp/perimeter-bench")
_PREFIX = "pbench-"  # of network namespaces


class BenchError(RuntimeError):
    """Something the benchmark could not do; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one benchmark; one run at a time is in it."""

    folder: Path

    @property
    def sets(self) -> Path:
        """Generated data."""
        return self.folder / "sets"

    @property
    def work(self) -> Path:
        """What tools write; removed before each run."""
        return self.folder / "work"

    @property
    def home(self) -> Path:
        """HOME of every tool: nobody's configuration is read."""
        return self.folder / "home"

    @property
    def processes(self) -> Path:
        """A file for each process group that runs now."""
        return self.folder / "processes"

    def fresh(self, name: str) -> Path:
        """An empty folder for a result; what was written before is on the disc."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.sync()
        return folder

    @contextlib.contextmanager
    def recorded(self, pid: int) -> Iterator[None]:
        """The group of ``pid`` is known to the next run as long as the block lasts."""
        record = self.processes / f"{pid}.json"
        process = Process.of(pid)
        if process:
            process.write(record)
        try:
            yield
        finally:
            record.unlink(missing_ok=True)

    def namespace(self, name: str) -> str:
        """The name of a network namespace of this run."""
        return f"{_PREFIX}{name}"

    def refuse_without_room(self, needed_bytes: int) -> None:
        """Raises BenchError when the disc has less than that free."""
        free = shutil.disk_usage(self.folder).free
        if free < needed_bytes:
            raise BenchError(
                f"this needs {needed_bytes / 1e9:.1f} GB in {self.folder}, "
                f"{free / 1e9:.1f} GB are free: make room, or set PERIMETER_BENCH_FOLDER"
            )


@contextlib.contextmanager
def open_place(*, keep: bool = False) -> Iterator[Place]:
    """The place, alone in it and cleared; with ``keep`` generated data stays afterwards."""
    place = Place(Path(os.environ.get("PERIMETER_BENCH_FOLDER") or DEFAULT_FOLDER).resolve())
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError(f"another benchmark runs in {place.folder}") from error
        _clear(place)
        for folder in (place.sets, place.work, place.home, place.processes):
            folder.mkdir(exist_ok=True)
        try:
            yield place
        finally:
            _clear(place)
            if not keep:
                shutil.rmtree(place.sets, ignore_errors=True)


def _clear(place: Place) -> None:
    for record in sorted(place.processes.glob("*.json")):
        process = Process.read(record)  # None unless it is still the very same process
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait_gone(5.0)
        record.unlink(missing_ok=True)
    names = place.folder / "namespaces"
    for name in names.read_text().split() if names.exists() else []:
        if name.startswith(_PREFIX) and Path("/run/netns", name).exists():
            command(["ip", "netns", "del", name])
    names.unlink(missing_ok=True)
    for folder in (place.work, place.home):
        shutil.rmtree(folder, ignore_errors=True)
    # a bundle is made for one run; sets are kept by their key, and complete when they have it
    for unfinished in (*place.sets.glob(".making-*"), *place.sets.glob("bundle*")):
        shutil.rmtree(unfinished, ignore_errors=True)
