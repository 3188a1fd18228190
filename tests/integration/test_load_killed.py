"""`perimeter-install load` killed again and again by SIGKILL: what a repository of the registry
already gives out is never sent again, and in the end every name resolves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from benchmarks import ours
from tests.support.bundles import SmallBundle, make_bundle
from tests.support.distribution import Distribution
from tests.support.large_bundles import add_image
from tests.support.lines import Request, proxy

from perimeter_bundle.format.verify import open_bundle
from perimeter_installer.load.load import bundle_content

# each life ends when it begins to send that blob; 0: before the first
KILLS = (0, 1, 2, 3, 2, 1, 3, 2)
DEADLINE_S = 60


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    made = make_bundle(tmp_path / "bundle")
    add_image(made, "quay.io/test/large:1", layer_bytes=[5 << 20, *[1 << 20] * 6, *[9000] * 12])
    return made


def start(bundle: SmallBundle, url: str, site: Path) -> subprocess.Popen[bytes]:
    words = ["--site", str(site / "site.yaml"), "--bundle", str(bundle.root)]
    words += ["--trust", str(bundle.trust_folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load_process", url, *words],
        env={**os.environ, **ours.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_load_killed_again_and_again_sends_nothing_twice(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    needs = bundle_content(open_bundle(bundle.root, bundle.trust)).blobs
    wanted = {(name, need.digest.hex) for need in needs for name in need.names}
    ours.write_site(tmp_path / "site", "https://registry.example", "")
    asked: list[Request] = []
    reached = threading.Event()
    last: int | None = None

    def watch(request: Request) -> None:
        asked.append(request)
        begun = [one for one in asked if stored_by(one)]
        if last is not None and len(begun) >= last and not reached.is_set():
            reached.set()
            dead.wait(DEADLINE_S)  # nothing passes meanwhile

    with Distribution(tmp_path / "registry", plain=True) as registry:
        begun: list[int] = []
        with proxy(registry.port, watch) as url:
            for last in (*KILLS, None):
                dead = threading.Event()
                before = registry.linked()
                asked.clear()
                reached.clear()
                process = start(bundle, url, tmp_path / "site")
                if last is not None:
                    assert reached.wait(DEADLINE_S), "it ended before it could be killed"
                    process.kill()
                assert process.wait(DEADLINE_S) == (0 if last is None else -signal.SIGKILL)
                dead.set()
                found = {blob for request in list(asked) if (blob := stored_by(request))}
                assert not found & before
                begun.append(len(found))
        assert wanted <= registry.linked()
        assert len([count for count in begun if count]) > 5
        with proxy(registry.port, watch) as url:
            asked.clear()
            assert start(bundle, url, tmp_path / "site").wait(DEADLINE_S) == 0
        assert {request.method for request in asked} == {"GET", "HEAD"}


def stored_by(request: Request) -> tuple[str, str] | None:
    """Repository and digest of the blob that a request brings."""
    place = urlsplit(request.path)
    digest = parse_qs(place.query).get("digest")
    if not digest or "/blobs/uploads/" not in place.path:
        return None
    name = place.path.removeprefix("/v2/").partition("/blobs/uploads/")[0]
    return name, digest[0].removeprefix("sha256:")
