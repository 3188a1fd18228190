"""Names to digests, and everything a registry could say that is not so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.images import TestImage, descriptor, index_image, json_bytes, single_image
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.format.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST, Descriptor
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, NetworkError
from perimeter_bundle.model.events import EventKind
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.client import RegistryClient

ARM64 = Platform("linux", "arm64")


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        yield server


@pytest.fixture
def mirror() -> Iterator[LyingServer]:
    with LyingServer() as mirror:
        yield mirror


def publish(server: LyingServer, image: TestImage, repository: str = "a/b", tag: str = "v1") -> str:
    """Serves an image; gives back the address of its tag."""
    for digest, raw in image.manifests.items():
        document = json.loads(raw)
        path = f"/v2/{repository}/manifests/{digest}"
        server.serve(path, raw, Content_Type=document["mediaType"])
    for digest, data in image.blobs.items():
        server.serve(f"/v2/{repository}/blobs/{digest}", data)
    path = f"/v2/{repository}/manifests/{tag}"
    server.serve(
        path, image.top, Content_Type=image.media_type, Docker_Content_Digest=str(image.digest)
    )
    return path


def client(
    *servers: LyingServer, recorder: Recorder | None = None, **changes: Any
) -> RegistryClient:
    recorder = recorder or Recorder()
    transport = recorder.transport(loopback_settings(*servers, **changes))
    return RegistryClient(transport.settings, recorder.on_event, transport=transport)


def reference(server: LyingServer, rest: str = "a/b:v1") -> ImageReference:
    return ImageReference.parse(f"{server.host}/{rest}")


def test_resolves_an_index_and_keeps_its_bytes(server: LyingServer) -> None:
    image = index_image(["linux/amd64", "linux/arm64"])
    publish(server, image)
    resolved = client(server).resolve(reference(server), [LINUX_AMD64])
    assert (resolved.digest, resolved.raw, resolved.is_index) == (image.digest, image.top, True)
    assert resolved.media_type == image.media_type
    assert list(resolved.manifests) == [LINUX_AMD64]
    chosen = resolved.manifests[LINUX_AMD64]
    assert image.manifests[chosen.digest] == chosen.raw
    assert len(resolved.descriptors) == 3
    blobs = sum(len(image.blobs[blob.digest]) for blob in resolved.descriptors)
    assert resolved.size_bytes == len(image.top) + len(chosen.raw) + blobs


def test_counts_a_layer_that_platforms_share_once(server: LyingServer) -> None:
    image = index_image()
    publish(server, image)
    resolved = client(server).resolve(reference(server), [LINUX_AMD64, ARM64])
    digests = [blob.digest for blob in resolved.descriptors]
    assert len(digests) == len(set(digests)) == 5
    assert set(digests) == set(image.blobs)


def test_resolves_a_manifest_without_an_index_by_its_configuration(server: LyingServer) -> None:
    image = single_image()
    publish(server, image)
    resolved = client(server).resolve(reference(server), [LINUX_AMD64])
    assert resolved.digest == resolved.manifests[LINUX_AMD64].digest == image.digest
    assert not resolved.is_index
    assert resolved.size_bytes == len(image.top) + sum(map(len, image.blobs.values()))


def test_resolves_docker_lists_and_manifests(server: LyingServer) -> None:
    single = json.loads(single_image().top) | {"mediaType": DOCKER_MANIFEST}
    raw = json_bytes(single)
    entry = descriptor(raw, DOCKER_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    top = json_bytes({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [entry]})
    manifests = {Digest.of_bytes(raw): raw, Digest.of_bytes(top): top}
    publish(server, TestImage(top, DOCKER_LIST, manifests, single_image().blobs))
    resolved = client(server).resolve(reference(server), [LINUX_AMD64])
    assert resolved.manifests[LINUX_AMD64].media_type == DOCKER_MANIFEST


def test_a_chart_is_the_same_on_every_platform(server: LyingServer) -> None:
    config = descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json")
    raw = json_bytes(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    )
    publish(server, TestImage(raw, OCI_MANIFEST, {Digest.of_bytes(raw): raw}, {}))
    resolved = client(server).resolve(reference(server), [LINUX_AMD64])
    assert resolved.manifests[LINUX_AMD64].raw == raw


def test_a_missing_platform_names_those_there_are(server: LyingServer) -> None:
    publish(server, index_image(["linux/arm64", "linux/ppc64le"]))
    with pytest.raises(InputError, match="has nothing for linux/amd64") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64, ARM64])
    assert caught.value.code == "platform-missing"
    assert caught.value.context == {"there is": "linux/arm64, linux/ppc64le"}


def test_a_manifest_for_another_platform_is_refused(server: LyingServer) -> None:
    publish(server, single_image("linux/arm64/v8"))
    with pytest.raises(InputError, match="has nothing for linux/amd64") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.context == {"there is": "linux/arm64/v8"}


def test_a_configuration_without_a_platform_is_refused(server: LyingServer) -> None:
    config = b'{"rootfs":{}}'
    table = json.loads(single_image().top)
    table["config"] = descriptor(config, table["config"]["mediaType"])
    raw = json_bytes(table)
    publish(
        server,
        TestImage(
            raw, OCI_MANIFEST, {Digest.of_bytes(raw): raw}, {Digest.of_bytes(config): config}
        ),
    )
    with pytest.raises(IntegrityError, match="does not say which platform it was built for"):
        client(server).resolve(reference(server), [LINUX_AMD64])


def test_a_reference_with_a_digest_is_asked_for_by_digest(server: LyingServer) -> None:
    image = single_image()
    publish(server, image)
    pinned = reference(server).with_digest(image.digest)
    assert client(server).resolve(pinned, [LINUX_AMD64]).digest == image.digest
    assert server.seen[0].path.endswith(f"/manifests/{image.digest}")


def test_other_bytes_under_a_digest_are_refused(server: LyingServer) -> None:
    image, other = single_image(), single_image(layers=[b"evil"])
    publish(server, image)
    path = f"/v2/a/b/manifests/{image.digest}"
    server.serve(path, other.top, Content_Type=OCI_MANIFEST)
    with pytest.raises(IntegrityError, match="refused") as caught:
        client(server).fetch_manifest(reference(server), image.digest)
    assert caught.value.code == "digest-mismatch"
    assert caught.value.context["expected"] == str(image.digest)
    assert caught.value.context["found"] == str(other.digest)


@pytest.mark.parametrize("stated", [f"sha256:{'0' * 64}", "sha256:short", "nonsense"])
def test_a_registry_that_states_another_digest_is_refused(server: LyingServer, stated: str) -> None:
    path = publish(server, single_image())
    server.lie(path, Lie(headers={"Docker-Content-Digest": stated}))
    with pytest.raises(IntegrityError) as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.code == "digest-mismatch"


def test_a_manifest_of_two_kinds_at_once_is_refused(server: LyingServer) -> None:
    table = json.loads(single_image().top) | {"manifests": []}
    raw = json_bytes(table)
    publish(server, TestImage(raw, OCI_MANIFEST, {Digest.of_bytes(raw): raw}, {}))
    with pytest.raises(IntegrityError) as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.code == "bad-manifest"
    assert "both an index and a manifest" in str(caught.value)


def test_a_registry_and_a_manifest_must_agree_on_the_media_type(server: LyingServer) -> None:
    path = publish(server, single_image())
    server.lie(path, Lie(headers={"Content-Type": DOCKER_LIST}))
    with pytest.raises(IntegrityError, match="name different media types") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.context == {"registry": DOCKER_LIST, "manifest": OCI_MANIFEST}


@pytest.mark.parametrize(
    "lie",
    [
        Lie(
            body=b'{"schemaVersion": 1, "name": "a/b"}',
            headers={"Content-Type": "application/json", "Docker-Content-Digest": ""},
        ),
        Lie(
            body=b'{"schemaVersion":1}',
            headers={
                "Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "Docker-Content-Digest": "",
            },
        ),
    ],
)
def test_the_old_docker_format_is_refused_by_name(server: LyingServer, lie: Lie) -> None:
    server.lie(publish(server, single_image()), lie)
    with pytest.raises(InputError, match="Docker's old format") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.code == "schema-1"


def test_a_web_page_is_no_manifest(server: LyingServer) -> None:
    path = publish(server, single_image())
    server.lie(path, Lie(body=b"<html>log in</html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(NetworkError, match="a web page came instead of a manifest") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.code == "not-a-registry"


def test_a_manifest_that_is_too_large_is_not_read(server: LyingServer) -> None:
    path = publish(server, single_image())
    server.lie(path, Lie(body=bytes(4 * 1024 * 1024 + 1)))
    with pytest.raises(NetworkError, match="larger than it may be"):
        client(server).resolve(reference(server), [LINUX_AMD64])


@pytest.mark.parametrize("size", [1, 10**9])
def test_an_index_that_lies_about_the_size_of_a_manifest_is_refused(
    server: LyingServer, size: int
) -> None:
    image = index_image(["linux/amd64"], attestation=False)
    table = json.loads(image.top)
    table["manifests"][0]["size"] = size
    raw = json_bytes(table)
    manifests = {**image.manifests, Digest.of_bytes(raw): raw}
    publish(server, TestImage(raw, image.media_type, manifests, image.blobs))
    with pytest.raises(IntegrityError, match="a size in its manifest is wrong") as caught:
        client(server).resolve(reference(server), [LINUX_AMD64])
    assert caught.value.code == "size-mismatch"


def test_a_layer_of_absurd_size_is_refused(server: LyingServer) -> None:
    table = json.loads(single_image().top)
    table["layers"][0]["size"] = 2**52
    raw = json_bytes(table)
    publish(
        server,
        TestImage(raw, OCI_MANIFEST, {Digest.of_bytes(raw): raw}, single_image().blobs),
    )
    with pytest.raises(IntegrityError, match="a size in its manifest is wrong"):
        client(server).resolve(reference(server), [LINUX_AMD64])


def test_an_index_inside_an_index_is_refused(server: LyingServer) -> None:
    inner = index_image(["linux/amd64"])
    platform = {"os": "linux", "architecture": "amd64"}
    entry = descriptor(inner.top, inner.media_type, platform=platform)
    top = json_bytes({"schemaVersion": 2, "mediaType": inner.media_type, "manifests": [entry]})
    manifests = {**inner.manifests, Digest.of_bytes(top): top}
    publish(server, TestImage(top, inner.media_type, manifests, inner.blobs))
    with pytest.raises(IntegrityError, match="the index names another index for linux/amd64"):
        client(server).resolve(reference(server), [LINUX_AMD64])


def test_a_name_that_is_not_there_says_what_was_asked(server: LyingServer) -> None:
    with pytest.raises(NetworkError) as caught:
        client(server).resolve(reference(server, "a/b:none"), [LINUX_AMD64])
    assert caught.value.code == "not-found"
    assert caught.value.message == f"asking for {server.host}/a/b:none was refused"
    assert caught.value.context["reason"] == "MANIFEST_UNKNOWN"


def test_asks_again_when_a_manifest_is_cut_or_the_registry_is_busy(server: LyingServer) -> None:
    image = single_image()
    path = publish(server, image)
    server.lie(path, Lie(cut_after=20), Lie(status=503, body=b""), Lie(status=429, body=b""))
    assert client(server).resolve(reference(server), [LINUX_AMD64]).digest == image.digest
    assert len(server.requests_to(path)) == 4


def test_fetches_a_blob_with_a_token_that_ends_in_the_middle(
    server: LyingServer, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 1000
    blob = Descriptor("application/octet-stream", Digest.of_bytes(data), len(data))
    path = f"/v2/a/b/blobs/{blob.digest}"
    server.serve(path, data)
    server.auth_scheme = "bearer"
    subject = client(server)
    server.lie(path, Lie(status=401, body=b"", headers={}))
    with pytest.raises(NetworkError, match="was refused"):
        subject.fetch_blob(reference(server), blob, tmp_path / "x")  # 401 without a challenge
    subject.fetch_blob(reference(server), blob, tmp_path / "warm")
    server.valid_tokens.clear()
    (tmp_path / "x").unlink(missing_ok=True)
    assert subject.fetch_blob(reference(server), blob, tmp_path / "x") == len(data)
    assert len(server.requests_to("/token")) == 2


def mirror_settings(mirror: LyingServer, server: LyingServer) -> dict[str, Any]:
    return {"mirrors": {server.host: (f"{mirror.url}/proxy",)}}


def test_a_mirror_is_asked_first(server: LyingServer, mirror: LyingServer, tmp_path: Path) -> None:
    image = single_image()
    publish(mirror, image, "proxy/a/b")
    subject = client(server, mirror, **mirror_settings(mirror, server))
    resolved = subject.resolve(reference(server), [LINUX_AMD64])
    subject.fetch_blob(reference(server), resolved.descriptors[0], tmp_path / "x")
    assert resolved.digest == image.digest
    assert server.seen == []


def test_a_mirror_that_lies_is_passed_over(
    server: LyingServer, mirror: LyingServer, tmp_path: Path
) -> None:
    image = single_image()
    publish(server, image)
    publish(mirror, image, "proxy/a/b")
    recorder = Recorder()
    subject = client(server, mirror, recorder=recorder, **mirror_settings(mirror, server))
    blob = subject.resolve(reference(server), [LINUX_AMD64]).descriptors[1]
    path = f"/v2/proxy/a/b/blobs/{blob.digest}"
    mirror.serve(path, bytes(blob.size_bytes))
    subject.fetch_blob(reference(server), blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == image.blobs[blob.digest]
    (warning,) = [event for event in recorder.events if event.kind is EventKind.WARNING]
    assert warning.message.startswith(f"mirror {mirror.host}: refused {server.host}/a/b@")


def test_a_mirror_that_is_gone_is_tried_long_enough_only_once(server: LyingServer) -> None:
    publish(server, single_image())
    with LyingServer() as gone:
        url = gone.url
    recorder = Recorder()
    subject = client(server, recorder=recorder, mirrors={server.host: (url,)})
    for _ in range(3):
        subject.fetch_manifest(reference(server))
    assert len(recorder.pauses) == 3


def test_when_every_place_fails_all_are_named(server: LyingServer, mirror: LyingServer) -> None:
    with pytest.raises(NetworkError) as caught:
        client(server, mirror, **mirror_settings(mirror, server)).resolve(
            reference(server), [LINUX_AMD64]
        )
    assert caught.value.code == "not-found"
    assert caught.value.problems == (
        f"mirror {mirror.host}: asking for {server.host}/a/b:v1 was refused: "
        f"404 from {mirror.url}/v2/proxy/a/b/manifests/v1",
    )


def test_a_small_blob_is_checked_against_its_digest(server: LyingServer) -> None:
    digest = Digest.of_bytes(b"good")
    server.serve(f"/v2/a/b/blobs/{digest}", b"evil")
    blob = Descriptor("text/plain", digest, 4)
    with pytest.raises(IntegrityError, match="refused") as caught:
        client(server).fetch_small_blob(reference(server), blob, 10)
    assert caught.value.code == "digest-mismatch"
    with pytest.raises(IntegrityError, match="larger than it may be"):
        client(server).fetch_small_blob(reference(server), blob, 3)
