"""Several collectors at once in one folder: a peer loses images in silence, ours refuses one.

What is asserted about the peer is what makes it lose them, so that nobody takes the benchmark's
single calls for unfair: when a later version no longer does it, this test says so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import check, ours
from benchmarks.content import ImageSet, Shape, make_set
from benchmarks.place import Place, open_place
from benchmarks.registry import Registry, serve
from tests.lab.build import tool

TRIES = 8


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("PERIMETER_BENCH_FOLDER", str(tmp_path / "bench"))
    with open_place() as found:
        yield found


@pytest.fixture
def wanted(place: Place) -> ImageSet:
    return make_set(Shape("parallel", 16, 40, 2_000_000, 1000, 200_000), place.sets)


@pytest.fixture
def registry(place: Place, wanted: ImageSet) -> Iterator[Registry]:
    with serve(place, wanted.store) as running:
        yield running


def test_parallel_oras_into_one_layout_loses_entries_and_says_nothing(
    registry: Registry, wanted: ImageSet, tmp_path: Path
) -> None:
    for turn in range(TRIES):
        layout = tmp_path / f"layout-{turn}"
        copies = [
            subprocess.Popen(
                [
                    *(str(tool("oras")), "cp", "--no-tty", "--from-plain-http"),
                    f"{registry.address}/{image.repository}:1",
                    *("--to-oci-layout", f"{layout}:{number}"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for number, image in enumerate(wanted.images)
        ]
        ended = [(copy.communicate()[1], copy.returncode) for copy in copies]
        finished = sum(status == 0 for _, status in ended)
        listed = len(json.loads((layout / "index.json").read_text())["manifests"])
        if listed < finished:
            return
    pytest.fail(f"{TRIES} times {len(wanted.images)} parallel copies were all in the index")


def test_two_of_ours_in_one_folder_lose_nothing_and_the_second_is_told(
    registry: Registry, wanted: ImageSet, place: Place, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    job = ours.collect_job(wanted, registry, out, place.work)
    both = [
        subprocess.Popen(job.argv, env=job.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    refused = [said for said, status in ended if status != 0]
    assert len(refused) <= 1
    assert all("another build is at work" in said for said in refused)
    assert check.layout_problem([out], wanted, out / "blobs") == ""
