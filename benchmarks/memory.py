"""The most memory that each tool held, and whether ours needs more for a larger set."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.bundles import SmallBundle

from benchmarks import ours
from benchmarks.content import ImageSet
from benchmarks.loading import BY_OURS, Loading
from benchmarks.measure import Run, run
from benchmarks.pairs import Rival, take_turns
from benchmarks.registry import serve
from benchmarks.rows import Row, at_most
from benchmarks.tasks import Bench, our_collect

LIMIT_MB = 64.0
TASKS = ("collect", "load", "verify")
OVER_TLS = ("collect over HTTPS", "load over HTTPS")


def memory(bench: Bench, small: ImageSet, bundle: SmallBundle, main: ImageSet) -> None:
    """Rows from the runs there were, beside one of each with ``small``, which is in ``bundle``.

    Over HTTPS there is no run with ``small``.
    """
    beside = _small_runs(bench, small, bundle)
    rows = []
    for task in (*TASKS, *OVER_TLS):
        members = [one for turn in bench.runs.get(task, []) for one in turn if one.counts]
        peak = _peak(one for one in members if one.tool.startswith(ours.NAME))
        if not peak:
            continue
        note = f"at {main.total_bytes / 1e9:.1f} GB"
        if task in beside:
            less = beside[task].peak_bytes / 1e6
            note += f"; at {small.total_bytes / 1e9:.1f} GB {less:.0f} MB"
        rows.append(at_most(f"memory, {task}", peak / 1e6, "MB", LIMIT_MB, note=note))
        peers = {one.tool for one in members if not one.tool.startswith(ours.NAME)}
        peaks = {peer: _peak(one for one in members if one.tool == peer) for peer in peers}
        for peer in sorted(peers, key=lambda name: peaks[name]):
            rows.append(Row(f"memory, {task}: {peer}", peaks[peer] / 1e6, "MB", ""))
    bench.keep("memory", [[*beside.values()]], rows)


def _small_runs(bench: Bench, small: ImageSet, bundle: SmallBundle) -> dict[str, Run]:
    place = bench.place
    with serve(place, small.store) as registry:
        rival = our_collect(place, small, registry)
        collected = take_turns(place, [rival], 1, say=bench.say)[0][0]
    one = Loading(
        *(place, small, False, BY_OURS),
        lambda registry: ours.load_job(bundle, registry, place.work / "site"),
    )
    rival = Rival(ours.NAME, one.prepare, one.problem, one.stack.close)
    loaded = take_turns(place, [rival], 1, say=bench.say)[0][0]
    job = ours.verify_job(bundle)
    verified = run(place, ours.NAME, job.argv, environment=job.environment)
    return dict(zip(TASKS, (collected, loaded, verified), strict=True))


def _peak(runs: Iterable[Run]) -> int:
    return max((one.peak_bytes for one in runs), default=0)
