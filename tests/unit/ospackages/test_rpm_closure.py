"""What packages need: by name, version, file and requirement in brackets; the end of a closure."""

from __future__ import annotations

import pytest
from tests.unit.ospackages.test_rpm_index import package, read

from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.ospackages import rpm_closure as module
from perimeter_bundle.ospackages.rpm_closure import RpmClosure, Universe, rpm_closure
from perimeter_bundle.ospackages.rpm_rich import read_need

FLAGS = {"<": "LT", "<=": "LE", "=": "EQ", ">=": "GE", ">": "GT"}


def rpm(text: str, needs: str = "", provides: str = "", *files: str) -> str:
    """``name version-release``, and lists with ; between their entries."""
    name, _, evr = text.partition(" ")
    epoch, version, release = parts(evr or "1-1")
    details = "".join(f"<file>{file}</file>" for file in files)
    for element, entries in (("provides", provides), ("requires", needs)):
        inside = "".join(entry(each.strip()) for each in entries.split(";") if each.strip())
        details += f"<rpm:{element}>{inside}</rpm:{element}>"
    return package(
        name,
        f'epoch="{epoch}" ver="{version}" rel="{release}"',
        location=f'href="{name}-{version}-{release}.rpm"',
        sha=f"{abs(hash((text, needs))):064x}"[-64:],
        details=details,
    )


def parts(evr: str) -> tuple[str, str, str]:
    epoch, colon, rest = evr.partition(":")
    version, _, release = (rest if colon else evr).partition("-")
    return epoch if colon else "0", version, release


def entry(text: str) -> str:
    words = text.split(" ")
    if text.startswith("(") or len(words) == 1:
        return f'<rpm:entry name="{text.replace("<", "&lt;")}"/>'
    epoch, version, release = parts(words[2])
    return (
        f'<rpm:entry name="{words[0]}" flags="{FLAGS[words[1]]}" epoch="{epoch}" ver="{version}"'
        + (f' rel="{release}"/>' if release else "/>")
    )


def close(*packages: str, install: str, **more: tuple[str, ...]) -> RpmClosure:
    return rpm_closure(Universe(read(*packages)), install.split(","), **more)


def names(*packages: str, install: str) -> list[str]:
    found = close(*packages, install=install)
    assert not found.missing, found.missing
    return [f"{one.name} {one.evr}" for one in found.packages]


def test_everything_that_is_needed_comes_along_and_nothing_else() -> None:
    assert names(
        rpm("a", "b >= 2; /usr/bin/c; lib(x); rpmlib(Known) <= 1; own = 1-1", "own = 1-1"),
        rpm("b 2-1", "a"),
        rpm("b 1-1", "lost"),
        rpm("c", "", "", "/usr/bin/c"),
        rpm("l", "", "lib(x)"),
        rpm("unrelated", "lost"),
        install="a",
    ) == ["a 1-1", "b 2-1", "c 1-1", "l 1-1"]  # fmt: skip


@pytest.mark.parametrize(
    "asked", ["k-1-2", "k-1-2.x86_64", "k = 1-2", "k-devel = 7", "k < 1-3", "cap(k)"]
)
def test_one_version_is_asked_for_in_any_way_that_dnf_and_zypper_know(asked: str) -> None:
    packages = rpm("k 1-2", "", "k-devel = 7; cap(k)"), rpm("k 1-3"), rpm("k-1 2-2")
    assert names(*packages, install=asked) == ["k 1-2"]
    assert names(*packages, install="k") == names(*packages, install="k.x86_64") == ["k 1-3"]


def test_the_newest_by_epoch_and_the_package_of_that_name_is_taken() -> None:
    packages = rpm("a 9-1"), rpm("a 1:1-1"), rpm("b 99-1", "", "a = 99")
    assert names(*packages, install="a") == ["a 1:1-1"]
    assert names(rpm("x", "a < 1:1"), *packages, install="x") == ["a 9-1", "x 1-1"]


@pytest.mark.parametrize(
    ("need", "taken"),
    [
        ("(b and c)", "b c"),
        ("(lost or c)", "c"),
        ("((b and lost) or c)", "c"),
        ("(b or c)", "b"),
        ("(v > 2 with v < 4)", "v3"),
        ("(v without three)", "v2"),
        ("(b if c)", "b"),  # c may be in the image already
        ("(b if lost)", "b"),
        ("(lost if c)", ""),
        ("(b if a)", "b"),
        ("(b if lost else c)", "b c"),
        ("(b unless c)", "b"),
        ("(b and (c or d) and (d if b))", "b c d"),
        ("((b))", "b"),
    ],
)
def test_requirements_in_brackets(need: str, taken: str) -> None:
    found = close(
        rpm("a", need), rpm("b"), rpm("c"), rpm("d"), rpm("v3 1-1", "", "v = 3; three"),
        rpm("v2 1-1", "", "v = 2"), rpm("v9 1-1", "", "v = 9; three"), install="a",
    )  # fmt: skip
    assert not found.missing
    assert [one.name for one in found.packages] == ["a", *taken.split()]


@pytest.mark.parametrize(
    ("need", "missing"),
    [
        ("(lost or gone)", "(lost or gone)"),
        ("(lost if a)", "lost"),
        ("(b and lost)", "lost"),
        ("(lost unless gone)", "lost"),
        ("(b with lost)", "(b with lost)"),
        ("(cannot be read", "(cannot be read"),
        ("b > 7", "b > 7"),
    ],
)
def test_what_is_nowhere_is_named_with_who_needs_it(need: str, missing: str) -> None:
    found = close(rpm("a", need), rpm("b 3-1"), install="a")
    assert [(one.name, one.needed_by) for one in found.missing] == [(missing, "a-1-1.x86_64")]


def test_what_was_carried_in_case_and_is_needed_later_brings_all_of_its_own() -> None:
    found = close(rpm("a", "(o if x)"), rpm("b", "o"), rpm("o", "lost"), rpm("x"), install="a,b")
    assert [one.name for one in found.missing] == ["lost"]
    assert not close(rpm("a", "(o if x)"), rpm("o", "lost"), rpm("x"), install="a").missing


def test_choices_are_told_for_what_is_asked_and_for_what_is_needed() -> None:
    packages = rpm("k-devel 5-1"), rpm("k-devel 5-2"), rpm("other"), rpm("a", "k-devel = 5-3")
    (asked,) = close(*packages, install="k-devel-5-9.x86_64").missing
    assert set(asked.there) == {"k-devel-5-1.x86_64", "k-devel-5-2.x86_64"}
    (needed,) = close(*packages, install="a").missing
    assert needed.there == ("k-devel-5-2.x86_64", "k-devel-5-1.x86_64")


def test_what_is_downloaded_comes_alone() -> None:
    packages = rpm("a"), rpm("b", "lost"), rpm("c", "lost")
    found = close(*packages, install="a", download=("b", "gone"), if_there=("c", "never"))
    assert [one.name for one in found.packages] == ["a", "b", "c"]
    assert [one.name for one in found.missing] == ["gone"]


def test_a_closure_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLOSURE", 5)
    many = [rpm(f"p{number}", f"p{number + 1}") for number in range(20)]
    with pytest.raises(IntegrityError, match="more than 5 packages"):
        close(*many, install="p0")


@pytest.mark.parametrize(
    "text",
    ["", "(a", "a)", "(a and)", "(a and b or c)", "(a if b if c)", "(a else b)", "(and)",
     "(a >=)", "(a b)", "(" * 30 + "a" + ")" * 30, "(a" + " and a" * 5000 + ")", "(a = )"],
)  # fmt: skip
def test_a_requirement_that_cannot_be_read_is_no_other(text: str) -> None:
    with pytest.raises(ValueError, match=r"requirement|is not a version"):
        read_need(text)


@pytest.mark.parametrize(
    "text", ["(a and b)", "(a >= 1:2-3 with a < 4)", "(a if (b or c(d)(64bit)) else e)"]
)
def test_a_requirement_is_written_as_it_was_read(text: str) -> None:
    assert str(read_need(text)) == text
