"""`perimeter-bundle build` killed at ten moments of its way, each time by SIGKILL: nothing that was
finished is fetched again, what was half there goes on, and the bundle is the same in the end."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.images import single_image
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.format import layout
from perimeter_bundle.model.digest import Digest

MIB = 1 << 20
LAYERS = [random.Random(f"layer {n}").randbytes(2 * MIB + n * 300_000) for n in range(8)]
PAUSE_S = 0.008  # for each 64 KiB of a connection: seconds for all layers
DEADLINE_S = 60


@pytest.fixture
def mini(tmp_path: Path) -> Iterator[MiniUpstream]:
    server, ca_file = tls_server(tmp_path / "tls")
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        mini.serve_image("example/control-plane", "1.0", single_image(layers=LAYERS))
        (tmp_path / "images.lock").write_bytes(mini.lock().to_bytes())
        gc.collect()  # closes the connections of lock
        server.pause_s = PAUSE_S
        yield mini


def start(mini: MiniUpstream, out: Path) -> subprocess.Popen[bytes]:
    words = [
        *("mini", "--out", str(out), "--lock", str(out.parent / "images.lock"), "--workers", "2"),
        *("--catalog", str(mini.catalog_root), "--ca-file", str(mini.ca_file)),
    ]
    mini.server.seen.clear()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.build_process", str(mini.requirements), *words],
        env={**os.environ, **mini.pip_environment, "PYTHONPATH": "bundle:installer:."},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def blobs(out: Path) -> Path:
    return out / layout.BLOBS / "sha256"


def finished(out: Path) -> set[str]:
    return {path.name for path in blobs(out).glob("?" * 64)}


def halves(out: Path) -> dict[str, int]:
    """Bytes in the file of each transfer that was under way, by digest."""
    return {path.stem: path.stat().st_size for path in blobs(out).glob("*.part")}


def fetched(mini: MiniUpstream) -> dict[str, int]:
    """Digest of each blob and file that was asked for, and from which byte on."""
    asked = {}
    for seen in mini.server.seen:
        if seen.method == "GET" and ("/blobs/" in seen.path or seen.path.startswith("/files/")):
            digest = Digest.of_bytes(mini.server.files[seen.path].data).hex
            assert digest not in asked, f"{seen.path} was asked for twice in one run"
            asked[digest] = int(seen.headers.get("Range", "bytes=0-")[6:-1])
    return asked


def contents(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }


def test_a_build_killed_ten_times_fetches_nothing_twice(mini: MiniUpstream, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sent_before = 0

    def sent(mebibytes: float) -> Callable[[], bool]:
        return lambda: mini.server.sent_bytes - sent_before > mebibytes * MIB

    def is_there(*names: str) -> Callable[[], bool]:
        return lambda: any((out / name).exists() for name in names)

    moments = [
        lambda: bool(mini.server.seen),
        *map(sent, (0.01, 3.6, 4.5, 3.3, 3.9, 4.2)),
        is_there(layout.DISCOVERY),  # all is fetched; charts are rendered, kubeadm is asked
        is_there(layout.CONTENT),
        is_there(layout.BUNDLE_MANIFEST, layout.VERIFY_SCRIPT),
    ]
    half_ones = 0
    for reached in moments:
        there, half = finished(out), halves(out)
        sent_before = mini.server.sent_bytes
        process = start(mini, out)
        deadline_s = time.monotonic() + DEADLINE_S
        while process.poll() is None and not reached():
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        assert process.poll() is None, "the build ended before it could be killed"
        process.kill()
        process.wait()
        while mini.server.connections:  # what it had asked for is noted before the next begins
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        half_ones += check_fetched(fetched(mini), there, half)
    there, half = finished(out), halves(out)
    assert start(mini, out).wait(DEADLINE_S) == 0
    half_ones += check_fetched(fetched(mini), there, half)
    assert half_ones >= 3
    whole = tmp_path / "whole"
    mini.server.pause_s = 0
    assert start(mini, whole).wait(DEADLINE_S) == 0
    assert contents(out) == contents(whole)


def check_fetched(asked: dict[str, int], there: set[str], half: dict[str, int]) -> int:
    """How many transfers went on in the middle; nothing in ``there`` may have been asked for."""
    assert not asked.keys() & there
    assert {digest: half.get(digest, 0) for digest in asked} == asked
    return len([start for start in asked.values() if start])
