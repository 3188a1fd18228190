"""Loading through proxies and lines that cut, refuse and lose, with a real Distribution behind."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.distribution import Distribution
from tests.support.lines import Line, Request, proxy

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError, NetworkError, TrustError
from perimeter_installer.load import retry
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.registry import PushClient

MIB = 1 << 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distribution]:
    with Distribution(tmp_path_factory.mktemp("registry"), plain=True) as running:
        yield running


class Blob:
    """Random bytes in a file, so that no registry has them yet."""

    def __init__(self, folder: Path, size_bytes: int, name: str = "test/name") -> None:
        self.data = os.urandom(size_bytes)
        self.digest = Digest.of_bytes(self.data)
        path = folder / self.digest.hex
        path.write_bytes(self.data)
        self.extents = (Extent(path, 0, size_bytes),)
        self.counted = 0
        self.name = name

    def count(self, count: int) -> None:
        self.counted += count

    def send(self, client: PushClient) -> None:
        client.push_blob(self.name, self.digest, self.extents, len(self.data), self.count)


def client_at(url: str, *, user: str = "", password: str = "") -> PushClient:
    endpoint = RegistryEndpoint.parse("n1", url, username=user, password=password)
    return PushClient(endpoint, sleep=lambda seconds: None)


def is_whole(registry: Distribution, blob: Blob) -> bool:
    found = client_at(registry.url).head_blob("test/name", blob.digest)
    return found == len(blob.data) and blob.digest.hex in registry.blobs()


def test_a_proxy_that_takes_one_mebibyte_gets_parts_that_fit(
    registry: Distribution, tmp_path: Path
) -> None:
    taken: list[int] = []

    def limit(request: Request) -> tuple[int, dict[str, str]] | None:
        if request.size_bytes > MIB:
            return 413, {}
        taken.append(request.size_bytes)
        return None

    first, second = Blob(tmp_path, 5 * MIB + 3), Blob(tmp_path, 3 * MIB)
    with proxy(registry.port, limit) as url:
        client = client_at(url)
        first.send(client)
        assert is_whole(registry, first)
        refused_before = len(taken)
        second.send(client)
    assert is_whole(registry, second)
    assert first.counted == len(first.data) and second.counted == len(second.data)
    # what was learned holds for the second: no request of it was refused
    assert sum(taken[refused_before:]) == len(second.data)


def test_a_line_that_cuts_after_some_bytes_loses_nothing_that_arrived(
    registry: Distribution, tmp_path: Path
) -> None:
    blob = Blob(tmp_path, 24 * MIB)
    with Line(registry.port, cut_after=5 * MIB).open() as line:
        client = client_at(f"http://127.0.0.1:{line.address[1]}")
        blob.send(client)
    assert is_whole(registry, blob)
    assert line.cuts >= 1
    assert blob.counted == len(blob.data)
    lost_at_each_cut = 128 * 1024  # a block of the line, and what the registry had not read
    assert line.passed < len(blob.data) + (line.cuts + 1) * lost_at_each_cut


@pytest.mark.parametrize("after", [1, 300 * 1024, MIB + 1])
def test_a_connection_cut_anywhere_still_brings_a_whole_blob_or_names_the_replica(
    registry: Distribution, tmp_path: Path, after: int
) -> None:
    blob = Blob(tmp_path, 2 * MIB)
    with Line(registry.port, cut_after=after).open() as line:
        client = client_at(f"http://127.0.0.1:{line.address[1]}")
        try:
            blob.send(client)
        except NetworkError as error:
            assert "n1 did not answer" in error.message
            assert after < retry.SMALLEST_CHUNK_BYTES
        else:
            assert is_whole(registry, blob)
            assert blob.counted == len(blob.data)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "2"}), (429, {}), (503, {}), (502, {}), (504, {}), (500, {})],
)
def test_an_accident_in_the_middle_is_tried_again(
    registry: Distribution, tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    def fault(request: Request) -> tuple[int, dict[str, str]] | None:
        return (status, headers) if request.method == "PUT" and request.number <= 4 else None

    small, large = Blob(tmp_path, 100 * 1024), Blob(tmp_path, 2 * MIB)
    with proxy(registry.port, fault) as url:
        small.send(client_at(url))
    with proxy(registry.port, fault) as url:
        large.send(client_at(url))
    assert is_whole(registry, small) and is_whole(registry, large)
    assert (small.counted, large.counted) == (len(small.data), len(large.data))


def test_a_login_that_is_lost_for_a_moment_is_tried_again_and_a_wrong_one_is_not(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def fault(request: Request) -> tuple[int, dict[str, str]] | None:
        asked.append(request.method)
        return (401, {}) if len(asked) == 3 else None

    blob = Blob(tmp_path, MIB)
    login = ("robot", "secret")
    with (
        Distribution(tmp_path / "closed", plain=True, login=login) as closed,
        proxy(closed.port, fault) as url,
    ):
        client = client_at(url, user=login[0], password=login[1])
        client.ping()
        blob.send(client)
        assert blob.digest.hex in closed.blobs()
        wrong = client_at(url, user="robot", password="guessed")
        with pytest.raises(TrustError, match="n1 does not let us ask"):
            before = len(asked)
            wrong.ping()
        assert len(asked) == before + 1


def test_an_upload_that_the_registry_forgets_every_time_ends_with_a_reason(
    registry: Distribution, tmp_path: Path
) -> None:
    def fault(request: Request) -> tuple[int, dict[str, str]] | None:
        if request.method == "PUT":
            return 413, {}
        return (404, {}) if request.method == "PATCH" else None

    blob = Blob(tmp_path, 2 * MIB)
    with (
        proxy(registry.port, fault) as url,
        pytest.raises(NetworkError, match="n1 forgets uploads before they are whole") as raised,
    ):
        blob.send(client_at(url))
    assert "load balancer" in (raised.value.hint or "")


def test_wrong_bytes_are_refused_in_parts_as_well(registry: Distribution, tmp_path: Path) -> None:
    blob = Blob(tmp_path, 3 * MIB)
    other = bytearray(blob.data)
    other[-1] ^= 1
    blob.extents[0].path.write_bytes(other)

    def limit(request: Request) -> tuple[int, dict[str, str]] | None:
        return (413, {}) if request.size_bytes > MIB else None

    with (
        proxy(registry.port, limit) as url,
        pytest.raises(IntegrityError, match="the bytes sent are not the digest's"),
    ):
        blob.send(client_at(url))
    assert blob.digest.hex not in registry.blobs()


def test_a_blob_in_several_files_passes_in_parts(registry: Distribution, tmp_path: Path) -> None:
    blob = Blob(tmp_path, 3 * MIB + 1)
    (whole,) = blob.extents
    cuts = [0, 700_001, 700_002, 2 * MIB, whole.size_bytes]
    pieces = []
    for start, end in itertools.pairwise(cuts):
        path = tmp_path / f"piece-{start}"
        path.write_bytes(b"x" * 3 + blob.data[start:end])
        pieces.append(replace(whole, path=path, offset=3, size_bytes=end - start))
    blob.extents = tuple(pieces)

    def limit(request: Request) -> tuple[int, dict[str, str]] | None:
        return (413, {}) if request.size_bytes > MIB else None

    with proxy(registry.port, limit) as url:
        blob.send(client_at(url))
    assert is_whole(registry, blob)


def test_a_full_disc_behind_a_proxy_is_still_told_as_such(
    registry: Distribution, tmp_path: Path
) -> None:
    patches: list[str] = []

    def fault(request: Request) -> tuple[int, dict[str, str]] | None:
        if request.method == "PUT":
            return 413, {}
        if request.method == "PATCH":
            patches.append(request.path)
            return 507, {}
        return None

    blob = Blob(tmp_path, 2 * MIB, "test/full")
    with (
        proxy(registry.port, fault) as url,
        pytest.raises(HostError, match="no room on n1") as raised,
    ):
        blob.send(client_at(url))
    assert raised.value.code == "registry-full"
    assert len(patches) == 1
    kept = registry.data / "docker/registry/v2/repositories/test/full/_uploads"
    assert not list(kept.glob("*/data"))
