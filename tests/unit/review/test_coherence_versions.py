"""Tags and ranges as versions."""

from __future__ import annotations

import pytest

from perimeter_bundle.charts.versions import Range, Version
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.review.coherence.versions import tag_version


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("1.28.0", "1.28.0"),
        ("v1.28.0", "1.28.0"),
        ("v0.16.0-gpu", "0.16.0"),
        ("3.6.5-0", "3.6.5"),
        ("8.4", "8.4"),
        ("23.05-py3", "23.5"),
        ("2.7.1-cuda12.8-cudnn9-runtime", "2.7.1"),
        ("1.2.3-rc.1", "1.2.3-rc.1"),
        ("1.2.3rc1", "1.2.3-rc1"),
        ("v2.0.0-beta2-alpine", "2.0.0-beta2"),
        ("9.1.0-2.2.2", "9.1.0"),
    ],
)
def test_a_flavour_does_not_change_the_version_and_a_prerelease_does(
    tag: str, version: str
) -> None:
    assert str(tag_version(tag)) == version


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "latest",
        "8",
        "v1-3f15cb8",
        "RELEASE.2025-10-15T17-29-55Z",
        "20240101",
        "1.2.3.4.5",
        "x1.2",
    ],
)
def test_what_is_no_version_is_not_guessed(tag: str) -> None:
    assert tag_version(tag) is None


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        (">=1.25.0-0", True),
        (">= 1.25", True),
        (">=1.22.0-0 <1.34.0-0", False),
        (">= 1.21, < 1.36", True),
        ("<1.34", False),
        ("<=1.34", True),
        (">1.34", False),
        (">1.33", True),
        ("^1.16.0-0", True),
        ("^2", False),
        ("~1.34.0", True),
        ("~1.33", False),
        ("~1", True),
        ("1.34.x", True),
        ("1.33.x", False),
        ("*", True),
        ("1.30 - 1.34", True),
        ("1.30 - 1.33", False),
        ("1.20 || 1.34.4", True),
        ("!=1.34.4", False),
        ("!=1.34.3", True),
        ("=1.34.4", True),
        ("v1.34.4", True),
    ],
)
def test_ranges_are_read_as_helm_reads_them(constraint: str, allowed: bool) -> None:
    assert Range.parse(constraint).allows(Version.parse("1.34.4")) is allowed


@pytest.mark.parametrize(
    ("constraint", "version", "allowed"),
    [
        ("^0.2.3", "0.2.9", True),
        ("^0.2.3", "0.3.0", False),
        ("^0.0.3", "0.0.3", True),
        ("^0.0.3", "0.0.4", False),
    ],
)
def test_a_caret_before_version_one_keeps_the_first_number_that_is_not_zero(
    constraint: str, version: str, allowed: bool
) -> None:
    assert Range.parse(constraint).allows(Version.parse(version)) is allowed


@pytest.mark.parametrize(
    "constraint", ["", "  ", "new", ">=", ">=1.2,,y", "1.2.3.4", ">=1.2foo", "|| 1.2", "1" * 600]
)
def test_what_is_no_range_is_refused(constraint: str) -> None:
    with pytest.raises(InputError) as caught:
        Range.parse(constraint)
    assert caught.value.code == "bad-version-range"


def test_a_release_without_a_version_of_kubernetes_is_refused() -> None:
    assert Version.parse("v1.34").triple == (1, 34, 0)
    with pytest.raises(InputError) as caught:
        Version.parse("newest")
    assert str(caught.value) == "error[bad-version]: not a version: 'newest'"
