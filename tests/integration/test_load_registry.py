"""Loading a bundle into real Distribution registries."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.bundles import BUSYBOX, MINIO, SmallBundle, make_bundle
from tests.support.distribution import Distribution, free_port
from tests.support.large_bundles import add_image
from tests.support.lines import Line
from tests.support.sites import make_site

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError, NetworkError, TrustError
from perimeter_bundle.model.events import Event, EventKind, ignore_events
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import bundle_content
from perimeter_installer.load.push import check_replica, fill_replica
from perimeter_installer.load.registry import PushClient
from perimeter_installer.load.report import ReplicaReport

_BLOBS = "docker/registry/v2/blobs/sha256"


@dataclass
class HalfDone:
    """A load under way."""

    process: subprocess.Popen[bytes]
    bundle: VerifiedBundle
    registry: Distribution


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distribution]:
    with Distribution(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def empty(registry: Distribution) -> Distribution:
    """The registry, emptied."""
    registry.stop()
    shutil.rmtree(registry.data)
    registry.data.mkdir()
    registry.start()
    return registry


@pytest.fixture
def bundle(tmp_path: Path) -> VerifiedBundle:
    made = make_bundle(tmp_path / "bundle")
    return open_bundle(made.root, made.trust)


def client_of(registry: Distribution, ca: str = "") -> PushClient:
    endpoint = RegistryEndpoint.parse("n1", registry.url, ca_pem=ca or registry.ca.certificate)
    return PushClient(endpoint, sleep=lambda seconds: None)


def load(
    bundle: VerifiedBundle, registry: Distribution, events: list[Event] | None = None
) -> ReplicaReport:
    client = client_of(registry)
    try:
        seen = events if events is not None else []
        return fill_replica(client, bundle_content(bundle), bundle.extents, seen.append)
    finally:
        client.close()


def test_every_name_resolves_to_the_bundles_digest_after_a_load(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    report = load(bundle, empty)

    assert report.changed and report.complete
    client = client_of(empty)
    items = [item for item in bundle.manifest.items if item.kind.in_index]
    assert len(items) == report.names == 6
    for item in items:
        reference = item.reference
        assert client.head_manifest(reference.name, reference.tag) == item.digest
        assert client.head_manifest(reference.name, str(item.digest)) == item.digest


def test_a_second_load_sends_nothing_and_says_so(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    first = load(bundle, empty)
    events: list[Event] = []
    second = load(bundle, empty, events)

    assert first.changed
    assert not second.changed
    assert (second.blobs_sent, second.blobs_mounted, second.manifests_stored) == (0, 0, 0)
    assert second.blobs_present == first.blobs_sent
    assert [(event.kind, event.message) for event in events] == [
        (EventKind.SKIP, "everything is there already")
    ]


def test_a_load_says_of_how_many_blobs_how_many_are_there(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    events: list[Event] = []
    report = load(bundle, empty, events)

    told = [one for one in events if one.kind in (EventKind.START, EventKind.PROGRESS)]
    total = len(bundle_content(bundle).blobs)
    assert report.blobs_mounted  # one linked into a second repository is one blob all the same
    assert {one.total_items for one in told} == {total}
    counts = [one.done_items or 0 for one in told]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, total)
    assert told[-1].done_bytes == told[-1].total_bytes == bundle_content(bundle).total_bytes


def test_the_rest_of_a_load_counts_only_what_is_missing(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    load(bundle, empty)
    image = bundle.manifest.find(MINIO).reference
    shutil.rmtree(empty.data / "docker/registry/v2/repositories" / image.name)
    empty.stop()
    empty.start()
    present = check_replica(client_of(empty), bundle_content(bundle)).blobs_present
    missing = len(bundle_content(bundle).blobs) - present
    events: list[Event] = []
    load(bundle, empty, events)

    assert missing and present
    last = [one for one in events if one.kind is EventKind.PROGRESS][-1]
    assert (last.done_items, last.total_items) == (missing, missing)


def test_a_blob_of_two_repositories_is_sent_once_and_linked(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    report = load(bundle, empty)

    shared = [need for need in bundle_content(bundle).blobs if len(need.names) > 1]
    assert shared  # the empty configuration of charts and files
    assert report.blobs_mounted == sum(len(need.names) - 1 for need in shared)
    assert report.blobs_sent == len(bundle_content(bundle).blobs)


def test_a_file_of_the_bundle_is_fetched_by_its_address(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    load(bundle, empty)

    (item,) = bundle.manifest.items_of(ItemKind.FILE)
    client = client_of(empty)
    url = client.endpoint.blob_url(item.reference.name, item.payload)
    path = client._wire.target(url) or ""
    data = client._wire.read(path, "fetch the file", lambda answer: answer.read())
    assert Digest.of_bytes(data or b"") == item.payload


def test_check_names_what_is_missing_and_sends_nothing(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    client = client_of(empty)
    before = check_replica(client, bundle_content(bundle))
    assert not before.complete
    assert MINIO in before.missing and len(before.missing) == 6
    assert before.missing_bytes == bundle_content(bundle).total_bytes
    assert empty.blobs() == set()

    load(bundle, empty)
    after = check_replica(client, bundle_content(bundle))
    assert after.complete and after.missing_bytes == 0


def test_a_tag_that_somebody_moved_is_put_right(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    load(bundle, empty)
    client = client_of(empty)
    minio, busybox = bundle.manifest.find(MINIO), bundle.manifest.find(BUSYBOX)
    data = bundle.blob(minio.payload).read_bytes()
    client.push_manifest(
        minio.reference.name,
        minio.reference.tag,
        "application/vnd.oci.image.manifest.v1+json",
        data,
    )
    assert client.head_manifest(minio.reference.name, minio.reference.tag) == minio.payload

    report = load(bundle, empty)

    assert report.manifests_stored == 1 and report.blobs_sent == 0
    assert client.head_manifest(minio.reference.name, minio.reference.tag) == minio.digest
    assert client.head_manifest(busybox.reference.name, "latest") == busybox.digest


def test_a_registry_that_refuses_a_sparse_index_gets_the_platform_and_it_is_reported(
    tmp_path: Path, bundle: VerifiedBundle
) -> None:
    with Distribution(tmp_path / "strict", sparse=False) as strict:
        events: list[Event] = []
        report = load(bundle, strict, events)

        assert report.without_index == (MINIO,)
        warnings = [event.message for event in events if event.kind is EventKind.WARNING]
        assert warnings == [
            f"n1 takes no index with missing platforms: {MINIO} stands for one platform there"
        ]
        minio = bundle.manifest.find(MINIO)
        found = client_of(strict).head_manifest(minio.reference.name, minio.reference.tag)
        assert found == minio.payload
        again = load(bundle, strict)
        assert not again.changed


def test_refuses_a_blob_that_changed_after_it_was_verified(
    empty: Distribution, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "changed")
    bundle = open_bundle(made.root, made.trust)
    (item,) = bundle.manifest.items_of(ItemKind.FILE)
    path = made.root / layout.blob_path(item.payload)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)

    with pytest.raises(IntegrityError, match="the bytes sent are not the digest's") as raised:
        load(bundle, empty)
    assert raised.value.code == "digest-mismatch"
    assert item.payload.hex not in empty.blobs()


def test_refuses_a_blob_that_was_cut_after_it_was_verified(
    empty: Distribution, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "cut")
    bundle = open_bundle(made.root, made.trust)
    (item,) = bundle.manifest.items_of(ItemKind.FILE)
    path = made.root / layout.blob_path(item.payload)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(IntegrityError, match="changed since the bundle was verified") as raised:
        load(bundle, empty)
    assert raised.value.code == "size-mismatch"


def test_refuses_a_manifest_that_changed_after_it_was_verified(
    empty: Distribution, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "changed")
    bundle = open_bundle(made.root, made.trust)
    content = bundle_content(bundle)
    path = made.root / layout.blob_path(bundle.manifest.find(BUSYBOX).digest)
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaVersioN"))

    with pytest.raises(IntegrityError, match="changed since the bundle was verified") as raised:
        fill_replica(client_of(empty), content, bundle.extents, lambda event: None)
    assert raised.value.code == "digest-mismatch"


def test_a_certificate_of_another_ca_is_refused(
    registry: Distribution, bundle: VerifiedBundle, tmp_path: Path
) -> None:
    other = Distribution(tmp_path / "other").ca
    client = client_of(registry, other.certificate)
    with pytest.raises(TrustError, match="the certificate of n1 is not the site's") as raised:
        fill_replica(client, bundle_content(bundle), bundle.extents, lambda event: None)
    assert raised.value.code == "registry-certificate"


def test_a_handshake_that_breaks_is_tried_again(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    with Line(empty.port, refuse_first=2).open() as line:
        endpoint = RegistryEndpoint.parse("n1", line.url, ca_pem=empty.ca.certificate)
        client = PushClient(endpoint, sleep=lambda seconds: None)
        try:
            fill_replica(client, bundle_content(bundle), bundle.extents, lambda event: None)
        finally:
            client.close()
    assert line.refuse_first == 0
    assert empty.blobs()


def test_nobody_answering_is_said_with_the_replicas_name(bundle: VerifiedBundle) -> None:
    endpoint = RegistryEndpoint.parse("n2", f"https://127.0.0.1:{free_port()}")
    client = PushClient(endpoint, sleep=lambda seconds: None)
    with pytest.raises(NetworkError, match="n2 did not answer: could not ask") as raised:
        fill_replica(client, bundle_content(bundle), bundle.extents, lambda event: None)
    assert raised.value.code == "registry-unreachable"
    assert "4" in raised.value.context["tries"] or "5" in raised.value.context["tries"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("more_bytes", [0, -1], ids=["just enough", "a byte too little"])
def test_too_little_room_is_refused_before_the_first_byte(more_bytes: int, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    add_image(made, "quay.io/test/large:1", layer_bytes=[3 << 20])
    bundle = open_bundle(made.root, made.trust)
    content = bundle_content(bundle)
    with Distribution(tmp_path / "registry") as registry:
        client = client_of(registry)
        free_bytes = content.total_bytes + more_bytes
        if more_bytes < 0:
            with pytest.raises(HostError, match="nothing was sent") as raised:
                fill_replica(client, content, bundle.extents, ignore_events, free_bytes=free_bytes)
            assert raised.value.code == "registry-full"
            assert registry.linked() == set()
            fill_replica(client, content, bundle.extents, ignore_events)
            free_bytes = 0  # nothing is missing now, so nothing is needed
        assert fill_replica(
            client, content, bundle.extents, ignore_events, free_bytes=free_bytes
        ).complete


def test_a_full_disc_of_the_registry_is_named_and_the_next_load_goes_on(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    add_image(made, "quay.io/test/large:1", layer_bytes=[6 << 20] * 4)
    bundle = open_bundle(made.root, made.trust)
    small = Distribution(tmp_path / "small")
    small.data.mkdir(parents=True)
    _mount(small.data, "size=16m")
    try:
        with small:
            with pytest.raises(HostError, match="no room on n1") as raised:
                load(bundle, small)
            assert raised.value.code == "registry-full"
            assert "make room" in (raised.value.hint or "")
            # a blob whose link found no room is stored but in no repository: it is sent again
            there = small.linked()

            _mount(small.data, "remount,size=64m")
            report = load(bundle, small)

            assert report.complete
            assert report.blobs_present == len(
                [
                    need
                    for need in bundle_content(bundle).blobs
                    if {(name, need.digest.hex) for name in need.names} <= there
                ]
            )
    finally:
        small.stop()
        subprocess.run(["umount", str(small.data)], check=True)


@pytest.fixture
def half_done(empty: Distribution, tmp_path: Path) -> Iterator[HalfDone]:
    """Another process that loads 100 MB and has sent some of it; the rest would take it long."""
    made = make_bundle(tmp_path / "bundle")
    add_image(made, "quay.io/test/large:1", layer_bytes=[8 << 20] * 12)
    line = Line(empty.port, slow_after=32 << 20)
    with line.open():
        yield from _half_done(made, line, empty, tmp_path)


def _half_done(
    made: SmallBundle, line: Line, empty: Distribution, tmp_path: Path
) -> Iterator[HalfDone]:
    site = make_site(tmp_path / "site", registry_url=line.url, registry_ca=empty.ca.certificate)
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from perimeter_bundle.format.trust import Trust\n"
        "from perimeter_bundle.format.verify import open_bundle\n"
        "from perimeter_installer.load.load import fill_registries\n"
        "from perimeter_installer.run.secrets import open_secrets\n"
        "from tests.support.sites import open_site\n"
        f"trust = Trust.load(Path({str(made.trust_folder)!r}))\n"
        f"bundle = open_bundle(Path({str(made.root)!r}), trust)\n"
        f"site = open_site(Path({str(site.folder)!r}), {line.url!r})\n"
        "fill_registries(bundle, site, open_secrets(site))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while len(empty.blobs()) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        yield HalfDone(process, open_bundle(made.root, made.trust), empty)
    finally:
        process.kill()
        process.communicate()


def test_a_load_that_was_killed_goes_on_without_sending_again_what_is_there(
    half_done: HalfDone,
) -> None:
    half_done.process.send_signal(signal.SIGKILL)
    half_done.process.wait()
    there = half_done.registry.blobs()
    needs = bundle_content(half_done.bundle).blobs
    assert 2 <= len(there) < len(needs), "it was killed too late to show anything"

    report = load(half_done.bundle, half_done.registry)

    assert report.complete
    assert report.blobs_present >= 2
    assert report.blobs_sent <= len(needs) - 2
    assert not load(half_done.bundle, half_done.registry).changed


def test_ctrl_c_ends_a_load_at_once_and_leaves_no_half_upload(half_done: HalfDone) -> None:
    half_done.process.send_signal(signal.SIGINT)
    _, errors = half_done.process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert len(half_done.registry.blobs()) < len(bundle_content(half_done.bundle).blobs)
    uploads = half_done.registry.data / "docker/registry/v2/repositories/quay.io/test/large"
    assert not list((uploads / "_uploads").glob("*/data"))
    assert load(half_done.bundle, half_done.registry).blobs_present >= 2


def _mount(folder: Path, options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "perimeter-test", str(folder)], check=True
    )


def test_a_blob_that_the_registry_lost_is_seen_by_check_and_sent_by_a_deep_load(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    load(bundle, empty)
    (item,) = bundle.manifest.items_of(ItemKind.FILE)
    empty.stop()
    (empty.data / _BLOBS / item.payload.hex[:2] / item.payload.hex / "data").unlink()
    empty.start()
    content = bundle_content(bundle)

    quick = fill_replica(client_of(empty), content, bundle.extents, lambda event: None)
    assert not quick.changed, "the manifest is there, and is believed"
    found = check_replica(client_of(empty), content)
    assert (
        found.missing == (item.name,)
        and found.missing_bytes == bundle.blob(item.payload).stat().st_size
    )
    deep = fill_replica(client_of(empty), content, bundle.extents, lambda event: None, deep=True)
    assert deep.blobs_sent == 1
    assert check_replica(client_of(empty), content).complete


def test_a_blob_of_the_wrong_size_is_named_by_check_and_by_a_deep_load(
    empty: Distribution, bundle: VerifiedBundle
) -> None:
    load(bundle, empty)
    (item,) = bundle.manifest.items_of(ItemKind.FILE)
    empty.stop()
    data = empty.data / _BLOBS / item.payload.hex[:2] / item.payload.hex / "data"
    os.truncate(data, data.stat().st_size - 1)
    empty.start()
    content = bundle_content(bundle)

    with pytest.raises(HostError, match=f"holds a damaged {item.payload}") as raised:
        check_replica(client_of(empty), content)
    assert raised.value.code == "damaged-blob"
    with pytest.raises(HostError, match="damaged"):
        fill_replica(client_of(empty), content, bundle.extents, lambda event: None, deep=True)
