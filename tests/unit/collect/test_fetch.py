"""Files over HTTPS: sizes, mirrors, small texts, and files nobody pinned yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, NetworkError
from perimeter_bundle.model.events import EventKind

DATA = bytes(range(256)) * 100
DIGEST = Digest.of_bytes(DATA)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        server.serve("/v1/kubeadm", DATA)
        yield server


@pytest.fixture
def mirror() -> Iterator[LyingServer]:
    with LyingServer() as mirror:
        yield mirror


def fetcher(*servers: LyingServer, recorder: Recorder | None = None, **more: Any) -> FileFetcher:
    recorder = recorder or Recorder()
    settings = loopback_settings(*servers, **more)
    return FileFetcher(settings, recorder.on_event, transport=recorder.transport(settings))


def url(server: LyingServer) -> str:
    return f"{server.url}/v1/kubeadm"


def test_asks_for_the_size_without_fetching(server: LyingServer) -> None:
    assert fetcher(server).size_of(url(server)) == len(DATA)
    assert [seen.method for seen in server.seen] == ["HEAD"]


@pytest.mark.parametrize(
    "head", [Lie(status=405), Lie(status=403), Lie(headers={"Content-Length": ""}, no_length=True)]
)
def test_asks_for_one_byte_when_head_does_not_tell(server: LyingServer, head: Lie) -> None:
    server.lie("/v1/kubeadm", head)
    assert fetcher(server).size_of(url(server)) == len(DATA)
    assert server.seen[-1].headers["Range"] == "bytes=0-0"


def test_asks_the_length_of_a_server_without_ranges(server: LyingServer) -> None:
    server.lie("/v1/kubeadm", Lie(status=405), Lie(ignore_range=True))
    assert fetcher(server).size_of(url(server)) == len(DATA)


def test_a_server_that_tells_no_size_is_said(server: LyingServer) -> None:
    server.lie("/v1/kubeadm", Lie(status=405), Lie(ignore_range=True, chunked=True))
    with pytest.raises(NetworkError, match="the server does not say") as caught:
        fetcher(server).size_of(url(server))
    assert caught.value.code == "no-size"


def test_fetches_a_pinned_file_and_goes_on_after_a_cut(server: LyingServer, tmp_path: Path) -> None:
    server.lie("/v1/kubeadm", Lie(cut_after=7), Lie(status=502, body=b""))
    target = tmp_path / DIGEST.hex
    assert fetcher(server).fetch(url(server), target, DIGEST, len(DATA)) == len(DATA)
    assert target.read_bytes() == DATA
    assert server.seen[-1].headers["Range"] == "bytes=7-"


def test_refuses_a_file_that_changed_since_the_lock(server: LyingServer, tmp_path: Path) -> None:
    server.serve("/v1/kubeadm", DATA[::-1])
    with pytest.raises(IntegrityError) as caught:
        fetcher(server).fetch(url(server), tmp_path / "x", DIGEST, len(DATA), task="kubeadm")
    assert (caught.value.code, caught.value.message) == ("digest-mismatch", "refused kubeadm")
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_is_asked_first_with_path_and_query(
    server: LyingServer, mirror: LyingServer, tmp_path: Path
) -> None:
    mirror.serve("/k8s/v1/kubeadm", DATA)
    subject = fetcher(server, mirror, mirrors={server.host: (f"{mirror.url}/k8s",)})
    subject.fetch(f"{url(server)}?x=1", tmp_path / "x", DIGEST, len(DATA))
    assert server.seen == []
    assert mirror.seen[0].path == "/k8s/v1/kubeadm?x=1"


def test_a_mirror_with_other_bytes_is_passed_over(
    server: LyingServer, mirror: LyingServer, tmp_path: Path
) -> None:
    mirror.serve("/v1/kubeadm", DATA[::-1])
    recorder = Recorder()
    subject = fetcher(server, mirror, recorder=recorder, mirrors={server.host: (mirror.url,)})
    subject.fetch(url(server), tmp_path / "x", DIGEST, len(DATA))
    assert (tmp_path / "x").read_bytes() == DATA
    assert EventKind.WARNING in recorder.kinds()


def test_small_texts_come_whole_or_not_at_all(server: LyingServer) -> None:
    server.serve("/index.yaml", b"entries: {}", Content_Type="text/yaml")
    server.lie("/index.yaml", Lie(cut_after=4))
    assert fetcher(server).fetch_small(f"{server.url}/index.yaml", 100) == b"entries: {}"
    with pytest.raises(NetworkError, match="larger than it may be") as caught:
        fetcher(server).fetch_small(f"{server.url}/index.yaml", 5)
    assert caught.value.code == "too-large"


def test_a_web_page_is_no_small_text(server: LyingServer) -> None:
    server.serve("/index.yaml", b"<html>", Content_Type="text/html; charset=utf-8")
    with pytest.raises(NetworkError, match="a web page came instead") as caught:
        fetcher(server).fetch_small(f"{server.url}/index.yaml", 100)
    assert caught.value.code == "not-a-file"
    page = fetcher(server).fetch_small(f"{server.url}/index.yaml", 100, page_is_fine=True)
    assert page == b"<html>"


def test_an_unpinned_file_is_stored_under_what_it_is(server: LyingServer, tmp_path: Path) -> None:
    server.lie("/v1/kubeadm", Lie(cut_after=100))
    path, digest = fetcher(server).fetch_unknown(url(server), tmp_path / "cache", 10**6)
    assert digest == DIGEST
    assert path == tmp_path / "cache" / DIGEST.hex
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("lie", [Lie(), Lie(chunked=True)])
def test_an_unpinned_file_is_bounded(server: LyingServer, tmp_path: Path, lie: Lie) -> None:
    server.lie("/v1/kubeadm", lie)
    with pytest.raises(IntegrityError, match="more came than there may be"):
        fetcher(server).fetch_unknown(url(server), tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_fetched_over_plain_http(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="refused to go on without TLS"):
        fetcher().fetch("http://dl.k8s.io/x", tmp_path / "x", DIGEST)
