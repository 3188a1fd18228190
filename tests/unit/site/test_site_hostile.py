"""Whatever stands in site.yaml: a Site or an InputError with lines, never another exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.model.errors import InputError
from perimeter_installer.site.init import HostAnswer, SiteAnswers, render_site
from perimeter_installer.site.load import judge_site, parse_site
from perimeter_installer.site.yaml_source import parse_yaml

PATH = Path("/nowhere/site.yaml")
TEXT = render_site(
    SiteAnswers(
        "lab", (HostAnswer("n1", "10.99.0.11", ("registry", "control_plane", "worker")),), "admin"
    )
)
LINES = TEXT.splitlines()
ODD = st.sampled_from(
    ["null", "~", "[]", "{}", "-1", "1e400", "0x10", "!!binary x", "'", '"', "&a b", "*a", "? x",
     "<<: *a", "2001-01-01", "0o9", "1_000", ".nan", "[[[[", "{{}}", "yes", "%TAG", "---", "..."]
)  # fmt: skip


def read(text: str) -> None:
    try:
        parse_site(text, PATH)
    except InputError as error:
        assert error.code == "bad-site"
        assert error.problems
    except UnicodeEncodeError:
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in text)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(LINES) - 1), ODD)
def test_any_value_may_be_odd(number: int, odd: str) -> None:
    key, colon, _ = LINES[number].partition(":")
    line = f"{key}{colon} {odd}" if colon else odd
    read("\n".join([*LINES[:number], line, *LINES[number + 1 :]]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(LINES) - 1), max_size=6), st.integers(0, len(LINES) - 1))
def test_lines_may_be_missing_or_twice(missing: list[int], twice: int) -> None:
    lines = [line for number, line in enumerate(LINES) if number not in missing]
    read("\n".join([*lines, LINES[twice]]))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        judge_site(parse_yaml(data, "test"), PATH)
    assert caught.value.code == "bad-site"
