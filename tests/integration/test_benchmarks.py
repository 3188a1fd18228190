"""The benchmark itself: it measures real processes, and what is incomplete does not count."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import check, ours, tasks
from benchmarks.content import ImageSet, Shape, arrange, layer_sizes, make_set
from benchmarks.measure import Run, run
from benchmarks.ours import environment
from benchmarks.pairs import Rival, take_turns
from benchmarks.peers import Crane, Job
from benchmarks.place import BenchError, Place, open_place
from benchmarks.profiled import profile
from benchmarks.registry import serve
from benchmarks.rows import at_least, at_most, compare
from tests.lab.state import Process

TINY = Shape("tiny", 4, 12, 4_000_000, 1000, 1_000_000)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("PERIMETER_BENCH_FOLDER", str(tmp_path / "bench"))
    with open_place() as found:
        yield found


@pytest.fixture
def tiny(place: Place) -> ImageSet:
    return make_set(TINY, place.sets)


def test_the_set_is_as_large_as_asked_with_a_third_of_its_layers_shared() -> None:
    shape = Shape("main", 60, 200, 3_000_000_000, 1000, 800_000_000)
    sizes = layer_sizes(shape)
    assert (len(sizes), min(sizes), max(sizes)) == (200, 1000, 800_000_000)
    assert abs(sum(sizes) - shape.unique_bytes) < 1_000_000
    uses = [layer for image in arrange(shape) for layer in image]
    assert sorted(set(uses)) == list(range(200))
    assert sum(uses.count(layer) > 1 for layer in range(200)) >= 66


def test_the_same_seed_gives_the_same_bytes(place: Place, tmp_path: Path) -> None:
    one, two = make_set(TINY, place.sets), make_set(TINY, tmp_path)
    assert one.images == two.images
    assert one.store != two.store


def test_ours_and_crane_collect_all_of_it_and_each_is_measured(
    place: Place, tiny: ImageSet
) -> None:
    with serve(place, tiny.store) as registry:
        rivals = [
            tasks.our_collect(place, tiny, registry),
            tasks.peer_collect(Crane(), place, tiny, registry),
        ]
        rounds = take_turns(place, rivals, 2)
    assert [[one.tool for one in members] for members in rounds] == [
        ["perimeter", "crane"],
        ["crane", "perimeter"],
    ]
    for one in (one for members in rounds for one in members):
        assert one.counts, one
        assert one.wall_s > 0
        assert one.cpu_s > 0
        assert one.peak_bytes > 1_000_000
    assert compare(rounds, ours.NAME, "wall_s")[0].peer == "crane"


def test_the_quickest_peer_goes_on_where_ours_is_the_quickest_of_all(place: Place) -> None:
    rivals = [
        Rival(name, lambda pause=pause: Job(["sleep", pause], {}), lambda: "")
        for name, pause in (("perimeter", "0"), ("crane", "0.6"), ("oras", "0.2"))
    ]
    rounds = take_turns(place, rivals, 2)
    assert "oras" in {one.tool for one in rounds[1]}


def test_a_profile_says_where_the_time_of_a_run_went(place: Place, tiny: ImageSet) -> None:
    with serve(place, tiny.store) as registry:
        found = profile(place, tasks.our_collect(place, tiny, registry))
    assert found
    assert found.cpu_s > 0
    assert "loading modules" in [where for _, where in found.parts]
    assert 0.5 < sum(share for share, _ in found.parts) <= 1.01


def test_a_failed_run_has_no_profile(place: Place) -> None:
    words = ["-c", "raise SystemExit(3)"]
    failing = Rival("perimeter", lambda: Job([sys.executable, *words], environment()), lambda: "")
    assert profile(place, failing) is None


def test_an_incomplete_result_does_not_count(place: Place, tiny: ImageSet) -> None:
    with serve(place, tiny.store) as registry:
        rival = tasks.our_collect(place, tiny, registry)
        job = rival.prepare()
        assert run(place, "perimeter", job.argv, environment=job.environment).status == 0
    assert rival.problem() == ""
    target = place.work / "target"
    largest = max(tiny.blobs, key=lambda digest: tiny.blobs[digest])
    blob = target / "blobs/sha256" / largest.removeprefix("sha256:")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert rival.problem().startswith(f"{largest} has other bytes")
    blob.write_bytes(whole[:-1])
    assert rival.problem() == f"{largest} has {len(whole) - 1} of {len(whole)} bytes"
    blob.unlink()
    assert rival.problem() == f"{largest} is missing"
    blob.write_bytes(whole)
    (target / "index.json").write_text('{"manifests": []}')
    assert rival.problem().startswith("4 of 4 images are in no index")


def test_a_registry_that_lacks_a_tag_does_not_count(tiny: ImageSet) -> None:
    assert check.store_problem(tiny.store, tiny) == ""
    assert "is not the image" in check.store_problem(tiny.store, tiny, "elsewhere/")


def test_a_tool_that_fails_is_shown_and_never_the_best(place: Place) -> None:
    bad = run(place, "crane", ["sh", "-c", "echo no such image; exit 3"])
    assert (bad.status, bad.said, bad.counts) == (3, "no such image", False)
    good = Run("perimeter", 1.0, 1.0, 1, 0, 0.0)
    row = at_least("collect", compare([[good, bad]], "perimeter", "wall_s"), "s", 1.5)
    assert (row.holds, row.best_peer) == (False, None)


def test_a_run_over_its_time_is_ended_with_all_it_started(place: Place) -> None:
    ended = run(place, "slow", ["sh", "-c", "sleep 60 & sleep 60"], timeout_s=0.3)
    assert ended.status == -9
    assert not list(place.processes.iterdir())


def test_memory_is_that_of_the_tool_and_not_of_whoever_starts_it(place: Place) -> None:
    ballast = bytearray(200_000_000)
    small = run(place, "sleep", ["sleep", "0.3"])
    assert 0 < small.peak_bytes < 20_000_000 < len(ballast)


def test_ratios_are_medians_of_pairs_and_a_limit_is_a_limit() -> None:
    def one(tool: str, wall_s: float) -> Run:
        return Run(tool, wall_s, wall_s, 1, 0, 0.0)

    rounds = [
        [one("perimeter", 1), one("crane", 2)],
        [one("crane", 30), one("perimeter", 10)],
        [one("perimeter", 1), one("crane", 9)],
    ]
    found = compare(rounds, "perimeter", "wall_s")
    assert (found[0].ratio, found[0].ours, found[0].theirs) == (3, 1, 9)
    assert at_least("x", found, "s", 3.0).holds is True
    assert at_least("x", found, "s", 3.1).holds is False
    assert at_most("x", 1.0, "s", 1.0).holds is True
    assert at_most("x", 1.1, "s", 1.0).holds is False
    assert at_most("nothing measured", 0.0, "s", 1.0).holds is False


def test_the_next_run_ends_what_a_killed_one_left_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERIMETER_BENCH_FOLDER", str(tmp_path))
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        known = Process.of(left.pid)
        assert known
        known.write(tmp_path / "processes" / f"{left.pid}.json")
        Process(other.pid, 1).write(tmp_path / "processes" / f"{other.pid}.json")  # its id is ours
        (tmp_path / "work" / "target").mkdir(parents=True)
        with open_place() as place:
            assert left.wait(5) == -9
            assert other.poll() is None
            assert not (place.work / "target").exists()
            with pytest.raises(BenchError, match="another benchmark runs"), open_place():
                pass
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_too_little_room_is_said_before_anything_is_made(place: Place) -> None:
    with pytest.raises(BenchError, match="make room, or set PERIMETER_BENCH_FOLDER"):
        place.refuse_without_room(1 << 60)


def test_an_unknown_task_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "fly"],
        capture_output=True,
        text=True,
        env=ours.environment(),
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert done.returncode == 2
    assert "there is no task fly" in done.stderr
