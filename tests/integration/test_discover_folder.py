"""perimeter-bundle discover of a folder that has charts and kustomizations somewhere below it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.command import Ended, run_command
from tests.support.kustomize import kustomize_program

from perimeter_bundle.collect import own_folder

POD = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: IMAGE}]}\n"
SHOP = "images: [{name: quay.io/a/shop, newTag: 'TAG'}]\n"


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path
    capsys: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def chart(self, name: str, template: str) -> None:
        self.write(f"{name}/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
        self.write(f"{name}/values.yaml", "image: quay.io/a/chart:1\n")
        self.write(f"{name}/templates/pod.yaml", template)

    def discover(self, *options: str) -> Ended:
        given = options or ("--kustomize", str(kustomize_program()))
        return run_command(self.capsys, "discover", str(self.path), "--json", *given)

    def images(self) -> dict[str, list[str]]:
        """Sources by image."""
        ended = self.discover()
        assert ended.status == 0, ended.err
        return {
            one["image"]: sorted({each["source"] for each in one["evidence"]})
            for one in json.loads(ended.out)["images"]
        }


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    (tmp_path / "own").mkdir()
    return Folder(tmp_path / "own", capsys)


def test_what_overlays_make_of_a_base_counts_and_not_what_the_base_says(folder: Folder) -> None:
    folder.write("app/base/pod.yaml", POD.replace("IMAGE", "quay.io/a/shop:1"))
    folder.write("app/base/kustomization.yaml", "resources: [pod.yaml]\n")
    folder.write("app/one/kustomization.yml", "resources: [../base]\n" + SHOP.replace("TAG", "2"))
    folder.write("app/two/Kustomization", "bases: [../base]\n" + SHOP.replace("TAG", "3"))
    folder.write("app/two/beside.yaml", POD.replace("IMAGE", "quay.io/a/nobody-includes-it:1"))
    folder.write("plain.yaml", POD.replace("IMAGE", "quay.io/a/plain:1"))
    assert folder.images() == {
        "quay.io/a/shop:2": ["app/one"],
        "quay.io/a/shop:3": ["app/two"],
        "quay.io/a/nobody-includes-it:1": ["app/two/beside.yaml"],
        "quay.io/a/plain:1": ["plain.yaml"],
    }


def test_patches_and_generated_files_are_seen_through_the_render_alone(folder: Folder) -> None:
    folder.write(
        "app/kustomization.yaml",
        "resources: [pod.yaml]\npatches: [{path: patch.yaml}]\n"
        "transformers: [tags.yaml]\n"
        "configMapGenerator: [{name: settings, files: [key=settings.yaml]}]\n",
    )
    folder.write("app/patch.yaml", "apiVersion: v1\n" + POD.replace("IMAGE", "quay.io/a/shop:2"))
    folder.write("app/pod.yaml", "apiVersion: v1\n" + POD.replace("IMAGE", "quay.io/a/shop:1"))
    folder.write("app/settings.yaml", "image: quay.io/a/helper:1\n")
    folder.write(
        "app/tags.yaml",
        "apiVersion: builtin\nkind: ImageTagTransformer\nmetadata: {name: tags}\n"
        "imageTag: {name: quay.io/a/shop, newTag: '9'}\n",
    )
    assert folder.images() == {"quay.io/a/shop:9": ["app"], "quay.io/a/helper:1": ["app"]}


def test_a_chart_below_is_rendered_with_its_default_values_once(folder: Folder) -> None:
    folder.chart("charts/shop", POD.replace("IMAGE", "{{ .Values.image }}"))
    folder.write("charts/shop/charts/inner/Chart.yaml", "apiVersion: v2\nname: i\nversion: 1.0.0\n")
    folder.write(
        "charts/shop/charts/inner/templates/p.yaml", POD.replace("IMAGE", "quay.io/a/inner:1")
    )
    assert folder.images() == {
        "quay.io/a/chart:1": ["charts/shop"],
        "quay.io/a/inner:1": ["charts/shop"],
    }


def test_a_chart_that_fails_is_said_and_what_is_no_yaml_stays_a_question(folder: Folder) -> None:
    folder.chart("shop", '{{ required "set it" .Values.missing }}\n')
    folder.write("shop/templates/plain.yaml", POD.replace("IMAGE", "quay.io/a/plain:1"))
    folder.write("other.yaml", POD.replace("IMAGE", "quay.io/a/other:1"))
    ended = folder.discover()
    found = json.loads(ended.out)
    assert ended.status == 2
    assert {one["image"] for one in found["images"]} >= {"quay.io/a/plain:1", "quay.io/a/other:1"}
    assert "note: read as plain YAML: shop: chart shop" in " ".join(ended.err.split())
    assert "set it" in ended.err
    (question,) = (one for one in found["unclassified"] if one["object"] == "the whole file")
    assert question["source"] == "shop/templates/pod.yaml"
    assert "set it" in question["why"]


def test_a_reference_that_is_not_here_is_named_and_the_rest_is_rendered(folder: Folder) -> None:
    remote = "https://github.com/argo/flows//base?ref=v1"
    folder.write("base/pod.yaml", POD.replace("IMAGE", "quay.io/a/shop:1"))
    folder.write("base/kustomization.yaml", "resources: [pod.yaml]\n" + SHOP.replace("TAG", "2"))
    folder.write("top/kustomization.yaml", f"resources: [../base, own.yaml, '{remote}']\n")
    folder.write("top/own.yaml", POD.replace("IMAGE", "quay.io/a/own:1"))
    ended = folder.discover()
    assert ended.status == 0
    images = {one["image"] for one in json.loads(ended.out)["images"]}
    assert images == {"quay.io/a/shop:2", "quay.io/a/own:1"}
    said = " ".join(ended.err.split())
    assert f"note: read as plain YAML: top: top refers to {remote}, which is not here" in said


def test_a_circle_and_broken_files_are_said_and_end(folder: Folder) -> None:
    folder.write("a/kustomization.yaml", "resources: [../b]\n")
    folder.write("b/kustomization.yaml", "resources: [../a, pod.yaml]\n")
    folder.write("b/pod.yaml", POD.replace("IMAGE", "quay.io/a/shop:1"))
    folder.write("c/kustomization.yaml", "resources: [pod.yaml\n")
    ended = folder.discover()
    found = json.loads(ended.out)
    assert [one["image"] for one in found["images"]] == ["quay.io/a/shop:1"]
    said = " ".join(ended.err.split())
    assert "read as plain YAML: a: " in said
    assert "cycle detected" in said
    assert "read as plain YAML: c: " in said
    assert [one["source"] for one in found["unclassified"]] == ["c/kustomization.yaml"]


def test_without_a_kustomize_it_is_said_once_and_every_file_is_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("a", "b"):
        folder.write(f"{name}/kustomization.yaml", "resources: [pod.yaml]\n")
        folder.write(f"{name}/pod.yaml", POD.replace("IMAGE", f"quay.io/a/{name}:1"))
    ended = folder.discover("--json")
    images = [one["image"] for one in json.loads(ended.out)["images"]]
    assert images == ["quay.io/a/a:1", "quay.io/a/b:1"]
    said = " ".join(ended.err.split())
    assert said.count("note:") == 1
    assert "read as plain YAML: a, b: " in said
    assert "--kustomize" in said


def test_more_kustomizations_than_any_honest_folder_has_are_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_folder, "MAX_RENDERS", 2)
    for name in ("a", "b", "c"):
        folder.write(f"{name}/kustomization.yaml", "resources: []\n")
    ended = folder.discover()
    assert ended.status == 2
    assert json.loads(ended.out)["error"]["code"] == "too-many-folders"
