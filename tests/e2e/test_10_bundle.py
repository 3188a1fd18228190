"""On the connected side: plan, lock, build, sign, verify, against a real upstream over TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from tests.e2e.conftest import UpstreamLog
from tests.lab.scenario import BUILDER_VENV, BUNDLE_AT_BUILDER, LOCK, PUBLIC_KEY, RELEASE, Scenario
from tests.lab.scenario import UPSTREAM_CA as CA
from tests.lab.upstream_faults import Fault

pytestmark = pytest.mark.lab


def test_plan_without_a_lock_reads_charts_and_fetches_no_blob(
    builder: Scenario, upstream_log: UpstreamLog
) -> None:
    done = builder.bundle("plan", RELEASE, "--ca-file", CA, "--no-lock", "--json")
    plan = json.loads(done.stdout)
    assert plan["release"] == RELEASE
    # what is rendered must be read; no image's blob and no program is
    fetched = upstream_log.downloads()
    assert fetched and all("/blobs/" not in path for path in fetched), fetched
    assert {path.rpartition("/")[2] for path in fetched} == {"flannel.tgz", "minio-5.4.0.tgz"}


def test_build_refuses_a_lock_without_digests(builder: Scenario) -> None:
    unresolved = "/srv/unresolved.lock"
    builder.bundle("lock", RELEASE, "--unresolved", "--out", unresolved, "--ca-file", CA)
    done = builder.bundle(
        "build", RELEASE, "--lock", unresolved, "--out", "/srv/refused",
        "--ca-file", CA, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "perimeter-bundle lock" in done.stderr
    assert builder.lab.node("builder").run(["test", "-e", "/srv/refused"], check=False).returncode


def test_lock_is_the_same_twice(locked: Scenario) -> None:
    again = "/srv/again.lock"
    locked.bundle("lock", RELEASE, "--ca-file", CA, "--out", again)
    locked.lab.node("builder").run(["cmp", LOCK, again])


def test_lock_takes_the_control_plane_from_kubeadm(locked: Scenario) -> None:
    lock = locked.lab.node("builder").run(["cat", LOCK]).stdout
    for name in (
        "kube-apiserver:v1.34.4",
        "etcd:3.6.5-0",
        "coredns/coredns:v1.12.1",
        "pause:3.10.1",
    ):
        assert f'reference = "registry.k8s.io/{name}"' in lock


def test_minio_is_compiled_on_a_builder_without_go(locked: Scenario) -> None:
    assert locked.lab.node("builder").run("command -v go", check=False).returncode != 0
    done = locked.bundle("why", "minio/minio", "--lock", LOCK, "--json")
    (image,) = json.loads(done.stdout)["images"]
    assert image["compiled"]["toolchain"].startswith("go1.26.")
    assert "busybox:1.37.0-musl@sha256:" in image["compiled"]["base"]
    assert {name.rpartition(":")[0] for name in image["compiled"]["with"]} == {
        f"perimeter.internal/files/minio/minio-{kind}" for kind in ("source", "sbom", "provenance")
    }


def test_build_goes_on_after_sigkill(locked: Scenario, upstream_log: UpstreamLog) -> None:
    builder = locked.lab.node("builder")
    argv = (
        f"{BUILDER_VENV}/bin/perimeter-bundle build {RELEASE} --lock {LOCK} "
        f"--out {BUNDLE_AT_BUILDER} --ca-file {CA}"
    )
    builder.run(f"nohup setsid {argv} >/srv/killed.log 2>&1 & echo $! >/srv/killed.pid",
                env=locked.builder_environment())  # fmt: skip
    count = f"ls {BUNDLE_AT_BUILDER}/blobs/sha256 2>/dev/null | grep -c '^[0-9a-f]*$' || true"
    finished: set[str] = set()
    for _ in range(600):
        if int(builder.run(count).stdout or 0) >= 12:
            builder.run("kill -9 $(cat /srv/killed.pid)", check=False)
            listing = builder.run(f"ls {BUNDLE_AT_BUILDER}/blobs/sha256").stdout.split()
            finished = {name for name in listing if len(name) == 64}
            break
        time.sleep(0.1)
    assert len(finished) >= 12, builder.run("cat /srv/killed.log").stdout
    upstream_log.mark()
    locked.build()
    again = {key.rpartition("sha256:")[2] for key in upstream_log.downloads()}
    assert not finished & again


def test_finished_bundle_is_not_fetched_again(bundle: Scenario, upstream_log: UpstreamLog) -> None:
    bundle.build()
    assert not upstream_log.downloads()


def test_same_lock_gives_the_same_bytes(bundle: Scenario) -> None:
    builder = bundle.lab.node("builder")
    builder.run(f"mkdir -p /srv/second && cp -a {BUNDLE_AT_BUILDER}/blobs /srv/second/blobs")
    bundle.bundle("build", RELEASE, "--lock", LOCK, "--out", "/srv/second-build", "--ca-file", CA)
    builder.run(f"cmp {BUNDLE_AT_BUILDER}/SHA256SUMS /srv/second-build/SHA256SUMS")
    builder.run("rm -rf /srv/second /srv/second-build")


def test_moved_tag_is_refused(bundle: Scenario, faults: Callable[..., None]) -> None:
    lock = bundle.lab.node("builder").run(["cat", LOCK]).stdout
    other = (
        lock.split('reference = "docker.io/library/busybox:')[1]
        .split("linux/amd64 ")[1]
        .split('"')[0]
    )
    faults(Fault("tag", host="quay.io", path=r".*/minio/mc/manifests/RELEASE.*", digest=other))
    done = bundle.bundle(
        "build", RELEASE, "--lock", LOCK, "--out", "/srv/moved", "--ca-file", CA, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "quay.io/minio/mc" in done.stderr
    bundle.lab.node("builder").run("rm -rf /srv/moved")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("status", host="ghcr.io", path=r"/v2/.*", status=503), "503"),
        (Fault("status", host="ghcr.io", path=r"/v2/.*", status=429), "429"),
        (Fault("corrupt", host="ghcr.io", path=r".*/blobs/.*", after_bytes=10), "sha256:"),
    ],
    ids=["503", "429", "corrupt"],
)
def test_registry_that_never_recovers_ends_in_one_clear_error(
    bundle: Scenario, faults: Callable[..., None], fault: Fault, words: str
) -> None:
    faults(fault)
    done = bundle.bundle(
        "build", RELEASE, "--lock", LOCK, "--out", "/srv/broken", "--ca-file", CA, check=False
    )
    assert done.returncode in (3, 4), done.stderr
    assert done.stderr.count("error[") == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    bundle.lab.node("builder").run("rm -rf /srv/broken")


def test_registry_that_recovers_is_waited_for(
    bundle: Scenario, faults: Callable[..., None]
) -> None:
    faults(
        Fault("status", host="ghcr.io", path=r".*/blobs/.*", status=503, times=1),
        Fault("status", host="quay.io", path=r".*/blobs/.*", status=429, retry_after="1", times=1),
        Fault("truncate", host="docker.io", path=r".*/blobs/.*", after_bytes=1000, times=1),
    )
    bundle.bundle("build", RELEASE, "--lock", LOCK, "--out", "/srv/patient", "--ca-file", CA)
    bundle.lab.node("builder").run("rm -rf /srv/patient")


def test_full_disc_while_building_is_named_and_room_lets_it_go_on(bundle: Scenario) -> None:
    builder = bundle.lab.node("builder")
    builder.run("mkdir -p /srv/small && mount -t tmpfs -o size=120m tmpfs /srv/small")
    arguments = ("build", RELEASE, "--lock", LOCK, "--out", "/srv/small/b", "--ca-file", CA)
    try:
        done = bundle.bundle(*arguments, check=False)
        assert done.returncode == 6, done.stderr
        assert "room" in done.stderr
        builder.run("mount -o remount,size=4g /srv/small")
        bundle.bundle(*arguments)
    finally:
        builder.run("umount -l /srv/small")


def test_inspect_lists_the_licence_of_everything(bundle: Scenario) -> None:
    done = bundle.bundle("inspect", BUNDLE_AT_BUILDER, "--json")
    items = json.loads(done.stdout)["items"]
    assert all(item["licence"] for item in items)
    assert {"AGPL-3.0-only", "Apache-2.0"} <= {item["licence"] for item in items}


def test_verify_accepts_the_trusted_key_alone(bundle: Scenario) -> None:
    bundle.bundle("verify", BUNDLE_AT_BUILDER, "--trust", PUBLIC_KEY)
    bundle.bundle("keygen", "--out", "/srv/keys/stranger.key", check=False)
    done = bundle.bundle(
        "verify", BUNDLE_AT_BUILDER, "--trust", "/srv/keys/stranger.pub", check=False
    )
    assert done.returncode == 5, done.stderr
