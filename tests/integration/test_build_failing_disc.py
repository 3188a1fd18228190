"""`perimeter-bundle build` onto a disc that takes every write and loses some of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.images import single_image
from tests.support.mini_upstream import mini_upstream, tls_server

KIB = 1024
# below what is written past the page cache, so that only the flush can find out
LAYERS = [random.Random(f"layer {n}").randbytes(900 * KIB) for n in range(12)]

# The image lies on a file system with less room than it promises: where that is full, the loop
# device fails like a disc does. What the file system needs for itself is written before, so that
# it loses bytes of files only. $1 is a folder, the rest is the command.
SCRIPT = """
folder=$1; shift
mkdir "$folder/below" "$folder/disc"
mount -t tmpfs -o size=9m tmpfs "$folder/below"
truncate -s 500M "$folder/below/image"
mkfs.ext4 -q -m 0 -N 3000 -O ^has_journal -E nodiscard,lazy_itable_init=0 "$folder/below/image"
mount -o loop "$folder/below/image" "$folder/disc"
mkdir -p "$folder/disc/out/.perimeter-build" "$folder/disc/out/blobs/sha256"
cd "$folder/disc/out/blobs/sha256"; seq 200 | xargs touch; sync -f .; rm *; sync -f .
cd "$OLDPWD"
"$@" || echo "status $?"
mount -o remount,size=90m "$folder/below"
"$@"
umount "$folder/disc"
mount -o loop,ro "$folder/below/image" "$folder/disc"
cd "$folder/disc/out"
sha256sum --check --quiet SHA256SUMS && echo "every sum is right"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs file systems of its own")
def test_what_a_failing_disc_lost_is_fetched_again_in_the_same_boot(tmp_path: Path) -> None:
    server, ca_file = tls_server(tmp_path / "tls")
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        mini.serve_image("example/control-plane", "1.0", single_image(layers=LAYERS))
        lock = tmp_path / "images.lock"
        lock.write_bytes(mini.lock().to_bytes())
        words = [
            *(sys.executable, "-m", "tests.support.build_process", str(mini.requirements)),
            *("mini", "--out", str(tmp_path / "disc/out"), "--lock", str(lock), "--json"),
            *("--catalog", str(mini.catalog_root), "--ca-file", str(ca_file)),
        ]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", SCRIPT, "sh", str(tmp_path), *words],
            env={**os.environ, **mini.pip_environment, "PYTHONPATH": "bundle:installer:."},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    first, rest = done.stdout.split("status 6\n")
    assert json.loads(first)["error"]["code"] in ("no-room", "disc-error")
    assert "run the same command again" in json.loads(first)["error"]["hint"]
    # the build ran on after room was made, and what it says is there is on the disc
    assert '"release": "mini"' in rest
    assert rest.endswith("every sum is right\n")
    assert "held other bytes than its name says; it is fetched again" in done.stderr
