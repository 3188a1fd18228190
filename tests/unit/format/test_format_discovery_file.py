"""manifest/discovery.json is read back as it was written, and refused with every problem."""

from __future__ import annotations

import json

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.rules import ExcludeRule, NotImageRule, Rules
from perimeter_bundle.format.discovery_file import (
    DISCOVERY_FORMAT,
    NotedDiscovery,
    NotedText,
    parse_discovery,
)
from perimeter_bundle.model.errors import IntegrityError

POD = b"""\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: quay.io/example/shop:1.0}
  - {name: b, image: bats/bats:1.4}
  - {name: c, image: quay.io/example/sentinel:0}
"""
RULES = Rules(
    exclude=(ExcludeRule("docker.io/bats/bats:*", "a test hook"),),
    not_images=(NotImageRule("quay.io/example/sentinel:0", "never pulled"),),
)


def file_of(components: object) -> bytes:
    return json.dumps({"format": DISCOVERY_FORMAT, "components": components}).encode()


def refused(data: bytes) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        parse_discovery(data)
    return caught.value


def test_refuses_another_format() -> None:
    error = refused(json.dumps({"format": "x" * 1000, "components": {}}).encode())
    assert error.code == "bad-discovery"
    assert error.message == f"discovery.json has the unknown format {'x' * 100!r}"


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"format": 1, "format": 1}'])
def test_refuses_what_is_not_strict_json(data: bytes) -> None:
    assert refused(data).code == "bad-json"


def test_refuses_with_every_problem_at_once() -> None:
    part = {
        "images": [{"image": "a b", "evidence": [{"rule": ""}]}],
        "excluded": [{"image": "bats/bats:1", "reason": "", "rule": ""}],
        "not_images": [{"text": 1}],
    }
    error = refused(file_of({"shop": part, "other": [], "third": {"images": "x"}}))
    assert error.code == "bad-discovery"
    problems = "\n".join(error.problems)
    for text in ("image: ", "written must be", "reason must be", "text must be", "other must be"):
        assert text in problems
    assert "[[images]] must be an array of tables" in problems


def test_a_hostile_file_does_not_fill_the_screen() -> None:
    part = {"not_images": [{} for _ in range(1000)]}
    assert len(refused(file_of({"shop": part})).problems) == 20


def test_reads_what_discovery_writes() -> None:
    found = discover([("shop/app", POD)], RULES)
    assert found.complete
    noted = parse_discovery(file_of({"shop": found.to_dict()}))
    assert [(str(one.image), one.excluded) for one in noted.images] == [
        ("docker.io/bats/bats:1.4", "a test hook"),
        ("quay.io/example/shop:1.0", ""),
    ]
    reason = noted.images[0].reasons[0]
    assert reason.to_dict() == {
        "component": "shop",
        "rule": "container-image",
        "written": "bats/bats:1.4",
        "source": "shop/app",
        "object": "Pod/p",
        "path": "spec.containers[1].image",
    }
    rule = "catalog: not_images quay.io/example/sentinel:0"
    assert noted.not_images == (NotedText("shop", "Pod/p", "quay.io/example/sentinel:0", rule),)
    assert noted.not_images[0].by_catalog
    assert not NotedText("shop", "Pod/p", "x/y:1", "file-name").by_catalog
    assert noted.compose == {"shop": RULES.compose}


def test_the_same_image_by_tag_and_by_digest_has_an_order() -> None:
    by_digest = f"quay.io/example/shop:1.0@sha256:{'a' * 64}"
    images = [{"image": name} for name in (by_digest, "quay.io/example/shop:1.0")]
    noted = parse_discovery(file_of({"shop": {"images": images}}))
    assert [str(one.image) for one in noted.images] == ["quay.io/example/shop:1.0", by_digest]


def test_a_file_without_components_is_empty() -> None:
    assert parse_discovery(file_of({})) == NotedDiscovery()
