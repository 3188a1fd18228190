"""`python -m benchmarks`: measure, print the table, write benchmarks/out."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from tests.lab.state import LabError
from tests.support.bundles import SmallBundle

from benchmarks import delta, foretelling, line, loading, memory, report, tasks, verifying
from benchmarks.carried import carry, make_views
from benchmarks.content import ImageSet, Shape, make_set
from benchmarks.peers import PEERS
from benchmarks.place import BenchError, Place, open_place

OUT = Path(__file__).resolve().parent / "out"
DOCS = OUT.parents[1] / "docs" / "benchmarks"
MB = 1_000_000
LINE = Shape("line", 60, 1000, 1000 * MB, 2000, 20 * MB)  # many small ones
MANY = Shape("many", 50, 1000, 30 * MB, 1000, MB)
CROWD = Shape("crowd", 100, 9800, 300 * MB, 1000, 2 * MB)
TASKS = (
    *("collect", "load", "again", "many", "verify", "delta", "line"),
    *("collect-https", "load-https", "again-https", "line-https", "memory", "estimate"),
)
LARGE_TASKS = ("collect", "load", "verify", "memory", "poor")


def main() -> int:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("task", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}, poor; or all")
    parser.add_argument("--pairs", type=int, default=3, help="how often each tool has its turn")
    parser.add_argument("--megabytes", type=int, default=3000, help="size of the set")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for results")
    parser.add_argument("--large", action="store_true", help="20 GB, and 10 000 blobs badly served")
    parser.add_argument("--docs", action="store_true", help="table and picture to docs/benchmarks")
    parser.add_argument("--keep", action="store_true", help="keep the generated sets")
    asked = parser.parse_args()
    unknown = set(asked.task) - {*TASKS, *LARGE_TASKS}
    if unknown:
        parser.error(f"there is no task {', '.join(sorted(unknown))}")
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        with open_place(keep=asked.keep) as place:
            _measure(place, asked, console.print)
    except (BenchError, LabError) as error:
        console.print(f"error: {error}")
        return 1
    return 0


def _measure(place: Place, asked: argparse.Namespace, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    wanted = set(asked.task or (LARGE_TASKS if asked.large else TASKS))
    size = 20_000 * MB if asked.large else asked.megabytes * MB
    place.refuse_without_room(int(size * 2.3) + 2_000 * MB)
    versions = {peer.name: peer.version() for peer in PEERS}
    busy = busy_share(2.0)
    say(f"others use {busy:.0%} of the machine, load {os.getloadavg()[0]:.2f}")
    bench = tasks.Bench(place, asked.pairs, busy, say)
    main_set = make_set(shape_of(size), place.sets)
    say(f"set: {len(main_set.images)} images, {main_set.total_bytes / 1e9:.2f} GB")
    try:
        _run_tasks(bench, wanted, main_set, large=asked.large)
    finally:  # what was measured before something failed is worth showing
        facts = _facts(bench, versions, main_set, time.monotonic() - begin)
        report.write_results(asked.out / "results.json", bench.rows, facts)
        title = f"perimeter beside the best of crane, skopeo, regctl, oras; others used {busy:.0%}"
        name = "large" if asked.large else "table"
        about = _about(versions, main_set, asked.pairs, busy)
        for folder in (asked.out, DOCS) if asked.docs else (asked.out,):
            folder.mkdir(parents=True, exist_ok=True)
            table = report.markdown(bench.rows, bench.profiles, about)
            (folder / f"{name}.md").write_text(table)
            (folder / f"{name}.svg").write_text(report.picture(bench.rows, title))
        report.print_table(bench.rows, bench.profiles, Console(file=sys.stdout, width=150))


def _run_tasks(bench: tasks.Bench, wanted: set[str], main_set: ImageSet, *, large: bool) -> None:
    place = bench.place
    if "collect" in wanted:
        tasks.collect(bench, main_set)
    if wanted & {"load", "load-https", "again", "verify"}:
        bundle = carried(place, main_set)
    if "load" in wanted:
        loading.load(bench, main_set, bundle)
    if "again" in wanted:
        loading.load_again(bench, main_set, bundle)
    if "verify" in wanted:
        verifying.verify(bench, main_set, bundle)
    if "delta" in wanted:
        delta.delta(bench)
    if "line" in wanted:
        line.collect_far(bench, make_set(LINE, place.sets))
    if "line-https" in wanted:
        line.collect_far(bench, make_set(LINE, place.sets), tls=True)
    if "collect-https" in wanted:
        tasks.collect(bench, main_set, tls=True)
    if "load-https" in wanted:
        loading.load(bench, main_set, bundle, tls=True)
    if wanted & {"many", "again-https"}:
        many = make_set(MANY, place.sets)
        many_bundle = carried(place, many)
    if "many" in wanted:
        loading.load_again(bench, many, many_bundle)
    if "again-https" in wanted:
        loading.load_again(bench, many, many_bundle, tls=True)
    if "memory" in wanted:
        small = make_set(shape_of(1000 * MB if large else main_set.total_bytes // 3), place.sets)
        memory.memory(bench, small, carried(place, small), main_set)
    if "estimate" in wanted:
        foretelling.foretell(bench)
    if "poor" in wanted:
        line.collect_poor(bench, make_set(CROWD, place.sets))


def carried(place: Place, wanted: ImageSet) -> SmallBundle:
    """A signed bundle of the set, and layouts for the peers beside it."""
    bundle = carry(wanted, place.sets / f"bundle-{wanted.shape.key}")
    make_views(wanted, bundle.root, bundle.root.parent / "views")
    return bundle


def shape_of(unique_bytes: int) -> Shape:
    """The main set; smaller ones have a smaller largest layer."""
    largest = min(800 * MB, unique_bytes * 800 // 3000)
    return Shape("main", 60, 200, unique_bytes, 1000, largest)


def busy_share(seconds: float) -> float:
    """How much of all processors is used while this process does nothing."""

    def ticks() -> tuple[int, int]:
        fields = [int(one) for one in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)

    before = ticks()
    time.sleep(seconds)
    now = ticks()
    return (now[0] - before[0]) / max(1, now[1] - before[1])


def _about(versions: dict[str, str], main_set: ImageSet, pairs: int, busy: float) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, Python"
        f" {platform.python_version()}, {main_set.total_bytes / 1e9:.1f} GB in"
        f" {len(main_set.images)} images, {pairs} pairs; others used {busy:.0%} before it"
        f" began. Beside {tools}."
    )


def _facts(
    bench: tasks.Bench, versions: dict[str, str], main_set: ImageSet, seconds: float
) -> dict[str, object]:
    return {
        "versions": versions,
        "processors": os.cpu_count(),
        "busy_before": round(bench.busy, 3),
        "load_after": os.getloadavg(),
        "seed": main_set.shape.seed,
        "set": {"images": len(main_set.images), "bytes": main_set.total_bytes},
        "pairs": bench.pairs,
        "profiles": {task: found.to_dict() for task, found in bench.profiles.items()},
        "took_s": round(seconds),
        "runs": {
            task: [[run.to_dict() for run in members] for members in rounds]
            for task, rounds in bench.runs.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
