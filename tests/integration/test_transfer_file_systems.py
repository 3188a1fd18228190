"""Transfers onto the file systems that are in use, and onto a disc that fails or is full."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.bundles import make_bundle
from tests.support.lying_server import Lie, LyingServer

from perimeter_bundle.format.volumes.copying import BUFFER_BYTES as COPIED_AT_ONCE
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.registry.part_file import (
    BUFFER_BYTES,
    DIRECT_FROM_BYTES,
    SMALL_BUFFER_BYTES,
)

# around each border: of a block, of what is written directly, of the buffers
BORDERS = {4096, SMALL_BUFFER_BYTES, DIRECT_FROM_BYTES, BUFFER_BYTES}
SIZES = sorted(
    {1, *(border + more for border in BORDERS for more in (-1, 0, 1)), 2 * BUFFER_BYTES + 4096 + 7}
)
BLOBS = [random.Random(size).randbytes(size) for size in SIZES]

CHILD = """
import json, sys
from pathlib import Path
from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.collect.journal import Journal
from perimeter_bundle.collect.scheduler import FetchTask, fetch_all
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop

root, files = Path(sys.argv[1]), json.loads(sys.argv[2])
stop = Stop()
fetcher = FileFetcher(RegistrySettings(read_timeout_s=60), stop=stop)
journal = Journal(root, root / "journal")

def task(url, digest, size):
    digest = Digest.parse(digest)
    target = root / "blobs/sha256" / digest.hex
    run = lambda: fetcher.fetch(url, target, digest, size, verified=journal)
    return FetchTask(str(digest), url, size, run)

before = len(journal.proven())
try:
    fetch_all([task(*file) for file in files], 3, small_workers=4, stop=stop)
    journal.flush()
except PerimeterError as error:
    print(json.dumps(error.to_dict()))
    sys.exit(int(error.exit_status))
print(before, len(journal.proven()))
"""

# each makes a file system in "$1" and leaves its folder in $disc; unshare ends the mounts
MAKE = {
    "ext4": 'truncate -s 64M "$1/image"; mkfs.ext4 -q "$1/image"; mount -o loop "$1/image" "$1/m"',
    "xfs": 'truncate -s 320M "$1/image"; mkfs.xfs -q "$1/image"; mount -o loop "$1/image" "$1/m"',
    "tmpfs": 'mount -t tmpfs -o size=64M tmpfs "$1/m"',
    "overlay": 'mkdir "$1/low" "$1/up" "$1/work"; mount -t overlay overlay '
    '-o "lowerdir=$1/low,upperdir=$1/up,workdir=$1/work" "$1/m"',
    "overlay over tmpfs": 'mount -t tmpfs tmpfs "$1/t"; mkdir "$1/t/low" "$1/t/up" "$1/t/work"; '
    "mount -t overlay overlay "
    '-o "lowerdir=$1/t/low,upperdir=$1/t/up,workdir=$1/t/work" "$1/m"',
}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs file systems of its own")


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        for number, data in enumerate(BLOBS):
            server.serve(f"/{number}", data)
        yield server


def command(server: LyingServer, folder: Path) -> list[str]:
    files = [
        (f"{server.url}/{number}", str(Digest.of_bytes(data)), len(data))
        for number, data in enumerate(BLOBS)
    ]
    return [sys.executable, "-c", CHILD, str(folder), json.dumps(files)]


def run_in(script: str, folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a shell script in mounts of its own; ``$@`` are ``words`` after a ``shift``."""
    for name in ("m", "t"):
        (folder / name).mkdir()
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", str(folder), *words],
        env={**os.environ, "PYTHONPATH": "bundle:installer"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_root
@pytest.mark.parametrize("kind", MAKE)
def test_every_size_arrives_on(server: LyingServer, tmp_path: Path, kind: str) -> None:
    # a large one is cut at an odd place, so that it goes on in the middle of a block
    server.lie(f"/{len(BLOBS) - 1}", Lie(cut_after=BUFFER_BYTES + 12_345))
    folder = tmp_path / "m"
    script = f'{MAKE[kind]}; cd "$PWD"; shift; "$@"; "$@"; cd {folder}/blobs/sha256; sha256sum *'
    done = run_in(script, tmp_path, command(server, folder))
    assert done.returncode == 0, done.stderr
    first, second, *sums = done.stdout.splitlines()
    assert (first, second) == (f"0 {len(BLOBS)}", f"{len(BLOBS)} {len(BLOBS)}")
    assert sorted(sums) == sorted(f"{(d := Digest.of_bytes(b).hex)}  {d}" for b in BLOBS)
    # each once, and the one that was cut once more
    asked = sorted(seen.path for seen in server.seen)
    assert asked == sorted([*(f"/{n}" for n in range(len(BLOBS))), f"/{len(BLOBS) - 1}"])


@needs_root
@pytest.mark.parametrize("kind", MAKE)
def test_volumes_are_unpacked_byte_for_byte_on(tmp_path: Path, kind: str) -> None:
    made, disc = tmp_path / "made", tmp_path / "disc"
    for folder in (made, disc):
        folder.mkdir()
    bundle = make_bundle(made)
    for more in (-1, 0, 1, 4096, 5 * COPIED_AT_ONCE + 4099):  # the last one is cut in pieces
        data = random.Random(more).randbytes(COPIED_AT_ONCE + more)
        bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
    bundle.reseal()
    report = pack(PackRequest(bundle.root, made / "volumes", 3 * COPIED_AT_ONCE + 100_000))
    assert any(member.piece for one in report.volumes for member in one.listing.members)
    words = [sys.executable, "-c", "from perimeter_installer.cli.main import main; main()"]
    words += ["unpack", str(made / "volumes"), "--trust", str(bundle.public_key)]
    words += ["--out", str(disc / "m" / "out")]
    script = f'{MAKE[kind]}; cd "$PWD"; shift; "$@"; diff -r {disc}/m/out {bundle.root}'
    done = run_in(script, disc, words)
    assert done.returncode == 0, done.stderr + done.stdout


@needs_root
def test_a_part_file_that_ends_in_a_block_goes_on_past_the_page_cache(
    server: LyingServer, tmp_path: Path
) -> None:
    data = BLOBS[-1]
    folder = tmp_path / "m" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    length = BUFFER_BYTES + 4096 + 5
    (folder / f"{Digest.of_bytes(data).hex}.part").write_bytes(data[:length])
    done = subprocess.run(
        command(server, tmp_path / "m"),
        env={**os.environ, "PYTHONPATH": "bundle"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"0 {len(BLOBS)}\n"
    assert (folder / Digest.of_bytes(data).hex).read_bytes() == data
    (seen,) = server.requests_to(f"/{len(BLOBS) - 1}")
    assert seen.headers["Range"] == f"bytes={length}-"


def test_a_write_that_fails_is_one_clear_error_and_the_next_run_goes_on(
    server: LyingServer, tmp_path: Path
) -> None:
    words = command(server, tmp_path)
    limited = ["sh", "-c", 'ulimit -f 4096; exec "$@"', "sh", *words]  # 2 MiB, in blocks of 512
    environment = {**os.environ, "PYTHONPATH": "bundle"}
    failed = subprocess.run(
        limited, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    error = json.loads(failed.stdout)
    assert (failed.returncode, error["code"]) == (6, "no-room")
    assert "goes on where it stopped" in error["hint"]
    before = len(server.seen)
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith(f" {len(BLOBS)}\n")
    left = len(BLOBS) - int(done.stdout.split()[0])
    assert len(server.seen) - before <= left  # nothing that was finished is asked for
    for data in BLOBS:
        digest = Digest.of_bytes(data).hex
        assert (tmp_path / "blobs/sha256" / digest).read_bytes() == data
