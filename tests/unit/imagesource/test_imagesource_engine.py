"""The Docker engine through its own SDK, against a simulator that is honest until told to lie."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.local_images import layer_tar, saved_files, tar_of
from tests.support.lying_server import Lie, LyingServer

from perimeter_bundle.catalog.workload_values import WorkloadImage
from perimeter_bundle.collect.workload_images import Opener
from perimeter_bundle.imagesource.local import LocalImage
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, NetworkError
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.stop import Stop, StoppedError

REFERENCE = ImageReference.parse("registry.example.org/team/train:1.4")
SAVE = f"/v1.41/images/{REFERENCE}/get"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nhalf of it"
ARCHIVE = tar_of(saved_files((layer_tar("one"), layer_tar("two")), [str(REFERENCE)]))


@pytest.fixture
def engine() -> Iterator[LyingServer]:
    with LyingServer() as server:
        server.serve("/version", b'{"ApiVersion": "1.41"}', Content_Type="application/json")
        server.serve(SAVE, ARCHIVE, Content_Type="application/x-tar")
        yield server


def image_of(
    host: str, folder: Path, *, name: str = "", origin: ImageOrigin = ImageOrigin.DOCKER_ENGINE
) -> LocalImage:
    path = folder / "saved.tar" if origin is ImageOrigin.DOCKER_ARCHIVE else None
    image = WorkloadImage(REFERENCE, "why", "MIT", origin, path, name)
    opener = Opener(Stop(), ignore_events, folder, {"DOCKER_HOST": host})
    return LocalImage(image.shown, lambda: opener.open(image), opener.stop, ignore_events)


def tcp(engine: LyingServer) -> str:
    return f"tcp://{engine.host}"


def test_an_image_of_the_engine_is_the_one_docker_save_writes(
    engine: LyingServer, tmp_path: Path
) -> None:
    found = image_of(tcp(engine), tmp_path).resolve(REFERENCE, (LINUX_AMD64,))
    (tmp_path / "saved.tar").write_bytes(ARCHIVE)
    saved = image_of("", tmp_path, origin=ImageOrigin.DOCKER_ARCHIVE)
    assert found.digest == saved.resolve(REFERENCE, (LINUX_AMD64,)).digest
    assert len(engine.requests_to(SAVE)) == 1


def test_it_may_have_another_name_there(engine: LyingServer, tmp_path: Path) -> None:
    engine.serve("/v1.41/images/train:dev/get", ARCHIVE)
    image = image_of(tcp(engine), tmp_path, name="train:dev")
    assert image.fetch_manifest(REFERENCE).digest
    assert engine.requests_to(SAVE) == []


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_an_engine_that_is_not_there_is_a_clear_error(tmp_path: Path, host: str) -> None:
    with pytest.raises(HostError) as caught:
        image_of(host, tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code == "no-docker-engine"
    assert caught.value.context["asked"] == host
    assert "docker-archive:FILE" in str(caught.value.hint)


def test_something_else_in_place_of_an_engine_is_a_clear_error(tmp_path: Path) -> None:
    with LyingServer() as other, pytest.raises(HostError) as caught:
        image_of(tcp(other), tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code == "no-docker-engine"


def test_an_image_that_the_engine_lacks_is_named(engine: LyingServer, tmp_path: Path) -> None:
    engine.lie(SAVE, Lie(status=404, body=b'{"message": "reference does not exist"}'))
    with pytest.raises(InputError) as caught:
        image_of(tcp(engine), tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code == "no-such-image"
    assert str(REFERENCE) in caught.value.message


def test_an_engine_that_fails_says_why(engine: LyingServer, tmp_path: Path) -> None:
    lie = Lie(
        status=500,
        body=b'{"message": "layer is damaged"}',
        headers={"Content-Type": "application/json"},
    )
    engine.lie(SAVE, lie)
    with pytest.raises(HostError) as caught:
        image_of(tcp(engine), tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code == "docker-engine"
    assert "layer is damaged" in caught.value.context["found"]


@pytest.mark.parametrize("lie", [Lie(cut_after=3000), Lie(raw=CUT_CHUNK), Lie(close_at_once=True)])
def test_a_stream_that_is_cut_off_is_no_image(
    engine: LyingServer, tmp_path: Path, lie: Lie
) -> None:
    engine.lie(SAVE, lie)
    with pytest.raises(NetworkError) as caught:
        image_of(tcp(engine), tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code == "cut-off"


def test_a_stream_that_ends_early_without_saying_so_is_no_image(
    engine: LyingServer, tmp_path: Path
) -> None:
    engine.lie(SAVE, Lie(body=ARCHIVE[:3000]))
    with pytest.raises((IntegrityError, InputError)) as caught:
        image_of(tcp(engine), tmp_path).fetch_manifest(REFERENCE)
    assert caught.value.code in ("bad-archive", "not-an-archive", "missing-blob")


def test_a_stop_need_not_wait_for_an_engine_that_is_silent(
    engine: LyingServer, tmp_path: Path
) -> None:
    engine.lie(SAVE, Lie(stall_after=3000))
    image = image_of(tcp(engine), tmp_path)

    def stop_soon() -> None:
        engine.stalled.wait(20)
        image.stop.request()

    threading.Thread(target=stop_soon, daemon=True).start()
    with pytest.raises(StoppedError):
        image.fetch_manifest(REFERENCE)
