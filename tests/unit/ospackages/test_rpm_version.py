"""Versions of rpm packages: ordered as rpm itself orders them, and what relations admit."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.ospackages.rpm_version import Capability, Evr, compare_versions

# rpm's own test vectors, tests/rpmvercmp.at
VECTORS = [
    ("1.0", "1.0", 0), ("1.0", "2.0", -1), ("2.0.1", "2.0.1a", -1), ("5.5p1", "5.5p10", -1),
    ("10xyz", "10.1xyz", -1), ("xyz10", "xyz10.1", -1), ("xyz.4", "8", -1), ("xyz.4", "2", -1),
    ("5.5p2", "5.6p1", -1), ("5.6p1", "6.5p1", -1), ("6.0.rc1", "6.0", 1), ("10b2", "10a1", 1),
    ("1.0aa", "1.0a", 1), ("10.0001", "10.1", 0), ("10.0001", "10.0039", -1),
    ("4.999.9", "5.0", -1), ("20101121", "20101122", -1), ("2_0", "2.0", 0), ("a", "a+", 0),
    ("a+", "a_", 0), ("+", "_", 0), ("1.0~rc1", "1.0", -1), ("1.0~rc1", "1.0~rc2", -1),
    ("1.0~rc1~git123", "1.0~rc1", -1), ("1.0^", "1.0", 1), ("1.0^git1", "1.0^git2", -1),
    ("1.0^git1", "1.01", -1), ("1.0^20160101", "1.0.1", -1),
    ("1.0^20160101^git1", "1.0^20160102", -1), ("1.0~rc1^git1", "1.0~rc1", 1),
    ("1.0^git1~pre", "1.0^git1", -1), ("1.0^git1", "1.0^git1~pre", 1), ("1b.fc17", "1.fc17", -1),
    ("1.5.0", "1.5.00000000000000000000", 0), ("9" * 150, "9" * 151, -1),
]  # fmt: skip
versions = st.lists(
    st.sampled_from(["0", "1", "01", "10", "a", "ab", "rc", "Z", ".", "_", "+", "~", "^", "~~"]),
    min_size=1, max_size=7,
).map("".join)  # fmt: skip


def by_rpm(pairs: list[tuple[str, str]]) -> list[int]:
    """What rpm itself says."""
    calls = ", ".join(f"rpm.vercmp('{one}', '{other}')" for one, other in pairs)
    script = f"for _, found in ipairs({{{calls}}}) do print(found, ' ') end"
    done = subprocess.run(
        ["rpm", "--eval", f"%{{lua: {script}}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize(("one", "other", "order"), VECTORS)
def test_versions_are_ordered_as_the_vectors_say(one: str, other: str, order: int) -> None:
    assert compare_versions(one, other) == order
    assert compare_versions(other, one) == -order


def test_the_vectors_are_those_of_rpm() -> None:
    assert by_rpm([(one, other) for one, other, _ in VECTORS]) == [order for *_, order in VECTORS]


@given(st.lists(st.tuples(versions, versions), min_size=20, max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_two_versions_are_ordered_as_rpm_orders_them(pairs: list[tuple[str, str]]) -> None:
    assert [compare_versions(*pair) for pair in pairs] == by_rpm(pairs)


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1:1-1", "2-1", 1), ("0:1-1", "1-1", 0), ("1-1", "1-2", -1), ("1", "1-2", 0),
        ("2:1.0~rc1-1", "2:1.0-1", -1), ("1.2-3.el9_6", "1.2-3.el9", 1),
    ],
)  # fmt: skip
def test_epoch_comes_first_and_a_release_counts_where_both_have_one(
    one: str, other: str, order: int
) -> None:
    assert Evr.parse(one).compare(Evr.parse(other)) == order
    assert Evr.parse(other).compare(Evr.parse(one)) == -order


@pytest.mark.parametrize("text", ["", "-1", "x:1", "1 2", "9" * 201, "1:", "99999999999:1", "1\n"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not (a version|an epoch)"):
        Evr.parse(text)


@pytest.mark.parametrize(
    ("provided", "needed", "meets"),
    [
        ("= 1.0-1", "= 1.0", True), ("= 1.0-1", ">= 1.0-2", False), ("= 1.0-1", "< 1.0-1", False),
        ("= 1.0-1", "<= 1.0-1", True), (">= 2", "> 5", True), ("< 2", "> 5", False),
        ("<= 2", "= 2", True), ("", "= 2", True), ("= 2", "", True), ("= 1:1", "> 9", True),
        ("< 2", "< 1", True), ("> 2", "= 2", False),
    ],
)  # fmt: skip
def test_what_is_provided_meets_what_is_needed_when_some_version_is_both(
    provided: str, needed: str, meets: bool
) -> None:
    def capability(text: str) -> Capability:
        operator, _, evr = text.partition(" ")
        return Capability("x", operator, Evr.parse(evr)) if text else Capability("x")

    assert capability(provided).meets(capability(needed)) is meets
    assert capability(needed).meets(capability(provided)) is meets
    assert not capability(provided).meets(Capability("y"))
