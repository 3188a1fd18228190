"""Chart repositories and archives: the honest kind and the others."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from perimeter_bundle.catalog.values import ChartSpec
from perimeter_bundle.charts.index import find_chart
from perimeter_bundle.collect.charts import check_archive, render_chart
from perimeter_bundle.model.errors import InputError, IntegrityError, NetworkError

REPOSITORY = "https://charts.example.org/stable"
HEX = "ab" * 32


def index(**entry: object) -> bytes:
    fields = {"version": "1.2.3", "urls": ["shop-1.2.3.tgz"], "digest": HEX, **entry}
    lines = "".join(f"      {key}: {value!r}\n" for key, value in fields.items())
    return f"apiVersion: v1\nentries:\n  shop:\n    -\n{lines}".replace("None", "null").encode()


def archive(files: dict[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return raw.getvalue()


CHART = {
    "shop/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.2.3\n",
    "shop/values.yaml": "image: quay.io/a/shop:1\n",
    "shop/crds/crd.yaml": "kind: CustomResourceDefinition\n",
    "shop/templates/NOTES.txt": "Thank you",
    "shop/templates/pod.yaml": "kind: Pod\nspec: {containers: [{image: {{ .Values.image }}}]}\n",
}


def spec(**values: object) -> ChartSpec:
    return ChartSpec("shop", "1.2.3", REPOSITORY, "MIT", "shop", "shop", None, values)


def test_a_relative_address_is_below_the_repository() -> None:
    found = find_chart(index(), REPOSITORY, "shop", "1.2.3")
    assert found.url == f"{REPOSITORY}/shop-1.2.3.tgz"
    assert str(found.digest) == f"sha256:{HEX}"


def test_an_index_without_digests_is_fine() -> None:
    assert find_chart(index(digest=None), REPOSITORY, "shop", "1.2.3").digest is None


def test_a_version_that_is_not_there_names_those_there_are() -> None:
    with pytest.raises(InputError) as caught:
        find_chart(index(), REPOSITORY, "shop", "9")
    assert caught.value.code == "no-such-chart"
    assert caught.value.context["newest versions"] == "1.2.3"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html><body>Please log in</body></html>", "is not the index of a chart repository"),
        (b"entries: [", "has no readable index.yaml"),
        (index(urls=["http://charts.example.org/a.tgz"]), "not served over https"),
        (index(urls=["file:///etc/passwd"]), "not served over https"),
        (index(urls=[]), "has no address"),
        (index(digest="zz"), "not a digest"),
    ],
)
def test_refuses_an_index_it_cannot_rely_on(data: bytes, reason: str) -> None:
    with pytest.raises(NetworkError) as caught:
        find_chart(data, REPOSITORY, "shop", "1.2.3")
    assert caught.value.code == "bad-chart-index"
    assert reason in caught.value.message


def test_an_archive_says_what_it_is() -> None:
    metadata = check_archive(archive(CHART), "shop", "1.2.3", "x")
    assert metadata == {"apiVersion": "v2", "name": "shop", "version": "1.2.3"}


def climbing(name: str) -> bytes:
    return archive({**CHART, name: "x"})


def linking() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        entry = tarfile.TarInfo("shop/templates")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(entry)
    return raw.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (climbing("../evil"), "climbs out"),
        (climbing("/etc/evil"), "climbs out"),
        (climbing("shop/../../evil"), "climbs out"),
        (linking(), "neither a file nor a folder"),
        (archive({"shop/Chart.yaml": "name: other\nversion: 1.2.3\n"}), "says to be other 1.2.3"),
        (archive({"shop/values.yaml": ""}), "has no Chart.yaml"),
        (archive({"other/Chart.yaml": CHART["shop/Chart.yaml"]}), "folder is called 'other'"),
        (b"not gzip", "not a chart archive"),
        (archive(CHART)[:100], "not a chart archive"),
        (gzip.compress(b"\0" * (300 << 20), 1), "more than any honest chart"),
    ],
    ids=[
        *("dots", "absolute", "inner-dots", "link", "other", "empty", "other-folder"),
        *("no-gzip", "cut", "bomb"),
    ],
)
def test_refuses_an_archive_that_is_not_that_chart(data: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        check_archive(data, "shop", "1.2.3", "chart shop")
    assert caught.value.code == "bad-chart"
    assert reason in "\n".join(caught.value.problems)


def test_renders_crds_first_and_leaves_notes_out() -> None:
    rendered = render_chart(archive(CHART), spec(image="quay.io/a/shop:2")).decode()
    assert rendered == (
        "---\n# Source: crds/crd.yaml\nkind: CustomResourceDefinition\n"
        "---\n# Source: shop/templates/pod.yaml\n"
        "kind: Pod\nspec: {containers: [{image: quay.io/a/shop:2}]}\n"
    )


def test_refuses_a_chart_that_makes_something_up_each_time() -> None:
    chart = {**CHART, "shop/templates/secret.yaml": "password: {{ randAlphaNum 20 }}\n"}
    with pytest.raises(IntegrityError) as caught:
        render_chart(archive(chart), spec())
    assert caught.value.code == "chart-random"


def test_a_template_that_fails_says_what_helm_says() -> None:
    chart = {**CHART, "shop/templates/bad.yaml": '{{ fail "needs a size" }}\n'}
    with pytest.raises(IntegrityError) as caught:
        render_chart(archive(chart), spec())
    assert caught.value.code == "chart-not-rendered"
    assert "needs a size" in caught.value.context["helm says"]


DEPENDENCIES = """\
dependencies:
- {name: bank, version: 1.0.0, repository: "https://bank.example/charts"}
- {name: till, version: 2.x, repository: "https://till.example", condition: "till.enabled"}
- {name: scale, version: "3", repository: "oci://scale.example/charts", tags: [heavy]}
"""


def test_charts_that_are_not_inside_are_refused_by_name() -> None:
    files = {**CHART, "shop/Chart.yaml": CHART["shop/Chart.yaml"] + DEPENDENCIES}
    with pytest.raises(IntegrityError) as caught:
        render_chart(archive(files), spec())
    assert caught.value.code == "chart-dependencies"
    assert caught.value.problems == (
        "bank 1.0.0 from https://bank.example/charts",
        "scale 3 from oci://scale.example/charts",
        "till 2.x from https://till.example",
    )


def test_a_chart_that_is_inside_is_no_problem_and_one_switched_off_must_be_inside_too() -> None:
    """A site's values may switch it on."""
    files = {
        **CHART,
        "shop/Chart.yaml": CHART["shop/Chart.yaml"] + DEPENDENCIES,
        "shop/charts/bank/Chart.yaml": "apiVersion: v2\nname: bank\nversion: 1.0.0\n",
        "shop/charts/scale/Chart.yaml": "apiVersion: v2\nname: scale\nversion: 3.1.0\n",
    }
    with pytest.raises(IntegrityError) as caught:
        render_chart(archive(files), spec(till={"enabled": False}))
    assert caught.value.problems == ("till 2.x from https://till.example",)
    files["shop/charts/till/Chart.yaml"] = "apiVersion: v2\nname: till\nversion: 2.4.0\n"
    assert b"quay.io/a/shop:1" in render_chart(archive(files), spec())


def test_dependencies_of_the_old_kind_count_too() -> None:
    files = {**CHART, "shop/requirements.yaml": DEPENDENCIES}
    with pytest.raises(IntegrityError) as caught:
        render_chart(archive(files), spec())
    assert len(caught.value.problems) == 3


def test_a_large_index_is_read_for_the_chart_that_is_wanted() -> None:
    """Helm's own form; what stands beside it is not even read."""
    text = "apiVersion: v1\nentries:\n  a:\n  - {version: [\n"
    text += "  shop:\n  - version: 1.2.3\n    urls:\n    - shop-1.2.3.tgz\n  z:\n  - ]\n"
    found = find_chart(text.encode(), REPOSITORY, "shop", "1.2.3")
    assert found.url == f"{REPOSITORY}/shop-1.2.3.tgz"
    with pytest.raises(NetworkError, match="no readable"):
        find_chart(text.encode(), REPOSITORY, "other", "1.2.3")
