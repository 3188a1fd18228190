"""Ours and the peers by turns: A B B A, so that what the machine does meanwhile hits both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.measure import Run, run
from benchmarks.peers import Job
from benchmarks.place import Place

KEPT_PEERS = 1  # after the first round only the quickest goes on, and who took the least CPU


@dataclass(frozen=True, slots=True)
class Rival:
    """A tool at one task: what it is to do, and what is wrong with what it did."""

    name: str
    prepare: Callable[[], Job]
    problem: Callable[[], str]
    finish: Callable[[], None] = lambda: None


def take_turns(
    place: Place,
    rivals: Sequence[Rival],
    rounds: int,
    *,
    netns: str = "",
    timeout_s: float = 900.0,
    say: Callable[[str], None] = lambda text: None,
) -> list[list[Run]]:
    """Every rival once, ours first; then ours and the best of them, the order turned each time."""
    results: list[list[Run]] = []
    members = list(rivals)
    for turn in range(rounds):
        if turn == 1:
            members = [rivals[0], *_quickest(rivals[1:], results[0][1:])]
        order = members if turn % 2 == 0 else members[::-1]
        results.append([_once(place, one, netns, timeout_s, say) for one in order])
    return results


def _once(
    place: Place, rival: Rival, netns: str, timeout_s: float, say: Callable[[str], None]
) -> Run:
    job = rival.prepare()
    try:
        done = run(
            place,
            rival.name,
            job.argv,
            environment=job.environment,
            netns=netns,
            timeout_s=timeout_s,
        )
        begin = time.monotonic()
        os.sync()  # what was written before the run is there already: see Place.fresh
        done = replace(done, disc_s=done.wall_s + time.monotonic() - begin)
        if done.status == 0:
            done = replace(done, problem=rival.problem())
    finally:
        rival.finish()
    said = done.problem or (f"status {done.status}: {done.said[-200:]}" if done.status else "")
    peak = done.peak_bytes / 1e6
    figures = f"{done.wall_s:.2f} s, CPU {done.cpu_s:.2f} s, {peak:.0f} MB, load {done.load:.1f}"
    say(f"{rival.name}: {figures} {said}")
    return done


def _quickest(rivals: Sequence[Rival], first: Sequence[Run]) -> list[Rival]:
    """Those that counted and were quickest, or took the least CPU."""
    counted = [one for one in first if one.counts]
    by_wall = sorted(counted, key=lambda one: one.wall_s)[:KEPT_PEERS]
    least = sorted(counted, key=lambda one: one.cpu_s)[:1]
    names = {one.tool for one in (*by_wall, *least)}
    return [rival for rival in rivals if rival.name in names]
