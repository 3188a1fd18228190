"""Rules of the catalog: composed, excluded, explained; and those that match nothing."""

from __future__ import annotations

import json

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.rules import (
    ComposeRule,
    ExcludeRule,
    NotImageRule,
    Rules,
    TakeFrom,
)

OBJECTS = json.dumps(
    {
        "kind": "List",
        "items": [
            {
                "kind": "ConfigMap",
                "metadata": {"name": "settings", "namespace": "shop"},
                "data": {"version": "1.2", "c.yaml": "agent: {version: v7}\nx: y\n"},
            },
            {
                "kind": "Pod",
                "metadata": {"name": "test", "namespace": "shop"},
                "spec": {
                    "containers": [
                        {"name": "a", "image": "docker.io/bats/bats:1"},
                        {"name": "b", "image": "{{ .Runner }}"},
                    ]
                },
            },
        ],
    }
).encode()


def test_an_image_is_put_together_from_values_of_objects_and_of_documents_in_them() -> None:
    rule = ComposeRule(
        name="agent",
        image="quay.io/a/agent:{version}-{inner}",
        evidence="main.go",
        take={
            "version": TakeFrom("ConfigMap/*/settings", "data.version"),
            "inner": TakeFrom("ConfigMap/shop/settings", "data[c.yaml] -> agent.version"),
        },
    )
    found = discover([("shop", OBJECTS)], Rules(compose=(rule,)))
    assert "quay.io/a/agent:1.2-v7" in [str(one) for one in found.references()]
    assert found.unused_rules == ()


def test_a_rule_without_values_to_take_is_an_image_by_itself() -> None:
    rule = ComposeRule(name="made-up", image="quay.io/a/b:1", evidence="main.go line 3")
    found = discover([("shop", OBJECTS)], Rules(compose=(rule,)))
    made = next(one for one in found.images if str(one.reference) == "quay.io/a/b:1")
    assert made.evidence[0].rule == "made-up"


def test_what_is_excluded_or_no_image_is_said_with_the_reason() -> None:
    rules = Rules(
        exclude=(ExcludeRule("docker.io/bats/*", "test hook", object="Pod/*"),),
        not_images=(NotImageRule("*Runner*", "filled in later", path="spec.containers[1].image"),),
    )
    found = discover([("shop", OBJECTS)], rules)
    assert found.complete
    assert found.images == ()
    assert [(str(one.reference), one.reason) for one in found.excluded] == [
        ("docker.io/bats/bats:1", "test hook")
    ]
    assert [one.reason for one in found.not_images] == ["filled in later"]


def test_rules_that_match_nothing_are_told() -> None:
    take = {"x": TakeFrom("ConfigMap/*", "data.nowhere")}
    rules = Rules(
        compose=(ComposeRule("gone", "quay.io/a/b:{x}", "e", take),),
        exclude=(ExcludeRule("quay.io/*", "r"),),
        not_images=(NotImageRule("nothing", "r", object="Pod/*", path="spec"),),
    )
    assert discover([("shop", OBJECTS)], rules).unused_rules == (
        "compose gone",
        "exclude quay.io/*",
        "not_images nothing at Pod/* spec",
    )


def test_a_composed_text_that_is_no_reference_is_a_question() -> None:
    take = {"x": TakeFrom("ConfigMap/*", "data[c.yaml]")}
    found = discover(
        [("shop", OBJECTS)], Rules(compose=(ComposeRule("odd", "quay.io/a:{x}", "e", take),))
    )
    assert any("rule odd makes it" in one.why for one in found.unclassified)
