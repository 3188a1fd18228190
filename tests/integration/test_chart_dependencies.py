"""Charts with dependencies: real servers, and the real Helm for what must come out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from tests.support.command import run_command
from tests.support.distribution import Distribution
from tests.support.git_server import GitServer
from tests.support.helm_charts import (
    Files,
    as_archive,
    chart_files,
    publish,
    push_chart,
    run_helm,
    write_chart,
)
from tests.support.lying_server import Lie
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.catalog.load import load_catalog
from perimeter_bundle.charts.archive import unpack_chart
from perimeter_bundle.collect.changes import lock_changes
from perimeter_bundle.collect.chart_archives import lock_chart
from perimeter_bundle.collect.charts import render_once
from perimeter_bundle.collect.plan import ask_upstream, plan_release
from perimeter_bundle.collect.wanted import wanted_charts
from perimeter_bundle.format.manifest import BundleManifest, ItemKind
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.lock import Lock, LockedChart

RANGES = (
    *("1.x", "^1.2", "~1.2.0", ">=1.2 <1.10", "*", ">0.0.0-0", "1 - 2", "^0.2", "=2.0.0-rc.1"),
    *("!=2.1.0", "~0.2 || ^1.9", "v1.9.0", "<1.2.0-0", ">=2.0.0-alpha"),
)
VERSIONS = (
    *("0.2.0", "0.2.9", "0.3.0", "1.0.0", "1.2.0", "1.2.7", "1.9.0", "v1.9.1", "1.10.0+b2"),
    *("2.0.0-rc.1", "2.0.0", "2.1.0", "3.0.0-beta", "not-a-version"),
)


@dataclass(slots=True)
class Market:
    """A mini upstream, whose release has one chart."""

    mini: MiniUpstream
    folder: Path

    @property
    def url(self) -> str:
        return self.mini.server.url

    def shop(self, *needs: str, more: Files | None = None, values: str = "") -> Files:
        """The catalog's chart, which is published: with what it needs."""
        files = {
            **chart_files("shop", "1.2.3", needs),
            "values.yaml": f"size: 1\nimage: {self.mini.host}/example/shop:1.0\n{values}",
            **(more or {}),
        }
        publish(self.mini.server, "/charts", {("shop", "1.2.3"): as_archive(files, "shop")})
        return files

    def trust(self, certificate: str) -> None:
        """Another authority beside that of the mini upstream."""
        known = self.mini.ca_file.read_text()
        self.mini.ca_file = self.folder / "all.crt"
        self.mini.ca_file.write_text(f"{known}\n{certificate}")

    def entry(self, text: str) -> None:
        """What component.yaml says about the chart."""
        path = self.mini.catalog_root / "shop" / "component.yaml"
        wanted = re.sub(
            r"(?m)^  - \{name: shop,.*$", f"  - {{name: shop, {text}}}", path.read_text()
        )
        path.write_text(wanted)

    def lock(self) -> tuple[Lock, LockedChart]:
        lock = self.mini.lock()
        return lock, lock.charts[0]

    def carried(self, lock: Lock, out: str = "bundle") -> bytes:
        """The chart's archive in a bundle that is built from the lock."""
        result = self.mini.build(lock, self.folder / out)
        item = next(one for one in result.manifest.items if one.kind is ItemKind.CHART)
        return (result.root / "blobs" / "sha256" / item.payload.hex).read_bytes()

    def from_helm(self, files: Files) -> Path:
        """The same chart after the real Helm locked and then built its dependencies."""
        folder = write_chart(self.folder / "by-helm" / "shop", files)
        run_helm(folder, "update", self.mini.ca_file)
        shutil.rmtree(folder / "charts")
        run_helm(folder, "build", self.mini.ca_file)
        return folder


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    server, ca_file = tls_server(tmp_path)
    with server:
        yield Market(mini_upstream(server, tmp_path, ca_file), tmp_path)


@pytest.fixture
def registry(market: Market) -> Iterator[Distribution]:
    with Distribution(market.folder / "registry") as running:
        market.trust(running.ca.certificate)
        yield running


@pytest.fixture
def git(market: Market) -> Iterator[GitServer]:
    with GitServer(market.folder / "server") as running:
        market.trust(running.ca_file.read_text())
        market.mini.mirrors = {"git.example": (f"{running.base}/git.example",)}
        yield running


def rendered(data: bytes | Path, **values: object) -> dict[str, str]:
    """What Helm's engine makes of a chart, by template."""
    import helm_python

    opened = (
        helm_python.Chart.load(data)
        if isinstance(data, Path)
        else helm_python.Chart.load_archive(data)
    )
    with opened as chart:
        return dict(chart.render(values, name="shop", namespace="shop"))


def refused(market: Market) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        market.lock()
    return caught.value


def no_source(spec: object) -> dict[str, bytes]:
    raise AssertionError(f"{spec} is asked for")


def bank(version: str = "1.0.0", *needs: str) -> bytes:
    return as_archive(chart_files("bank", version, needs), "bank")


def test_renders_what_helm_renders_after_its_own_dependency_build(
    market: Market, registry: Distribution
) -> None:
    """Aliases, conditions, tags, import-values, a library, a registry, two versions of a chart."""
    server = market.mini.server
    library = chart_files("library", "0.1.0")
    library = {
        "Chart.yaml": f"{library['Chart.yaml']}type: library\n",
        "templates/_names.tpl": '{{ define "library.name" }}from-library{{ end }}\n',
    }
    till = chart_files("till", "2.1.0")
    till = {
        **till,
        "values.yaml": "size: 5\nexports: {data: {colour: red}}\n",
        "crds/till.yaml": "kind: CustomResourceDefinition\nmetadata: {name: tills}\n",
    }
    publish(
        server,
        "/bank",
        {
            ("bank", "1.0.0"): bank(),
            ("bank", "1.4.0"): bank("1.4.0"),
            ("bank", "2.0.0"): bank("2.0.0"),
            ("library", "0.1.0"): as_archive(library, "library"),
        },
    )
    host = f"127.0.0.1:{registry.port}"
    for version in ("1.9.0", "2.1.0", "3.0.0"):
        files = {**till, "Chart.yaml": till["Chart.yaml"].replace("2.1.0", version)}
        push_chart(registry, "charts/till", version, as_archive(files, "till"))
    off = as_archive(chart_files("extra", "1.0.0"), "extra")
    publish(server, "/extra", {("extra", "1.0.0"): off})
    bank_url = f'repository: "{market.url}/bank"'
    files = market.shop(
        f'name: bank, version: "1.x", {bank_url}',
        f'name: bank, version: ">=2", {bank_url}, alias: vault',
        f'name: library, version: "*", {bank_url}',
        f'name: till, version: "^2.0", repository: "oci://{host}/charts", import-values: [data]',
        f'name: extra, version: "1.0.0", repository: "{market.url}/extra", '
        "condition: extra.enabled, tags: [more]",
        more={"templates/name.yaml": 'kind: Name\nis: {{ include "library.name" . }}\n'},
        values="extra: {enabled: false}\nvault: {size: 7}\n",
    )
    lock, chart = market.lock()
    assert [(one.place, one.asked) for one in chart.dependencies] == [
        ("charts/bank-1.4.0.tgz", "1.x"),
        ("charts/bank-2.0.0.tgz", ">=2"),
        ("charts/extra-1.0.0.tgz", "1.0.0"),
        ("charts/library-0.1.0.tgz", "*"),
        ("charts/till-2.1.0.tgz", "^2.0"),
    ]
    assert Lock.parse(lock.to_bytes()) == lock
    data = market.carried(lock)
    helm = market.from_helm(files)
    assert rendered(data) == rendered(helm)
    assert "size: '7'" in rendered(data)["shop/charts/vault/templates/map.yaml"]
    assert "shop/charts/extra/templates/map.yaml" not in rendered(data)
    switched_on = rendered(data, extra={"enabled": True})
    assert switched_on == rendered(helm, extra={"enabled": True})
    assert "shop/charts/extra/templates/map.yaml" in switched_on
    spec = replace(market.mini.release().component("shop").charts[0], values={})
    assert b"crds/till.yaml" in render_once(data, spec)


def test_chooses_the_versions_that_helm_chooses(market: Market) -> None:
    charts = {("bank", version): bank(version) for version in VERSIONS}
    publish(market.mini.server, "/bank", charts)
    files = market.shop(
        *(
            f'name: bank, version: "{text}", repository: "{market.url}/bank", alias: bank{number}'
            for number, text in enumerate(RANGES)
        )
    )
    chart, _ = lock_chart(
        wanted_charts(market.mini.release())[0], market.mini.upstream(), no_source
    )
    ours = {one.asked: one.version for one in chart.dependencies}
    chosen = yaml.safe_load((market.from_helm(files) / "Chart.lock").read_text())
    helm = {
        asked: one["version"] for asked, one in zip(RANGES, chosen["dependencies"], strict=True)
    }
    assert ours == helm


def test_chart_lock_decides_and_its_digest_is_helms(market: Market) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    need = f'name: bank, version: ">=1 <3", repository: "{market.url}/bank", tags: [a], alias: b'
    folder = market.from_helm(market.shop(need))
    written = (folder / "Chart.lock").read_text()
    publish(
        market.mini.server,
        "/bank",
        {("bank", "2.0.0"): bank("2.0.0"), ("bank", "1.0.0"): bank()},
    )
    market.shop(need, more={"Chart.lock": written})
    assert [one.version for one in market.lock()[1].dependencies] == ["1.0.0"]
    market.shop(need, more={"Chart.lock": written.replace("1.0.0", "2.0.0")})
    error = refused(market)
    assert error.code == "chart-lock-stale"
    assert "chart shop 1.2.3: Chart.lock was not written for" in error.message


def test_a_build_gives_the_locked_bytes_though_newer_versions_came(market: Market) -> None:
    server = market.mini.server
    publish(server, "/coin", {("coin", "1.0.0"): as_archive(chart_files("coin", "1.0.0"), "coin")})
    coin = f'name: coin, version: "1.x", repository: "{market.url}/coin"'
    publish(server, "/bank", {("bank", "1.0.0"): bank("1.0.0", coin)})
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    lock, chart = market.lock()
    assert [one.place for one in chart.dependencies] == [
        "charts/bank-1.0.0",
        "charts/bank-1.0.0/charts/coin-1.0.0.tgz",
    ]
    newer = as_archive(chart_files("coin", "1.1.0"), "coin")
    publish(server, "/coin", {("coin", "1.1.0"): newer})
    publish(server, "/bank", {("bank", "1.5.0"): bank("1.5.0", coin)})
    first, second = market.carried(lock), market.carried(lock, "again")
    assert first == second
    assert len(first) == chart.size_bytes
    assert "shop/charts/bank/charts/coin/templates/map.yaml" in rendered(first)
    assert market.lock()[1].dependencies != chart.dependencies


def test_plan_diff_and_inspect_show_what_is_inside(
    market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    lock, _ = market.lock()
    release = market.mini.release()
    work = market.folder / "plan"
    work.mkdir()
    asked = plan_release(release, None, ask_upstream(release, market.mini.upstream(), work))
    for plan in (plan_release(release, lock), asked):
        shown = [(one.name, one.source) for one in plan.items if one.kind == "dependency"]
        url = f"{market.url}/bank/bank-1.0.0.tgz"
        assert shown == [("bank 1.0.0 in shop/charts/bank-1.0.0.tgz", url)]
    publish(market.mini.server, "/bank", {("bank", "1.1.0"): bank("1.1.0")})
    changes = [one.to_dict() for one in lock_changes(lock, market.lock()[0]).changes]
    assert [(one["kind"], one["name"], one["before"], one["now"]) for one in changes][1:] == [
        ("dependency", "bank of shop", ["1.0.0"], ["1.1.0"])
    ]
    assert (changes[0]["kind"], changes[0]["change"]) == ("chart", "moved")
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    market.carried(lock)
    manifest = BundleManifest.parse(
        (market.folder / "bundle" / "manifest" / "bundle.json").read_bytes()
    )
    shown = run_command(capsys, "inspect", str(market.folder / "bundle"))
    assert re.search(rf"(?m)^bank +1\.0\.0 +shop +{re.escape(url)}$", shown.out), shown
    item = next(one for one in manifest.items if one.kind is ItemKind.CHART)
    assert f"charts/bank-1.0.0.tgz in it is bank 1.0.0 from {url}" in item.why


def test_a_chart_of_git_is_packed_with_folders_of_its_repository(
    market: Market, git: GitServer
) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    needs = (
        'name: common, version: "0.x", repository: "file://../common"',
        f'name: bank, version: "1.0.0", repository: "{market.url}/bank"',
    )
    files = {
        **chart_files("shop", "1.2.3", needs),
        "values.yaml": f"size: 1\nimage: {market.mini.host}/example/shop:1.0\n",
        ".helmignore": "# none of ours\n*.bak\nnotes/\n/top.txt\ndocs/*.md\n",
        "templates/.hidden": "{{ fail }}",
        "templates/old.bak": "{{ fail }}",
        "notes/a.txt": "x",
        "top.txt": "x",
        "sub/top.txt": "x",
        "docs/a.md": "x",
        "docs/deep/a.md": "x",
    }
    tree = {f"helm/shop/{path}": str(text) for path, text in files.items()}
    common = chart_files("common", "0.3.0")
    tree |= {f"helm/common/{path}": str(text) for path, text in common.items()}
    commit = git.publish("git.example/org/shop", tree, "v1")
    sources = market.mini.catalog_root / "sources"
    sources.mkdir()
    (sources / "shop.yaml").write_text(
        "name: shop\nlicence: MIT\ngit: https://git.example/org/shop\n"
        f"tag: v1\ncommit: {commit}\nkeep: [helm]\n"
    )
    market.entry("version: 1.2.3, source: shop, path: helm/shop, namespace: shop")
    lock, chart = market.lock()
    assert chart.source == f"git+https://git.example/org/shop@{commit}#helm/shop"
    assert [(one.place, one.url) for one in chart.dependencies] == [
        ("charts/bank-1.0.0.tgz", f"{market.url}/bank/bank-1.0.0.tgz"),
        ("charts/common-0.3.0", "file://../common"),
    ]
    data = market.carried(lock)
    carried = load_catalog(market.folder / "bundle" / "content" / "manifests")
    assert carried.components["shop"].charts[0].origin == chart.source
    write_chart(market.folder / "by-helm" / "common", common)
    helm = market.from_helm(files)
    assert rendered(data) == rendered(helm)
    names = json.loads(run_helm(helm, "files", market.mini.ca_file))
    ours = {path for path in unpack_chart(data, "x")[1] if not path.startswith("charts/")}
    assert ours - {"Chart.yaml", "values.yaml"} == set(names) - {"Chart.lock"}
    git.publish("git.example/org/shop", {**tree, "helm/shop/top.txt": "moved"}, "v1")
    with pytest.raises(PerimeterError, match="its tag points to another commit"):
        market.carried(lock, "moved")


HOSTILE = [
    pytest.param("bank: [&a [x], *a]", "bad-chart-index", "is no table", id="not-a-list-of-tables"),
    pytest.param("bank: []\n  bank: []", "bad-chart-index", "stands twice", id="key-twice"),
    pytest.param("bank: " + "[" * 100_000, "bad-chart-index", "deeper", id="deep"),
    pytest.param("other: []", "no-such-chart", "has no chart bank", id="no-such-chart"),
    pytest.param(
        "bank:\n  - {version: 3.0.0, urls: [a.tgz]}",
        "no-such-chart",
        "no version in the range '1.x'",
        id="no-version-fits",
    ),
    pytest.param(
        'bank:\n  - {version: 1.0.0, urls: ["http://x.example/a.tgz"]}',
        "bad-chart-index",
        "not served over https",
        id="plain-http",
    ),
    pytest.param(
        'bank:\n  - {version: 1.0.0, urls: ["https://["]}',
        "bad-chart-index",
        "is at no address",
        id="no-address",
    ),
    pytest.param(
        f"bank:\n  - {{version: 1.0.0, urls: [bank-1.0.0.tgz], digest: {'0' * 64}}}",
        "digest-mismatch",
        "not what its index promises",
        id="other-digest",
    ),
]


@pytest.mark.parametrize(("text", "code", "message"), HOSTILE)
def test_an_index_that_lies_is_refused_and_says_for_whom(
    market: Market, text: str, code: str, message: str
) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    market.mini.server.serve("/bank/index.yaml", f"entries:\n  {text}\n".encode())
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    error = refused(market)
    assert (error.code, error.context["needed by"]) == (
        code,
        "chart shop 1.2.3: dependency bank 1.x",
    )
    assert message in error.message


def test_a_bomb_in_an_index_goes_off_nowhere(market: Market) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    text = "\n".join([*lines, "entries:", "  bank: *a11", ""])
    market.mini.server.serve("/bank/index.yaml", text.encode())
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    error = refused(market)
    assert error.code == "bad-chart-index"
    assert "bomb" in error.message


def test_an_index_larger_than_any_is_not_read_to_its_end(market: Market) -> None:
    market.mini.server.serve("/bank/index.yaml", b"#" * (100 * 1024 * 1024))
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    error = refused(market)
    assert (error.code, error.context["needed by"][:17]) == ("too-large", "chart shop 1.2.3:")


def test_a_redirect_to_plain_http_is_refused(market: Market) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    market.mini.server.lie(
        "/bank/bank-1.0.0.tgz", Lie(status=302, headers={"Location": "http://charts.example/a.tgz"})
    )
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    error = refused(market)
    assert error.code == "not-https"
    assert error.context["needed by"] == "chart shop 1.2.3: dependency bank 1.x"


def test_a_repository_that_is_gone_is_looked_for_at_its_alternates(market: Market) -> None:
    publish(market.mini.server, "/mirror", {("bank", "1.0.0"): bank()})
    gone = f"{market.url}/gone"
    market.shop(
        f'name: bank, version: "1.x", repository: "{gone}"',
        'name: bank, version: "1.0.0", repository: "@till", alias: till',
    )
    common = f'version: 1.2.3, repository: "{market.url}/charts", namespace: shop'
    till = f'"@till": ["{market.url}/mirror"]'
    market.entry(f"{common}, alternates: {{{till}}}")
    error = refused(market)
    assert error.code == "not-found"
    assert error.context["needed by"] == "chart shop 1.2.3: dependency bank 1.x"
    market.entry(f'{common}, alternates: {{{till}, "{gone}": ["{market.url}/nowhere"]}}')
    error = refused(market)
    assert error.code == "chart-gone"
    assert error.message.startswith("chart shop 1.2.3: dependency bank 1.x is at none of the 2")
    assert [problem.split(": ")[0] for problem in error.problems[:2]] == [
        gone,
        f"{market.url}/nowhere",
    ]
    assert "alternates:" in (error.hint or "")
    market.entry(f'{common}, alternates: {{{till}, "{gone}": ["{market.url}/mirror"]}}')
    _, chart = market.lock()
    assert {one.url for one in chart.dependencies} == {f"{market.url}/mirror/bank-1.0.0.tgz"}
    market.entry(
        f'{common}, alternates: {{{till}, "{gone}": ["{market.url}/mirror"], "x": '
        f'["{market.url}/x"]}}'
    )
    assert refused(market).code == "catalog-unused"


def test_a_name_of_somebodys_own_helm_is_refused_with_what_to_write(market: Market) -> None:
    market.shop('name: bank, version: "1.x", repository: "@stable"')
    error = refused(market)
    assert error.code == "chart-repository"
    assert 'alternates: {"@stable": [https://…]}' in (error.hint or "")


def test_a_login_in_an_address_is_refused_and_not_repeated(market: Market) -> None:
    market.shop('name: bank, version: "1.x", repository: "https://me:secret@charts.example"')
    error = refused(market)
    assert error.code == "chart-repository"
    assert "secret" not in str(error)


def test_other_bytes_than_locked_are_refused_while_building(market: Market) -> None:
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): bank()})
    market.shop(f'name: bank, version: "1.x", repository: "{market.url}/bank"')
    lock, chart = market.lock()
    other = as_archive({**chart_files("bank", "1.0.0"), "values.yaml": "size: 9\n"}, "bank")
    publish(market.mini.server, "/bank", {("bank", "1.0.0"): other})
    with pytest.raises(PerimeterError) as caught:
        market.carried(lock)
    assert caught.value.code == "digest-mismatch"
    assert caught.value.message == "refused chart bank 1.0.0: it is not what the lock says"
    assert caught.value.context["needed by"] == "chart shop 1.2.3: dependency bank 1.x"
    edited = replace(chart, dependencies=(replace(chart.dependencies[0], asked="2.x"),))
    with pytest.raises(PerimeterError) as caught:
        market.carried(replace(lock, charts=(edited,)), "edited")
    assert caught.value.code == "lock-contradicted"


def test_a_registry_that_lacks_the_version_says_which_there_are(
    market: Market, registry: Distribution
) -> None:
    push_chart(registry, "charts/bank", "1.0.0", bank())
    host = f"127.0.0.1:{registry.port}"
    market.shop(f'name: bank, version: ">=4", repository: "oci://{host}/charts"')
    error = refused(market)
    assert error.code == "no-such-chart"
    assert error.context["there are"] == "1.0.0"
