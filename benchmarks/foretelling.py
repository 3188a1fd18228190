"""The time left that collecting says, beside what was really left, on a line of 100 Mbit/s.

Each moment of each run after its first tenth counts. The line of one run halves in the middle; its
moments before that cannot be right and do not count.
"""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.lab.host import command

from benchmarks.content import ImageSet, Shape, make_set
from benchmarks.line import DELAY_S, FAR, helper, open_line, relayed, wait_for
from benchmarks.measure import run
from benchmarks.ours import NAME, collect_job
from benchmarks.registry import Registry, serve
from benchmarks.rows import share
from benchmarks.tasks import Bench
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.running import Tasks

_MB = 1_000_000
RATE_BITS = 100 * _MB
HALVES_AFTER_S = 15.0
RIGHT = 0.25
AT_LEAST_S = 2.0  # nearer than that nobody asks
GOAL = 0.95
_FIRST, _LAST = 0.1, 0.97
SHAPES = (
    Shape("far-small", 40, 1400, 420 * _MB, 2000, 4 * _MB, seed=11),
    Shape("far-large", 8, 24, 400 * _MB, 100_000, 90 * _MB, seed=12),
    Shape("far-mixed", 30, 300, 400 * _MB, 1000, 60 * _MB, seed=13),
)


def foretell(bench: Bench) -> None:
    """One run of each shape, the last one on a line that halves."""
    for shape in SHAPES:
        _judge(bench, shape, halves=shape is SHAPES[-1])


def _judge(bench: Bench, shape: Shape, *, halves: bool) -> None:
    wanted = make_set(shape, bench.place.sets)
    events = bench.place.folder / "events.jsonl"
    events.unlink(missing_ok=True)
    took_s = _collect(bench, wanted, events, halves=halves)
    name = f"time left: {len(wanted.blobs)} blobs, {wanted.total_bytes / 1e6:.0f} MB" + (
        ", the line halves" if halves else ""
    )
    from_s = HALVES_AFTER_S if halves else 0.0
    errors = [
        abs(said_s - left_s) <= max(AT_LEAST_S, RIGHT * left_s)
        for at_s, left_s, said_s in guesses(events)
        if _FIRST * took_s <= at_s <= _LAST * took_s and at_s >= from_s + _FIRST * took_s
    ]
    right = sum(errors) / len(errors) if errors else 0.0
    note = f"{len(errors)} moments of {took_s:.0f} s; right is within a quarter, or 2 s"
    bench.keep(name, [], [replace(share(name, right, 1.0, "", GOAL, note=note), peer="")])


def guesses(events: Path) -> Iterator[tuple[float, float, float]]:
    """At each second: the time, what was really left, and what was said."""
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    end_s = lines[-1][0]
    tasks, next_s = Tasks(), 1.0
    for at_s, told in lines:
        while next_s <= at_s:
            tasks.measure(next_s)
            for running in tasks:
                said_s = running.left_s(next_s) if running.counts_files else None
                if said_s is not None:
                    yield next_s, end_s - next_s, said_s
            next_s += 1.0
        event = Event(EventKind(told.pop("kind")), told.pop("task"), **told)
        if event.kind in (EventKind.START, EventKind.PROGRESS):
            tasks.take(event, at_s)
        elif event.kind is not EventKind.NOTE:
            tasks.end(event.task)


def _collect(bench: Bench, wanted: ImageSet, events: Path, *, halves: bool) -> float:
    place = bench.place
    with (
        open_line(place, RATE_BITS) as line,
        serve(place, wanted.store, host=FAR, netns=line.far) as far,
        helper(place, line.near, "relay", relayed("registry"), far.address, str(DELAY_S)),
    ):
        wait_for(line, relayed("registry"))
        job = collect_job(
            wanted, Registry(relayed("registry"), wanted.store), place.fresh("target"), place.work
        )
        slower = f"tc qdisc change dev eth0 root tbf rate {RATE_BITS // 2} burst 256kb limit 8mb"
        words = ["nsenter", f"--net=/run/netns/{line.far}", *shlex.split(slower)]
        timer = threading.Timer(HALVES_AFTER_S, command, (words,))
        if halves:
            timer.start()
        try:
            argv = [*job.argv, "--events", str(events)]
            done = run(place, NAME, argv, environment=job.environment, netns=line.near)
        finally:
            timer.cancel()
    bench.say(f"{wanted.shape.name}: {done.wall_s:.1f} s {done.status or ''}")
    return done.wall_s
