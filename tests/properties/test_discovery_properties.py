"""Discovery of anything: no crash, the same result twice, and nothing lost by wrapping."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.discover.discover import discover

NAMES = st.sampled_from(["image", "x", "tag", "hub", "args", "env", "value", "name", "repository"])
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["quay.io/a/b:1", "{{ .x }}", "$(X)", "--image", "a/b", "{", "[", "a: b"]),
)
TREES = st.recursive(
    TEXTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(NAMES, TEXTS), inner, max_size=4)
    ),
    max_leaves=20,
)


def as_object(tree: object) -> bytes:
    return json.dumps(
        {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"d": tree}}
    ).encode()


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_tree_is_read_and_gives_the_same_twice(tree: object) -> None:
    first = discover([("x", as_object(tree))])
    assert first == discover([("x", as_object(tree))])
    json.dumps(first.to_dict())


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_a_container_is_found_whatever_stands_beside_it(tree: object) -> None:
    pod = {"beside": tree, "spec": {"containers": [{"name": "c", "image": "quay.io/a/sure:1"}]}}
    for wrapped in (pod, json.dumps(pod)):
        found = {str(reference) for reference in discover([("x", as_object(wrapped))]).references()}
        assert "quay.io/a/sure:1" in found


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    discover([("x", as_object(text)), ("y", as_object("#!/bin/sh\n" + text))])
