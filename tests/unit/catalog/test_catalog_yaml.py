"""YAML that people write: what is read, what is refused, and where messages point."""

from __future__ import annotations

import pytest

from perimeter_bundle.catalog.strict_yaml import MAX_YAML_BYTES, field_path, parse_yaml
from perimeter_bundle.model.errors import InputError


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        parse_yaml(text.encode(), "c.yaml")
    assert caught.value.code == "bad-yaml"
    return caught.value.problems


def test_reads_values_of_yaml_1_2_with_their_lines() -> None:
    document = parse_yaml(b"a: 1\nb:\n  - x: on\n    y: 0.5\nc: ~\nd: true\n", "c.yaml")
    assert document.value == {"a": 1, "b": [{"x": "on", "y": 0.5}], "c": None, "d": True}
    assert document.line_of(("b", 0, "y")) == 4
    assert document.line_of(("b", 0, "missing")) == 3


def test_dates_and_octal_looking_numbers_stay_text() -> None:
    assert parse_yaml(b"a: 2026-11-22\nb: 007\n", "c.yaml").value == {"a": "2026-11-22", "b": "007"}


def test_every_duplicate_key_is_reported_with_both_lines() -> None:
    assert refused("a: 1\nb: {x: 1, x: 2}\na: 3\n") == (
        "c.yaml:2: b.x: key stands twice, first in line 2",
        "c.yaml:3: a: key stands twice, first in line 1",
    )


def test_refuses_anchors_and_aliases_before_anything_is_built() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for number in range(30):
        before, name = chr(97 + number % 26), f"n{number}"
        bomb += f"{name}: &{name} [*{before if number == 0 else f'n{number - 1}'}, *a]\n"
    problems = refused(bomb)
    assert problems[0] == "c.yaml:1: anchor &a: write the value out"
    assert "alias *a" in problems[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\n---\nb: 2\n", "a second document begins"),
        ("[" * 100 + "]" * 100, "nested deeper than"),
        ("a: !!python/object:os.system {}\n", "os.system is not allowed"),
        ("a: !!binary aGk=\n", "is not allowed"),
        ("1: x\n", "key 1 is not a string; put it in quotes"),
        ("? [a, b]\n: x\n", "is not a string"),
        ("a: [1, 2\n", "c.yaml:2"),
        ("a: 1\n\tb: 2\n", "c.yaml:2"),
        ("a: \x07\n", "c.yaml"),
    ],
)
def test_refuses_what_readers_disagree_about(text: str, reason: str) -> None:
    assert reason in "\n".join(refused(text))


def test_refuses_a_file_no_person_writes() -> None:
    assert "more than the" in refused("a: " + "x" * MAX_YAML_BYTES)[0]


def test_refuses_bytes_that_are_not_utf_8() -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(b"a: \xff\n", "c.yaml")
    assert "utf-8" in caught.value.problems[0]


def test_a_field_is_named_as_people_write_it() -> None:
    assert field_path(("images", 0, "reference")) == "images[0].reference"
