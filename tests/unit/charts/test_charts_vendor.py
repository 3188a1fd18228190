"""Dependencies put into a chart: what is refused, and what is left alone."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from tests.support.helm_charts import Files, as_archive, chart_files

from perimeter_bundle.charts.archive import pack_chart, unpack_chart
from perimeter_bundle.charts.declared import Requirement
from perimeter_bundle.charts.vendor import (
    MAX_DEPTH,
    Brought,
    VendoredChart,
    vendor_chart,
    vendor_folder,
)
from perimeter_bundle.charts.versions import Range, Version, same_version
from perimeter_bundle.model.errors import InputError, PerimeterError

WEB = 'repository: "https://charts.example"'
BANK = f'name: bank, version: "1.x", {WEB}'


@dataclass(slots=True)
class Shelf:
    """Archives by name; remembers what was asked for."""

    archives: Mapping[str, bytes] = field(default_factory=dict)
    version: str = "1.0.0"
    asked: list[str] = field(default_factory=list)

    def bring(self, wanted: Requirement, folder: str, what: str) -> Brought:
        self.asked.append(f"{folder} {wanted.name}")
        url = f"https://charts.example/{wanted.name}.tgz"
        return Brought(self.archives[wanted.name], wanted.locked or self.version, url)


def tree(files: Files) -> dict[str, bytes]:
    return {
        path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()
    }


def shop(*needs: str, **more: str | bytes) -> dict[str, bytes]:
    return tree(chart_files("shop", "1.2.3", needs, **more))


def chart(name: str, *needs: str, version: str = "1.0.0") -> bytes:
    return as_archive(chart_files(name, version, needs), name)


def vendored(files: dict[str, bytes], **archives: bytes) -> VendoredChart:
    return vendor_chart(files, Shelf(archives))


def refused(files: dict[str, bytes], **archives: bytes) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        vendored(files, **archives)
    assert caught.value.hint or caught.value.code == "bad-chart"
    return caught.value


def test_refuses_charts_that_need_each_other() -> None:
    error = refused(
        shop(BANK),
        bank=chart("bank", f'name: coin, version: "*", {WEB}'),
        coin=chart("coin", BANK),
    )
    assert error.code == "circular-charts"
    assert error.problems == ("bank 1.0.0 → coin 1.0.0 → bank 1.0.0",)


def test_refuses_a_chart_that_needs_its_own_folder() -> None:
    files = tree(chart_files("a", "1.0.0", ['name: a, version: "*", repository: "file://."']))
    with pytest.raises(PerimeterError) as caught:
        vendor_folder({f"x/{path}": data for path, data in files.items()}, "x", Shelf(), "chart a")
    assert caught.value.code == "circular-charts"


class Abyss:
    """Each chart needs another one."""

    def bring(self, wanted: Requirement, folder: str, what: str) -> Brought:
        number = int(wanted.name.removeprefix("deep")) + 1
        data = chart(wanted.name, f'name: deep{number}, version: "*", {WEB}')
        return Brought(data, "1.0.0", "https://charts.example/x")


def test_refuses_dependencies_that_never_end() -> None:
    with pytest.raises(PerimeterError, match=f"nested deeper than {MAX_DEPTH}") as caught:
        vendor_chart(shop(f'name: deep1, version: "*", {WEB}'), Abyss())
    assert caught.value.code == "chart-too-large"


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        ([BANK, BANK], "two dependencies are called bank: give one of them an alias"),
        ([f"{BANK}, alias: a", f"{BANK}, alias: a"], "two dependencies are called a"),
        ([f'{BANK}, alias: "../a"'], "alias '../a' is no name"),
        ([f'name: "../bank", version: "1.x", {WEB}'], "a dependency is called '../bank'"),
        ([f"name: bank, {WEB}"], "dependency bank: version: not a range of versions: ''"),
        ([f'name: bank, version: "latest", {WEB}'], "not a range of versions: 'latest'"),
        ([f'name: bank, version: "{"1 " * 200}", {WEB}'], "a range of 400 characters"),
    ],
)
def test_refuses_dependencies_that_helm_does_not_read(needs: list[str], problem: str) -> None:
    error = refused(shop(*needs), bank=chart("bank"))
    assert error.code == "bad-chart"
    assert "chart shop" in error.message or "to be packed" in error.message
    assert problem in "\n".join(error.problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [1]\n" + "b: [*a, *a]\n" * 2, "key 'b' stands twice"),
        ("x: " + "[" * 50_000, "deeper"),
        ("name: [", "is not YAML"),
        ("- a", "no table"),
        ("name: x\n" + "#" * 2_000_000, "bytes are more than"),
    ],
)
def test_refuses_a_chart_yaml_that_is_none(text: str, reason: str) -> None:
    error = refused({"Chart.yaml": text.encode()})
    assert error.code == "bad-chart"
    assert reason in error.message


def test_refuses_an_archive_that_climbs_out_and_names_who_asked() -> None:
    error = refused(shop(BANK), bank=as_archive({**chart_files("bank", "1.0.0"), "../x": "x"}, "b"))
    assert error.code == "bad-chart"
    assert "chart shop 1.2.3: dependency bank 1.x from https://charts.example" in error.message
    assert "climbs out" in error.problems[0]


def test_refuses_archives_that_are_bombs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone is in bounds; a smaller bound keeps the test small."""
    monkeypatch.setattr("perimeter_bundle.charts.vendor.MAX_TOTAL_BYTES", 50_000_000)
    bomb = {**chart_files("bank", "1.0.0"), "zeros": b"\0" * 20_000_000}
    data = as_archive(bomb, "bank")
    error = refused(shop(**{f"charts/{number}.tgz": data for number in range(3)}))
    assert error.code == "chart-too-large"
    assert "chart shop 1.2.3: charts/2.tgz" in error.message


def test_refuses_another_chart_than_was_asked_for() -> None:
    error = refused(shop(BANK), bank=chart("coin"))
    assert "dependency bank 1.x" in error.message
    assert error.message.endswith("it says to be coin 1.0.0")
    assert (
        "says to be bank 9.0.0" in refused(shop(BANK), bank=chart("bank", version="9.0.0")).message
    )


@pytest.mark.parametrize("path", ["../../../etc", "/etc", "../.."])
def test_refuses_a_folder_outside_of_what_the_chart_came_with(path: str) -> None:
    need = f'name: bank, version: "*", repository: "file://{path}"'
    error = refused(shop(need))
    assert error.code == "chart-dependencies"
    assert f"dependency bank * from file://{path}: it leads out" in error.message


def test_refuses_a_folder_that_is_not_there_or_is_another_chart() -> None:
    need = 'name: bank, version: "2.x", repository: "file://parts/bank"'
    assert "there is no chart" in refused(shop(need)).message
    inside = {f"parts/bank/{path}": text for path, text in chart_files("bank", "1.0.0").items()}
    assert refused(shop(need, **inside)).message.endswith("it is bank 1.0.0")


def test_refuses_a_dependency_from_nowhere() -> None:
    error = refused(shop('name: bank, version: "1.x"'))
    assert error.code == "chart-dependencies"
    assert "dependency bank 1.x is not in its charts/, and no repository is named" in error.message


def test_two_repositories_cannot_give_one_name_different_charts() -> None:
    class Two:
        def bring(self, wanted: Requirement, folder: str, what: str) -> Brought:
            files = {**chart_files("bank", "1.0.0"), "values.yaml": f"from: {wanted.repository}"}
            return Brought(as_archive(files, "bank"), "1.0.0", wanted.repository)

    files = shop(BANK, 'name: bank, version: "1.x", repository: "https://b.example", alias: b')
    with pytest.raises(PerimeterError, match="another chart of that name and version lies at"):
        vendor_chart(files, Two())


def test_a_chart_that_is_whole_stays_as_it_came() -> None:
    shelf = Shelf()
    inside = {"charts/bank-1.0.0.tgz": chart("bank"), "charts/.x/a": "", "charts/README.md": ""}
    files = shop(BANK, **inside)
    found = vendor_chart(files, shelf)
    assert (found.files, found.dependencies, shelf.asked) == (files, (), [])


def test_what_lies_inside_at_another_version_stays_as_in_helm() -> None:
    found = vendored(shop(BANK, **{"charts/bank.tgz": chart("bank", version="7.0.0")}))
    assert found.dependencies == ()


def test_a_chart_inside_that_lacks_something_becomes_a_folder() -> None:
    need = f'name: coin, version: "*", {WEB}'
    found = vendored(shop(BANK, **{"charts/b.tgz": chart("bank", need)}), coin=chart("coin"))
    assert [one.place for one in found.dependencies] == ["charts/b/charts/coin-1.0.0.tgz"]
    assert "charts/b.tgz" not in found.files
    assert "charts/b/Chart.yaml" in found.files


def test_a_packed_chart_is_the_same_bytes_that_any_gzip_reads() -> None:
    files = {"values.yaml": b"x" * 200_000, "Chart.yaml": b"name: a\n", "z" * 120: b""}
    data = pack_chart("a", files)
    assert data == pack_chart("a", dict(reversed(files.items())))
    assert zlib.decompress(data, 31) == gzip.decompress(data)
    assert unpack_chart(data, "x") == ("a", files)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2", "1.2.9", "1.3.0"),
        ("~1", "1.9.0", "2.0.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        (">=1.2.0-0", "1.3.0-beta", "1.1.0"),
        (">=1.2.0", "1.3.0", "1.3.0-beta"),
        ("1 - 2", "2.9.9", "3.0.0"),
        ("<1 || >=3, !=3.1.0", "3.2.0", "3.1.0"),
        ("!=1.2.x", "1.3.0", "1.2.7"),
        (">1.2", "1.3.0", "1.2.9"),
        ("<=1.2", "1.2.9", "1.3.0"),
    ],
)
def test_ranges_mean_what_they_mean_to_helm(text: str, inside: str, outside: str) -> None:
    assert Range.parse(text).allows(Version.parse(inside))
    assert not Range.parse(text).allows(Version.parse(outside))


@pytest.mark.parametrize("text", ["", "1..2", "> = 1", "1.2.3.4", "1,", "x.y", "1 - ", "9" * 301])
def test_refuses_what_is_no_range(text: str) -> None:
    with pytest.raises(InputError):
        Range.parse(text)


def test_the_newest_is_the_newest_and_no_path_is_a_version() -> None:
    assert Range.parse("*").newest(["1.9.0", "v1.10.0", "2.0.0-rc.1", "x"]) == "v1.10.0"
    assert Range.parse(">=1-0").newest(["1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-rc"]) == "1.0.0-rc.10"
    assert same_version("v1.2", "1.2.0")
    assert not same_version("../1.2", "../1.2")
