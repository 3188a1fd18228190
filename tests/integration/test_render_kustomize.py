"""The real kustomize on vendored trees: what it gives, what it is kept from, how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kustomize import kustomize_archive, kustomize_program

from perimeter_bundle.discover.kubeadm import this_platform
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.render import kustomize as module
from perimeter_bundle.render.kustomize import Kustomize, isolation, open_kustomize
from perimeter_bundle.tools.run import clean_environment, run_tool

FILES = {
    "base/kustomization.yaml": b"resources: [pod.yaml]\nimages:\n- {name: x, newTag: v2}\n",
    "base/pod.yaml": b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
    b"spec: {containers: [{name: c, image: x}]}\n",
    "over/kustomization.yaml": b"namespace: shop\nresources: [../base]\n",
}


@pytest.fixture
def kustomize(tmp_path: Path) -> Iterator[Kustomize]:
    yield Kustomize(kustomize_program(), tmp_path)


def refusal(kustomize: Kustomize, files: FileTree, path: str = "over") -> PerimeterError:
    with kustomize.tree(files, "source trees 1.0") as tree, pytest.raises(PerimeterError) as caught:
        tree.render(path)
    return caught.value


def test_renders_the_same_bytes_each_time_and_leaves_nothing(
    kustomize: Kustomize, tmp_path: Path
) -> None:
    with kustomize.tree(FILES, "trees") as tree:
        first = tree.render("over")
        assert first == tree.render("over")
    assert b"image: x:v2" in first
    assert b"namespace: shop" in first
    assert list(tmp_path.iterdir()) == []


def test_runs_the_program_of_the_locked_archive_and_no_other(tmp_path: Path) -> None:
    archive = tmp_path / "kustomize.tar.gz"
    archive.write_bytes(kustomize_archive())
    digest = Digest.of_bytes(kustomize_archive())
    with (
        open_kustomize(archive, digest, this_platform(), tmp_path) as found,
        found.tree(FILES, "trees") as tree,
    ):
        assert b"kind: Pod" in tree.render("base")
    for data, code in ((b"other", "digest-mismatch"), (b"no archive", "bad-kustomize")):
        archive.write_bytes(data)
        wanted = digest if code == "digest-mismatch" else Digest.of_bytes(data)
        with (
            pytest.raises(PerimeterError) as caught,
            open_kustomize(archive, wanted, this_platform(), tmp_path),
        ):
            pass
        assert caught.value.code == code


def test_a_program_for_another_machine_is_not_tried(tmp_path: Path) -> None:
    with (
        pytest.raises(PerimeterError) as caught,
        open_kustomize(
            tmp_path / "none", Digest.of_bytes(b""), Platform("plan9", "mips"), tmp_path
        ),
    ):
        pass
    assert caught.value.code == "wrong-platform"


def test_a_tree_that_would_reach_out_is_refused_by_name_before_it_runs(
    kustomize: Kustomize,
) -> None:
    files = {**FILES, "base/kustomization.yaml": b"resources: ['https://github.com/o/r?ref=v1']\n"}
    error = refusal(kustomize, files)
    assert error.code == "remote-reference"
    assert "'https://github.com/o/r?ref=v1'" in error.message


def test_what_kustomize_says_reaches_people_without_temporary_names(kustomize: Kustomize) -> None:
    files = {**FILES, "over/kustomization.yaml": b"resources: [../base]\nnoSuchField: 1\n"}
    error = refusal(kustomize, files)
    assert error.code == "not-rendered"
    assert error.message == "rendering over of source trees 1.0: kustomize cannot do it"
    text = "\n".join(error.problems)
    assert 'unknown field "noSuchField"' in text
    assert str(kustomize.folder) not in text


def test_a_file_outside_the_kustomization_is_refused_by_kustomize(kustomize: Kustomize) -> None:
    files = {**FILES, "over/kustomization.yaml": b"resources: [../base/pod.yaml]\n"}
    assert "is not in or below" in "\n".join(refusal(kustomize, files).problems)


def test_objects_without_end_are_cut_off(
    kustomize: Kustomize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OBJECTS_BYTES", 100_000)
    big = f"apiVersion: v1\nkind: A\nmetadata: {{name: a}}\ndata: {'x' * 200_000}\n"
    files = {**FILES, "base/pod.yaml": big.encode()}
    error = refusal(kustomize, files)
    assert error.code == "render-too-large", str(error)


def test_nothing_answers_where_it_runs(tmp_path: Path) -> None:
    if not isolation():
        pytest.fail("this machine allows no network namespaces: the test cannot prove anything")
    done = run_tool(
        [*isolation(), "/bin/cat", "/proc/net/dev"],
        folder=tmp_path,
        environment=clean_environment(tmp_path),
        timeout_s=10,
        what="look",
    )
    interfaces = [line.partition(":")[0].strip() for line in done.stdout.decode().splitlines()[2:]]
    assert interfaces in (["lo"], [])
