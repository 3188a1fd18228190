"""perimeter-bundle discover of components of a catalog and of kustomization folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.test_build_sources import Forest, plant
from tests.support.git_server import GitServer
from tests.support.kustomize import kustomize_program
from tests.support.mini_upstream import mini_upstream, tls_server

from perimeter_bundle.cli.main import cli
from perimeter_bundle.terminal.guard import run_guarded

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    "spec: {containers: [{name: c, image: IMAGE}]}\n"
)


@dataclass(frozen=True, slots=True)
class Runner:
    forest: Forest
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        mini = self.forest.mini
        options = ["--catalog", str(mini.catalog_root), "--ca-file", str(mini.ca_file)]
        for host, urls in mini.mirrors.items():
            options += ["--mirror", f"{host}={urls[0]}"]
        with pytest.raises(SystemExit) as caught:
            run_guarded(cli, ["discover", *arguments, *options])
        out, err = self.capsys.readouterr()
        return int(caught.value.code or 0), out, err

    def images(self, *arguments: str) -> list[str]:
        status, out, err = self(*arguments, "--json")
        assert status == 0, err
        return [one["image"] for one in json.loads(out)["images"]]


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    monkeypatch.chdir(tmp_path)
    server, ca_file = tls_server(tmp_path)
    with server, GitServer(tmp_path / "server") as git:
        yield Runner(plant(mini_upstream(server, tmp_path, ca_file), git), capsys)


def test_a_component_is_fetched_rendered_and_judged_by_its_rules(run: Runner) -> None:
    mini = run.forest.mini
    assert run.images("shop") == [f"{mini.host}/example/shop:1.0"]
    fetched = mini.blob_requests()
    assert fetched == ["/files/extra.yaml"]  # neither an image nor a file of the component
    component = mini.catalog_root / "shop" / "component.yaml"
    rule = 'rules: {exclude: [{image: "*/example/shop:*", reason: never started}]}\n'
    component.write_text(component.read_text() + rule)
    assert run.images("shop") == []
    component.write_text(component.read_text().replace("example/shop:*", "example/other:*"))
    status, _, err = run("shop")
    assert status == 2
    assert "rule matches nothing" in err


def test_a_component_of_kustomizations_is_rendered_with_the_catalogs_kustomize(run: Runner) -> None:
    assert run.images("trees") == [f"{run.forest.mini.host}/example/shop:1.0"]
    (run.forest.mini.catalog_root / "releases" / "mini.yaml").unlink()
    assert run.images("trees")


def test_a_component_without_objects_says_so(run: Runner) -> None:
    status, out, err = run("cluster")
    assert status == 0
    assert "0 images" in out
    assert "note: cluster has no objects to look at" in err


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
def test_a_kustomization_folder_is_rendered_with_what_lies_beside_it(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    base, top = tmp_path / "own" / "base", tmp_path / "own" / "top"
    for folder, resource in ((base, "pod.yaml"), (top, "../base")):
        folder.mkdir(parents=True)
        (folder / name).write_text(f"resources: [{resource}]\n")
    (top / name).write_text("resources: [../base]\nimages: [{name: quay.io/a/shop, newTag: '4'}]\n")
    (base / "pod.yaml").write_text(POD.replace("IMAGE", "quay.io/a/shop:3"))
    program = kustomize_program()
    assert run.images(str(top), "--kustomize", str(program)) == ["quay.io/a/shop:4"]
    monkeypatch.setenv("PATH", str(program.parent))
    assert run.images("own/top") == ["quay.io/a/shop:4"]


def test_a_kustomization_that_would_reach_out_fails_with_the_reference(
    run: Runner, tmp_path: Path
) -> None:
    reference = "https://github.com/argo/flows//base?ref=v1"
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(f"resources: ['{reference}']\n")
    status, _, err = run(str(folder), "--kustomize", str(kustomize_program()))
    assert status != 0
    assert "error[not-rendered]" in err
    assert "github.com/argo/flows" in err
