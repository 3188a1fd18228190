"""A whole small bundle: locked, built, interrupted, lied to. Real HTTPS, pip, helm, hatchling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.images import index_image
from tests.support.lying_server import Lie
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.collect.workspace import open_workspace
from perimeter_bundle.format import layout
from perimeter_bundle.format.discovery_file import parse_discovery
from perimeter_bundle.format.manifest import BundleManifest, ItemKind
from perimeter_bundle.format.oci import OciIndex
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, NetworkError
from perimeter_bundle.model.lock import Lock


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def mini(tls_folder: Path, tmp_path: Path) -> Iterator[MiniUpstream]:
    server, ca_file = tls_server(tls_folder)
    with server:
        yield mini_upstream(server, tmp_path, ca_file)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_lock_pins_everything_and_fetches_no_layer(mini: MiniUpstream) -> None:
    lock = mini.lock()
    assert lock.unresolved() == ()
    assert {str(image.reference): str(image.digest) for image in lock.images} == {
        f"{mini.host}/example/control-plane:1.0": str(mini.control_plane.digest),
        f"{mini.host}/example/shop:1.0": str(mini.image.digest),
        f"{mini.host}/example/zcopy:1.0": str(index_image(attestation=False).digest),
    }
    assert "kubeadm v9.9.9 asks for it" in lock.images[0].why[0]
    assert [file.name for file in lock.files] == ["kubeadm", "plain", "shopctl", "extra"]
    # the configuration of an image without an index tells its platform
    layers = [path for path in mini.blob_requests() if "/blobs/" in path]
    assert layers == [f"/v2/example/control-plane/blobs/{next(iter(mini.control_plane.blobs))}"]
    # a published checksum makes fetching needless
    assert "/files/shopctl-1.0-amd64" not in mini.blob_requests()


def test_lock_of_the_same_upstream_is_the_same(mini: MiniUpstream) -> None:
    assert mini.lock().to_bytes() == mini.lock().to_bytes()


def test_build_gives_a_bundle_that_verifies(mini: MiniUpstream, tmp_path: Path) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    result = mini.build(lock, out)
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    assert bundle.identity == result.identity
    assert not (out / layout.BUILD_FOLDER).exists()
    assert bundle.read(layout.LOCK) == lock.to_bytes()
    names = {item.name for item in bundle.manifest.items if item.kind.in_index}
    assert names == {
        f"{mini.host}/example/control-plane:1.0",
        f"{mini.host}/example/shop:1.0",
        f"{mini.host}/example/zcopy:1.0",
        "perimeter.internal/charts/shop:1.2.3",
        "perimeter.internal/files/cluster/kubeadm:v9.9.9-amd64",
        "perimeter.internal/files/shop/plain:1.0",
        "perimeter.internal/files/shop/shopctl:1.0-amd64",
        "perimeter.internal/manifests/shop/extra:1.0",
    }
    rendered = bundle.read(f"{layout.RENDERED}/shop/shop.yaml").decode()
    assert f"image: '{mini.host}/example/shop:1.0'" in rendered
    assert (out / layout.CATALOG / "shop" / "values.yaml").read_text() == "replicas: 2\n"
    assert (out / layout.CATALOG / "releases" / "mini.yaml").is_file()


def test_bundle_json_names_source_licence_and_reason_of_everything(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    manifest = mini.build(mini.lock(), tmp_path / "out").manifest
    assert all(item.licence and item.source and item.why for item in manifest.items)
    shop = manifest.find(f"{mini.host}/example/shop:1.0")
    assert (shop.licence, shop.why, shop.platforms) == (
        "GPL-2.0-only",
        (
            "shop: container-image: shop/extra: Pod/crds spec.containers[0].image",
            "shop: it sells",
        ),
        ("linux/amd64",),
    )
    assert manifest.find("perimeter.internal/files/shop/plain:1.0").licence == "0BSD"
    kinds = [item.kind for item in manifest.items]
    assert kinds.count(ItemKind.WHEEL) == 3  # tiny, pip and perimeter itself
    collections = manifest.items_of(ItemKind.COLLECTION)
    assert [item.name for item in collections] == [
        "content/collections/ansible_collections/ansible/posix",
        "content/collections/ansible_collections/kubernetes/core",
    ]
    assert not list((tmp_path / "out").rglob("test_one.py"))
    assert not list((tmp_path / "out").rglob("ansible-1.0*.whl"))


def test_two_builds_of_one_lock_give_the_same_bytes(mini: MiniUpstream, tmp_path: Path) -> None:
    lock = mini.lock()
    first, second = tmp_path / "first", tmp_path / "second"
    assert mini.build(lock, first).identity == mini.build(lock, second).identity
    assert tree(first) == tree(second)


def test_only_the_locked_platform_is_carried_and_the_index_stays(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    mini.build(mini.lock(), tmp_path / "out")
    blobs = {path.name for path in (tmp_path / "out" / "blobs" / "sha256").iterdir()}
    assert mini.image.digest.hex in blobs
    assert Digest.of_bytes(b"layer for linux/amd64").hex in blobs
    assert Digest.of_bytes(b"layer for linux/arm64").hex not in blobs


def test_a_second_build_of_a_finished_bundle_fetches_nothing(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    first = mini.build(lock, out)
    mini.server.seen.clear()
    assert mini.build(lock, out).identity == first.identity
    assert mini.server.seen == []


def test_a_finished_bundle_is_not_built_over_with_other_content(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    mini.build(lock, out)
    (mini.catalog_root / "shop" / "values.yaml").write_text("replicas: 3\n")
    with pytest.raises(InputError) as caught:
        mini.build(lock, out)
    assert caught.value.code == "already-built"
    assert caught.value.problems == ("content/manifests/shop/values.yaml differs",)


def test_a_finished_bundle_that_was_damaged_is_not_called_finished(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    mini.build(lock, out)
    (out / layout.INDEX).write_bytes(b"{}")
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, out)
    assert caught.value.code == "digest-mismatch"


@pytest.mark.parametrize("what", ["layer", "manifest"])
def test_a_finished_bundle_with_a_blob_of_another_size_is_not_called_finished(
    mini: MiniUpstream, tmp_path: Path, what: str
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    mini.build(lock, out)
    layer = Digest.of_bytes(b"layer for linux/amd64")
    index = OciIndex.parse((out / layout.INDEX).read_bytes())
    damaged = layer if what == "layer" else index.manifests[0].digest
    with (out / layout.blob_path(damaged)).open("ab") as file:
        file.write(b" ")
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, out)
    assert caught.value.code == "not-whole"
    assert str(damaged) in caught.value.problems[0]


def test_other_bytes_of_the_same_size_in_a_finished_bundle_are_found_by_deep(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    identity = mini.build(lock, out).identity
    path = layout.blob_path(Digest.of_bytes(b"layer for linux/amd64"))
    (out / path).write_bytes(b"LAYER for linux/amd64")
    assert mini.build(lock, out).identity == identity
    with pytest.raises(IntegrityError, match="not the bytes that were signed") as caught:
        mini.build(lock, out, deep=True)
    assert path in str(caught.value)


# --- refused before anything is done ---------------------------------------------------------


def test_an_unresolved_lock_is_refused_and_names_the_command(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    open_lock = replace(lock, charts=(replace(lock.charts[0], digest=None),))
    with pytest.raises(InputError) as caught:
        mini.build(open_lock, tmp_path / "out")
    assert caught.value.code == "lock-unresolved"
    assert caught.value.problems == ("perimeter.internal/charts/shop:1.2.3",)
    assert caught.value.hint == "run perimeter-bundle lock mini"
    assert not (tmp_path / "out").exists()


def test_a_lock_of_another_catalog_is_refused_with_every_difference(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    moved = replace(lock.files[0], url="https://elsewhere.example/kubeadm")
    other = replace(lock, number=4, files=(moved, *lock.files[2:]), images=lock.images[::2])
    with pytest.raises(InputError) as caught:
        mini.build(other, tmp_path / "out")
    assert caught.value.code == "lock-mismatch"
    assert list(caught.value.problems) == [
        "number: the lock says 4, the release 3",
        f"{mini.host}/example/shop:1.0 is in the catalog, not in the lock",
        "perimeter.internal/files/shop/plain:1.0 is in the catalog, not in the lock",
        "perimeter.internal/files/cluster/kubeadm:v9.9.9-amd64: the lock has it from "
        f"https://elsewhere.example/kubeadm, the catalog from {mini.server.url}/files/kubeadm",
    ]


@pytest.mark.parametrize("name", ["notes.txt", "blobs", "oci-layout", ".hidden"])
def test_a_folder_that_is_not_ours_is_refused(
    mini: MiniUpstream, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(InputError) as caught:
        mini.build(mini.lock(), out)
    assert caught.value.code == "out-not-ours"
    assert (out / name).read_text() == "mine"
    assert len(list(out.iterdir())) == 1


def test_two_builds_in_one_folder_are_refused(mini: MiniUpstream, tmp_path: Path) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    with open_workspace(out, lock, lock.to_bytes()), pytest.raises(HostError) as caught:
        mini.build(lock, out)
    assert caught.value.code == "busy"


def test_a_tag_that_moved_is_refused_unless_the_check_is_skipped(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    mini.serve_image("example/shop", "1.0", index_image(("linux/amd64",)))
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, tmp_path / "out")
    assert caught.value.code == "tag-moved"
    assert f"{mini.host}/example/shop:1.0: locked {mini.image.digest}" in caught.value.problems[0]
    assert mini.blob_requests().count("/files/plain.bin") == 1  # by lock alone
    result = mini.build(lock, tmp_path / "out", skip_tag_check=True)
    assert result.manifest.find(f"{mini.host}/example/shop:1.0").digest == mini.image.digest


def test_an_image_that_only_a_chart_names_is_locked_and_carried_with_its_place(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    mini.serve_image("example/hidden", "2.0", index_image(("linux/amd64",)))
    values = mini.catalog_root / "shop" / "values.yaml"
    values.write_text(f"image: {mini.host}/example/hidden:2.0\n")
    lock = mini.lock()
    hidden = next(i for i in lock.images if i.reference.repository == "example/hidden")
    assert hidden.components == ("shop",)
    assert "container-image: shop/" in hidden.why[0]
    result = mini.build(lock, tmp_path / "out")
    assert result.manifest.find(str(hidden.reference)).digest == hidden.digest
    noted = parse_discovery((tmp_path / "out" / layout.DISCOVERY).read_bytes())
    assert hidden.reference in [one.image for one in noted.images]


def test_a_string_that_nobody_can_explain_is_refused(mini: MiniUpstream) -> None:
    values = mini.catalog_root / "shop" / "values.yaml"
    values.write_text("image: quay.io/example/${UNSET}:1\n")
    with pytest.raises(InputError) as caught:
        mini.lock()
    assert caught.value.code == "unclassified"
    assert "'quay.io/example/${UNSET}:1': no value for UNSET" in caught.value.problems[0]


def test_a_kubeadm_that_asks_for_more_than_is_locked_is_refused(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    images = tuple(i for i in lock.images if "control-plane" not in str(i.reference))
    with pytest.raises(InputError) as caught:
        mini.build(replace(lock, images=images), tmp_path / "out")
    assert caught.value.code == "lock-mismatch"
    assert list(caught.value.problems) == [
        f"{mini.host}/example/control-plane:1.0 is needed, not locked"
    ]


# --- upstream lies ---------------------------------------------------------------------------


def test_a_layer_with_other_bytes_is_refused_and_not_kept(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    digest = Digest.of_bytes(b"layer for linux/amd64")
    path = f"/v2/example/shop/blobs/{digest}"
    mini.server.lie(path, *[Lie(body=b"layer for linux/evil!")] * 3)
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, out)
    assert caught.value.code == "digest-mismatch"
    assert not (out / layout.blob_path(digest)).exists()


def test_a_file_that_changed_since_the_lock_is_refused(mini: MiniUpstream, tmp_path: Path) -> None:
    lock = mini.lock()
    mini.server.serve("/files/plain.bin", b"NO checksum is published" * 100)
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, tmp_path / "out")
    assert caught.value.code == "digest-mismatch"
    assert "perimeter.internal/files/shop/plain:1.0" in caught.value.message


def test_a_chart_that_is_not_what_its_index_promises_is_refused(mini: MiniUpstream) -> None:
    mini.server.serve("/charts/shop-1.2.3.tgz", b"other bytes")
    with pytest.raises(IntegrityError) as caught:
        mini.lock()
    assert caught.value.code == "digest-mismatch"


def test_a_server_that_is_gone_ends_in_one_clear_error(mini: MiniUpstream, tmp_path: Path) -> None:
    lock = mini.lock()
    mini.server.lie("/files/plain.bin", *[Lie(status=503)] * 20)
    with pytest.raises(NetworkError) as caught:
        mini.build(lock, tmp_path / "out")
    assert caught.value.code == "server-error"


def test_a_wheel_with_other_bytes_is_refused(mini: MiniUpstream, tmp_path: Path) -> None:
    lock = mini.lock()
    wheel = mini.folder / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(IntegrityError) as caught:
        mini.build(lock, tmp_path / "out")
    assert caught.value.code == "digest-mismatch"
    assert "wheels for Python 3.11" in caught.value.message


def test_a_package_that_is_not_to_be_had_as_a_wheel_is_told(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    (mini.folder / "wheels" / "tiny-1.0-py3-none-any.whl").unlink()
    with pytest.raises(HostError) as caught:
        mini.build(lock, tmp_path / "out")
    assert caught.value.code == "tool-failed"
    assert "No matching distribution found for tiny==1.0" in "\n".join(caught.value.problems)
    assert "pip config list" in str(caught.value.hint)


# --- interrupted -----------------------------------------------------------------------------


BUILD = """
import sys
from pathlib import Path
from tests.support.lying_server import LyingServer
from tests.support.mini_upstream import MiniUpstream
from perimeter_bundle.collect.build import BuildRequest, build_bundle
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.model.events import ignore_events
mini = MiniUpstream(None, Path(sys.argv[1]), Path(sys.argv[2]), None, None)
request = BuildRequest(
    mini.release(), mini.catalog(), Path(sys.argv[3]).read_bytes(), Path(sys.argv[4]),
    mini.pip_environment, requirements=mini.requirements,
)
build_bundle(request, open_upstream(mini.settings()), ignore_events)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_was_killed_goes_on_without_fetching_again(
    mini: MiniUpstream, tmp_path: Path, how: signal.Signals
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    (tmp_path / "images.lock").write_bytes(lock.to_bytes())
    path = f"/v2/example/shop/blobs/{Digest.of_bytes(b'layer for linux/amd64')}"
    mini.server.lie(path, Lie(stall_after=7))
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, tmp_path, mini.ca_file, tmp_path / "images.lock", out],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    assert mini.server.stalled.wait(30)
    time.sleep(0.3)  # the other worker finishes what it has
    process.send_signal(how)
    process.wait(30)
    finished = {path.name for path in (out / "blobs" / "sha256").iterdir() if len(path.name) == 64}
    assert finished
    mini.server.seen.clear()
    mini.build(lock, out)
    again = {path.rpartition(":")[2] for path in mini.blob_requests() if "/blobs/" in path}
    assert not again & finished
    assert path in mini.blob_requests()
    rest = [seen for seen in mini.server.requests_to(path) if seen.method == "GET"]
    # SIGKILL takes what has not filled a buffer yet; anything else leaves it in the part file
    assert rest[0].headers.get("Range") == ("bytes=7-" if how is signal.SIGINT else None)
    reference = tmp_path / "reference"
    mini.build(lock, reference)
    assert tree(out) == tree(reference)


def test_a_build_cut_off_just_before_the_end_is_finished_by_the_next(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    whole = mini.build(lock, out)
    for name in (layout.SUMS, layout.VERIFY_SCRIPT):
        (out / name).unlink()
    mini.server.seen.clear()
    assert mini.build(lock, out).identity == whole.identity
    assert not any("/blobs/" in path for path in mini.blob_requests())


def test_what_an_older_lock_had_left_does_not_stay(mini: MiniUpstream, tmp_path: Path) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    (out / layout.BUILD_FOLDER).mkdir(parents=True)
    stale = out / layout.blob_path(Digest.of_bytes(b"stale"))
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"stale")
    stale.with_name("ab.part").write_bytes(b"half")
    mini.build(lock, out)
    assert not stale.exists()
    assert not list(out.rglob("*.part"))


def test_a_blob_that_was_damaged_on_disc_is_fetched_again(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock, out = mini.lock(), tmp_path / "out"
    (out / layout.BUILD_FOLDER).mkdir(parents=True)
    blob = out / layout.blob_path(Digest.of_bytes(b"layer for linux/amd64"))
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"layer for linux/AMD64")
    mini.build(lock, out)
    assert blob.read_bytes() == b"layer for linux/amd64"


# --- a full disc -----------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
@pytest.mark.parametrize("size_kib", [32, 2048], ids=["no-room-at-all", "too-small"])
def test_a_full_disc_is_one_clear_error_and_room_lets_it_go_on(
    mini: MiniUpstream, tmp_path: Path, size_kib: int
) -> None:
    lock, disc = mini.lock(), tmp_path / "disc"
    disc.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(disc)]
    subprocess.run(mount, check=True)
    try:
        with pytest.raises(HostError) as caught:
            mini.build(lock, disc / "out")
        assert caught.value.code == "no-room"
        subprocess.run(["mount", "-o", "remount,size=2g", str(disc)], check=True)
        mini.build(lock, disc / "out")
    finally:
        subprocess.run(["umount", "-l", str(disc)], check=True)


def test_lock_bytes_of_the_bundle_are_those_that_were_reviewed(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    reviewed = mini.lock().to_bytes() + b"# reviewed by A. Person\n"
    mini.build(reviewed, tmp_path / "out")
    assert (tmp_path / "out" / layout.LOCK).read_bytes() == reviewed
    assert Lock.parse(reviewed)
    document = json.loads((tmp_path / "out" / layout.BUNDLE_MANIFEST).read_bytes())
    assert BundleManifest.parse((tmp_path / "out" / layout.BUNDLE_MANIFEST).read_bytes())
    assert document["room"]["bundle_bytes"] >= sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
