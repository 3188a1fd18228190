"""Lists of tags: page by page, and never further than an honest registry would lead."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry import tags
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.tags import TagPage, read_tags

FIRST = "https://r.example/v2/nvidia/driver/tags/list?n=1000"


def page(*names: object, link: str = "") -> TagPage:
    return TagPage(json.dumps({"name": "nvidia/driver", "tags": list(names)}).encode(), link)


def read(pages: dict[str, TagPage]) -> frozenset[str]:
    return read_tags(FIRST, lambda url: pages[url], "listing")


def refused(pages: dict[str, TagPage]) -> str:
    with pytest.raises(NetworkError) as caught:
        read(pages)
    assert caught.value.code == "bad-answer"
    return caught.value.context["found"]


def test_pages_are_followed_whether_the_link_is_whole_or_a_path() -> None:
    second = "https://r.example/v2/nvidia/driver/tags/list?last=b&n=2"
    third = "https://r.example/v2/nvidia/driver/tags/list?last=d&n=2"
    found = read(
        {
            FIRST: page("a", "b", link='</v2/nvidia/driver/tags/list?last=b&n=2>; rel="next"'),
            second: page("c", "d", link=f"<{third}>; rel=next"),
            third: page("e", link='<https://r.example/other>; rel="help"'),
        }
    )
    assert found == {"a", "b", "c", "d", "e"}


def test_no_tags_are_no_tags_and_what_no_tag_can_be_is_left_out() -> None:
    assert read({FIRST: TagPage(b'{"tags": null}', "")}) == frozenset()
    assert read({FIRST: page("ok", 5, "", "-x", "a b", "\x1b[2J", "x" * 129)}) == {"ok"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tags": "a"}', b"<html>", b"[" * 100_000])
def test_rubbish_is_refused(body: bytes) -> None:
    assert refused({FIRST: TagPage(body, "")}) == "the answer is not a list of tags"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/v2/nvidia/driver/tags/list?last=a",
        "http://r.example/v2/nvidia/driver/tags/list?last=a",
        "/v2/other/tags/list?last=a",
        "//evil.example/v2/nvidia/driver/tags/list",
        "https://[::1/v2",
    ],
)
def test_a_next_page_elsewhere_is_refused_since_a_login_would_go_there(target: str) -> None:
    assert refused({FIRST: page("a", link=f'<{target}>; rel="next"')}) == (
        "its next page is somewhere else"
    )


def test_pages_in_circles_end() -> None:
    again = f'<{FIRST}>; rel="next"'
    assert refused({FIRST: page("a", link=again)}) == "its pages lead in circles"
    second = FIRST + "&last=a"
    pages = {FIRST: page("a", link=f'<{second}>; rel="next"'), second: page("a", link=again)}
    assert refused(pages) == "its pages lead in circles"


def test_endless_pages_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MAX_TAGS", 50)
    asked: list[str] = []

    def fetch(url: str) -> TagPage:
        asked.append(url)
        number = len(asked)
        return page(f"t{number}", link=f'<{FIRST}&last={number}>; rel="next"')

    with pytest.raises(NetworkError, match="listing failed"):
        read_tags(FIRST, fetch, "listing")
    assert len(asked) == 51
    monkeypatch.setattr(tags, "MAX_TAGS", 10_000)
    monkeypatch.setattr(tags, "MAX_PAGES", 20)
    asked.clear()
    with pytest.raises(NetworkError, match="listing failed"):
        read_tags(FIRST, fetch, "listing")
    assert len(asked) == 20


@pytest.fixture
def servers() -> Iterator[tuple[LyingServer, LyingServer]]:
    with LyingServer() as own, LyingServer() as mirror:
        yield own, mirror


def test_mirrors_add_what_they_have_and_one_that_fails_is_passed_over(
    servers: tuple[LyingServer, LyingServer],
) -> None:
    own, mirror = servers
    own.serve("/v2/a/b/tags/list", b'{"tags": ["1", "2"]}')
    mirror.serve("/v2/a/b/tags/list", b'{"tags": ["2", "3"]}')
    recorder = Recorder()
    settings = loopback_settings(own, mirror, mirrors={own.host: (mirror.url,)})
    client = RegistryClient(settings, transport=recorder.transport(settings))
    reference = ImageReference.parse(f"{own.host}/a/b:x")
    assert client.list_tags(reference) == {"1", "2", "3"}
    mirror.lie("/v2/a/b/tags/list", Lie(body=b"<html>"))
    assert client.list_tags(reference) == {"1", "2"}
    for server in servers:
        server.lie("/v2/a/b/tags/list", Lie(status=404))
    with pytest.raises(NetworkError) as caught:
        client.list_tags(reference)
    assert caught.value.code == "not-found"


def test_a_page_larger_than_any_honest_one_is_refused(
    servers: tuple[LyingServer, LyingServer],
) -> None:
    own, _ = servers
    own.serve("/v2/a/b/tags/list", b" " * (tags.MAX_PAGE_BYTES + 1))
    settings = loopback_settings(own)
    client = RegistryClient(settings, transport=Recorder().transport(settings))
    with pytest.raises(NetworkError) as caught:
        client.list_tags(ImageReference.parse(f"{own.host}/a/b:x"))
    assert caught.value.code == "too-large"
