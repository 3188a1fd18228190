"""perimeter-bundle discover: files, folders and charts; what is printed, and the status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perimeter_bundle.cli.main import cli
from perimeter_bundle.terminal.guard import run_guarded

POD = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: IMAGE}]}\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        run_guarded(cli, ["discover", *arguments])
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_prints_images_with_their_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(POD.replace("IMAGE", "busybox:1.28"))
    status, out, _ = run(capsys, str(file), "--json")
    found = json.loads(out)
    assert status == 0
    assert found["unclassified"] == []
    assert found["images"] == [
        {
            "image": "docker.io/library/busybox:1.28",
            "evidence": [
                {
                    "rule": "container-image",
                    "written": "busybox:1.28",
                    "source": "pod.yaml",
                    "object": "Pod/p",
                    "path": "spec.containers[0].image",
                }
            ],
        }
    ]
    assert "docker.io/library/busybox:1.28" in run(capsys, str(file))[1]


def test_what_is_unclassified_is_printed_and_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(POD.replace("IMAGE", "'{{ .Image }}'"))
    status, out, _ = run(capsys, str(file), "--json")
    assert status == 2
    assert json.loads(out)["unclassified"][0]["text"] == "{{ .Image }}"
    status, _, err = run(capsys, str(file))
    assert status == 2
    assert "error[unclassified]" in err
    assert "Pod/p spec.containers[0].image" in err


def test_a_chart_is_rendered_with_its_own_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "values.yaml").write_text("image: quay.io/a/shop:3\n")
    (tmp_path / "templates" / "pod.yaml").write_text(POD.replace("IMAGE", "{{ .Values.image }}"))
    status, out, _ = run(capsys, str(tmp_path), "--json")
    assert status == 0
    assert [one["image"] for one in json.loads(out)["images"]] == ["quay.io/a/shop:3"]


def test_a_chart_that_lacks_what_it_names_says_that_images_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(
        "apiVersion: v2\nname: shop\nversion: 1.0.0\n"
        'dependencies: [{name: bank, version: "1.x", repository: "https://charts.example"}]\n'
    )
    (tmp_path / "templates" / "pod.yaml").write_text(POD.replace("IMAGE", "quay.io/a/shop:3"))
    status, out, err = run(capsys, str(tmp_path))
    assert status == 0
    assert "quay.io/a/shop:3" in out
    assert "bank 1.x from https://charts.example" in " ".join(err.split())


def test_a_chart_whose_templates_fail_is_an_error_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "templates" / "pod.yaml").write_text('{{ required "set it" .Values.missing }}')
    status, _, err = run(capsys, str(tmp_path))
    assert status != 0
    assert "chart shop" in err
    assert "set it" in err


def kustomization(folder: Path) -> Path:
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        "resources: [pod.yaml]\nimages: [{name: quay.io/a/shop, newTag: '4'}]\n"
    )
    (folder / "pod.yaml").write_text(POD.replace("IMAGE", "quay.io/a/shop:3"))
    return folder


def test_a_kustomization_without_a_kustomize_is_refused_and_never_read_as_plain_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = kustomization(tmp_path / "app")
    status, out, err = run(capsys, str(folder))
    assert status == 2
    assert "error[no-kustomize]" in err
    assert "--kustomize" in err
    assert "quay.io" not in out
    status, _, err = run(capsys, str(folder), "--kustomize", str(tmp_path / "none"))
    assert status != 0
    assert "error[tool-missing]" in err


def test_what_is_neither_a_path_nor_a_component_is_refused_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = run(capsys, "cert-manger")
    assert status == 2
    assert "error[no-objects]" in err
    assert "cert-manager" in err


def test_a_path_comes_before_a_component_of_its_name_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cert-manager").mkdir()
    pod = tmp_path / "cert-manager" / "pod.yaml"
    pod.write_text(POD.replace("IMAGE", "quay.io/a/mine:1"))
    status, out, err = run(capsys, "cert-manager", "--json")
    assert status == 0
    assert [one["image"] for one in json.loads(out)["images"]] == ["quay.io/a/mine:1"]
    assert "note: cert-manager is a component too" in err
    assert "note:" not in run(capsys, str(pod))[2]
