"""Where the CPU of one of our runs went: asked for when a goal is missed.

``python -m benchmarks.profiled OUT.json -m MODULE …`` (or ``-c CODE …``) runs the program and looks
at all its threads every few milliseconds: what a thread used since then (schedstat) counts for the
line of our code it is in. Counting calls, as cProfile does, would itself be most of the time.
https://docs.kernel.org/scheduler/sched-stats.html
"""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import resource
import runpy
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.measure import run
from benchmarks.pairs import Rival
from benchmarks.place import Place

_EVERY_S = 0.003
_SHOWN = 12
_LOADING = "loading modules"
_ELSEWHERE = "Python itself: its start and end, threads between two looks"
_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(f"{_ROOT / part}{os.sep}" for part in ("bundle", "installer"))


@dataclass(frozen=True, slots=True)
class Profile:
    """CPU seconds of a run, and the share of each part, the largest first."""

    cpu_s: float
    wall_s: float
    parts: tuple[tuple[float, str], ...]

    def to_dict(self) -> dict[str, object]:
        """For results.json."""
        parts = [{"share": share, "where": where} for share, where in self.parts]
        return {"cpu_s": self.cpu_s, "wall_s": self.wall_s, "parts": parts}


def profile(place: Place, rival: Rival, *, netns: str = "") -> Profile | None:
    """One more run of ours, looked at; None when it failed."""
    out = place.folder / "profile.json"
    out.unlink(missing_ok=True)
    job = rival.prepare()
    try:
        argv = [job.argv[0], "-m", "benchmarks.profiled", str(out), *job.argv[1:]]
        done = run(place, rival.name, argv, environment=job.environment, netns=netns)
        if done.status or not out.exists():
            return None
        parts = tuple((one["share"], one["where"]) for one in json.loads(out.read_bytes()))
        return Profile(round(done.cpu_s, 2), round(done.wall_s, 2), parts)
    finally:
        rival.finish()


class _Watch(threading.Thread):
    """Looks at every other thread of this process until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(name="profile", daemon=True)
        self.seen_ns: Counter[str] = Counter()
        self.own_s = 0.0
        self.done = threading.Event()
        self._known_ns: dict[int, int] = {}

    def run(self) -> None:
        while not self.done.wait(_EVERY_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                if thread is not self and frame and thread.native_id:
                    self._look(thread.native_id, frame)
        self.own_s = time.thread_time()

    def _look(self, native_id: int, frame: FrameType) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            used_ns = int(Path(f"/proc/self/task/{native_id}/schedstat").read_bytes().split()[0])
            self.seen_ns[_where(frame)] += used_ns - self._known_ns.get(native_id, 0)
            self._known_ns[native_id] = used_ns


def _where(frame: FrameType) -> str:
    ours = ""
    one: FrameType | None = frame
    while one:
        name = one.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return _LOADING
        if not ours and name.startswith(_OURS):
            line = linecache.getline(name, one.f_lineno).strip()
            ours = f"{Path(name).name}: {line}"
        one = one.f_back
    return ours or _ELSEWHERE


def main() -> None:
    """Runs what follows, and writes what it saw."""
    out, how, what, *rest = sys.argv[1:]
    watch = _Watch()
    watch.start()
    try:
        sys.argv = [what, *rest]
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<command>", "exec"), {"__name__": "__main__"})
    finally:
        watch.done.set()
        watch.join()
        used = resource.getrusage(resource.RUSAGE_SELF)
        total_s = used.ru_utime + used.ru_stime - watch.own_s
        seen = watch.seen_ns
        seen[_ELSEWHERE] += max(0, int(total_s * 1e9) - seen.total())
        whole = seen.total() or 1
        parts = [
            {"share": round(count / whole, 3), "where": where}
            for where, count in seen.most_common(_SHOWN)
        ]
        Path(out).write_text(json.dumps(parts))


if __name__ == "__main__":
    main()
