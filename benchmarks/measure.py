"""A tool as a process of its own, measured from outside: time, CPU with all children, memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import CLEAN_ENVIRONMENT

from benchmarks.place import Place

_FIRST_SAMPLE_S = 0.001  # a tool may be done within a few hundredths of a second
_SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one tool."""

    tool: str
    wall_s: float
    cpu_s: float  # user and system, of every process it started
    peak_bytes: int  # of all its processes together
    status: int
    load: float  # average of the last minute, when it began
    said: str = ""  # the end of what it printed
    disc_s: float = 0.0  # wall_s, and until what it wrote was on the disc
    problem: str = ""  # why the result does not count; empty when it does

    @property
    def counts(self) -> bool:
        """Whether it ended well and its result is complete."""
        return self.status == 0 and not self.problem

    def to_dict(self) -> dict[str, object]:
        """For results.json."""
        return {
            "tool": self.tool,
            "wall_s": round(self.wall_s, 3),
            "disc_s": round(self.disc_s, 3),
            "cpu_s": round(self.cpu_s, 3),
            "peak_bytes": self.peak_bytes,
            "status": self.status,
            "load": self.load,
            "problem": self.problem,
        }


def run(
    place: Place,
    tool: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 900.0,
    netns: str = "",
) -> Run:
    """Runs it to its end, or ends it with all it started when the time is over."""
    log = place.work / "said.log"
    words = ["nsenter", f"--net=/run/netns/{netns}", *argv] if netns else list(argv)
    load = os.getloadavg()[0]
    with log.open("wb") as out:
        begin = time.monotonic()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**CLEAN_ENVIRONMENT, "HOME": str(place.home), **(environment or {})},
            cwd=place.work,
            start_new_session=True,
        )
        with place.recorded(process.pid):
            watch = _Watch(process.pid)
            watch.start()
            alarm = threading.Timer(timeout_s, _end_group, (process.pid,))
            alarm.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:
                alarm.cancel()
                watch.done.set()
                _end_group(process.pid)
            wall_s = time.monotonic() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            watch.join()
    said = log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
    cpu_s = usage.ru_utime + usage.ru_stime
    return Run(tool, wall_s, cpu_s, watch.peak_bytes, process.returncode, round(load, 2), said)


class _Watch(threading.Thread):
    """The most memory that a process and its children ever held.

    ru_maxrss would not do: a child begins with what the process that started it held.
    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html (VmHWM)
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.done = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        pause_s = _FIRST_SAMPLE_S
        while not self.done.wait(pause_s):
            pause_s = min(2 * pause_s, _SAMPLE_S)
            self.peak_bytes = max(self.peak_bytes, sum(map(_high_water, _tree(self.pid))))


def _tree(pid: int) -> list[int]:
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                left += [int(child) for child in children.read_text().split()]
    return found


def _high_water(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
