"""A real process that fetches, is interrupted or runs out of room, and goes on at its next run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.lying_server import Lie, LyingServer

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.registry.part_file import BUFFER_BYTES

BLOBS = [random.Random(number).randbytes(6_000_000) for number in range(6)]
HALF = BUFFER_BYTES  # what came after the last full buffer is in no file yet
SIZE_OF_ALL = sum(map(len, BLOBS))

CHILD = """
import json, sys
from pathlib import Path
from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.collect.scheduler import FetchTask, fetch_all
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop

folder, sizes_known, files = Path(sys.argv[1]), sys.argv[2] == "sizes", json.loads(sys.argv[3])
stop = Stop()
fetcher = FileFetcher(RegistrySettings(workers=3, read_timeout_s=60), stop=stop)

def task(url, digest, size):
    digest = Digest.parse(digest)
    known = size if sizes_known else None
    run = lambda: fetcher.fetch(url, folder / digest.hex, digest, known)
    return FetchTask(str(digest), url, size, run)

try:
    print(fetch_all([task(*file) for file in files], 3, stop=stop))
except KeyboardInterrupt:
    sys.exit(130)
except PerimeterError as error:
    print(json.dumps(error.to_dict()))
    sys.exit(int(error.exit_status))
"""


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        for number, data in enumerate(BLOBS):
            server.serve(f"/{number}", data)
        yield server


def command(server: LyingServer, folder: Path, sizes: str = "sizes") -> list[str]:
    files = [
        (f"{server.url}/{number}", str(Digest.of_bytes(data)), len(data))
        for number, data in enumerate(BLOBS)
    ]
    return [sys.executable, "-c", CHILD, str(folder), sizes, json.dumps(files)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "bundle", "PYTHONUNBUFFERED": "1"}


def parts(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in folder.glob("*.part"))


def finish(server: LyingServer, folder: Path) -> int:
    """Runs to the end; gives back how many bytes came over the network for it."""
    before = len(server.seen)
    done = subprocess.run(
        command(server, folder), env=environment(), capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"6\n"
    for data in BLOBS:
        assert (folder / Digest.of_bytes(data).hex).read_bytes() == data
    assert len(list(folder.iterdir())) == len(BLOBS)
    starts = [int(seen.headers.get("Range", "bytes=0-")[6:-1]) for seen in server.seen[before:]]
    return sum(len(BLOBS[0]) - start for start in starts)


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_without_doing_the_finished_part_again(
    server: LyingServer, tmp_path: Path, with_signal: signal.Signals
) -> None:
    for number in (3, 4, 5):
        server.lie(f"/{number}", Lie(stall_after=HALF))
    running = subprocess.Popen(
        command(server, tmp_path), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline_s = time.monotonic() + 30
    while parts(tmp_path) != [HALF] * 3:
        assert time.monotonic() < deadline_s, (parts(tmp_path), running.poll())
        time.sleep(0.02)
    running.send_signal(with_signal)
    # the server stays silent for a minute: who waits for it does not end in time
    _, stderr = running.communicate(timeout=30)
    if with_signal is signal.SIGINT:
        assert running.returncode == 130, stderr
        assert stderr == b""
    assert parts(tmp_path) == [HALF] * 3
    assert finish(server, tmp_path) == 3 * (len(BLOBS[0]) - HALF)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file system of its own")
@pytest.mark.parametrize("sizes", ["sizes", "no-sizes"])
def test_a_full_disc_ends_the_run_and_more_room_lets_it_go_on(
    server: LyingServer, tmp_path: Path, sizes: str
) -> None:
    folder = tmp_path / "disc"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={SIZE_OF_ALL // 2} tmpfs {folder}"
    grow = f"mount -o remount,size={2 * SIZE_OF_ALL} {folder}"
    script = f'{mount} && {{ "$@"; echo "status $?"; {grow} && "$@"; ls {folder} | wc -l; }}'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command(server, folder, sizes)],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.decode().splitlines()
    error = json.loads(lines[0])
    assert error["code"] == "no-room"
    assert error["message"].startswith(f"no room for {server.url}/")
    if sizes == "sizes":
        assert error["context"]["needed"].endswith(" bytes more")
    assert "goes on where it stopped" in error["hint"]
    assert lines[1:] == ["status 6", "6", "6"]
