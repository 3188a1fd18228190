"""Listing a registry that lies: pages without end, elsewhere, too large, no list at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPResponse

import pytest
from tests.support.answers import exchange_by, http_answer

from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, NetworkError, PerimeterError, TrustError
from perimeter_bundle.model.events import ignore_events
from perimeter_installer.inventory.client import ReadClient
from perimeter_installer.inventory.take import look_at
from perimeter_installer.load.endpoint import RegistryEndpoint

Give = Callable[[str], tuple[int, bytes, dict[str, str]]]


class Scripted(ReadClient):
    """Answers by path, without a network."""

    def __init__(self, give: Give, url: str = "https://n1:5000") -> None:
        super().__init__(RegistryEndpoint.parse("n1", url), sleep=lambda seconds: None)
        self.asked: list[str] = []
        self._give = give
        self._wire.connections.exchange = exchange_by(self._answer)  # type: ignore[method-assign]

    def _answer(self, method: str, target: str, **options: object) -> HTTPResponse:
        self.asked.append(target)
        return http_answer(*self._give(target))


def page(names: list[str], link: str = "") -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps({"repositories": names}).encode(), {"Link": link} if link else {}


def test_pages_are_followed_to_their_end_and_the_prefix_is_taken_off() -> None:
    def give(url: str) -> tuple[int, bytes, dict[str, str]]:
        if "last=" in url:
            return page(["project/quay.io/b/c", "elsewhere/quay.io/x/y"])
        return page(["project/quay.io/a/b"], '</v2/_catalog?last=b&n=1>; rel="next"')

    with closing(Scripted(give, "https://n1:5000/project")) as client:
        assert client.repositories() == {"quay.io/a/b", "quay.io/b/c"}


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda url: page(["quay.io/a/b"], '</v2/_catalog?last=a>; rel="next"'), "do not end"),
        (lambda url: page(["a"], '<https://evil/v2/_catalog?n=1>; rel="next"'), "somewhere else"),
        (lambda url: page(["a"], '</v2/other>; rel="next"'), "somewhere else"),
        (lambda url: (200, b"<html>", {}), "not such a list"),
        (lambda url: (200, b"[]", {}), "not such a list"),
        (lambda url: (200, b" " * (5 * MIB), {}), "is larger than"),
    ],
)
def test_a_list_that_lies_is_refused(give: Give, said: str) -> None:
    with closing(Scripted(give)) as client, pytest.raises(NetworkError) as caught:
        client.repositories()
    assert caught.value.code == "bad-answer"
    assert said in str(caught.value)
    assert len(client.asked) <= 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_registry_that_lists_nothing_needs_the_names_of_bundles(status: int) -> None:
    with closing(Scripted(lambda url: (status, b"", {}))) as client:
        assert client.repositories() is None
        with pytest.raises(InputError, match="does not list its repositories") as caught:
            look_at(client, frozenset(), deep=False, on_event=ignore_events)
    assert "--bundle DIR" in (caught.value.hint or "")


def test_a_manifest_of_other_bytes_than_its_digest_is_not_counted() -> None:
    wanted = Digest.of_bytes(b"the manifest")

    def give(url: str) -> tuple[int, bytes, dict[str, str]]:
        if "_catalog" in url:
            return 404, b"", {}
        if "/tags/" in url:
            return 200, b'{"tags": null}', {}
        return 200, b'{"schemaVersion": 2, "layers": []}', {}

    with closing(Scripted(give)) as client:
        known = frozenset({("quay.io/a/b", str(wanted))})
        held = look_at(client, known, deep=False, on_event=ignore_events)
    assert held.manifests == {} and held.blobs == {}


def test_a_login_that_is_refused_for_manifests_ends_it() -> None:
    def give(url: str) -> tuple[int, bytes, dict[str, str]]:
        return page(["quay.io/a/b"]) if "_catalog" in url else (403, b"", {})

    with closing(Scripted(give)) as client, pytest.raises(PerimeterError) as caught:
        look_at(client, frozenset(), deep=False, on_event=ignore_events)
    assert isinstance(caught.value, TrustError)
