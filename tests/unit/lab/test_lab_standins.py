"""Stand-ins: the same bytes each time, marked, with layers that a family shares."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.oci import Layout
from tests.lab.standins import LABEL, StandIns

NAMES = [
    "ghcr.io/example/notebooks/jupyter-cuda:v1",
    "ghcr.io/example/notebooks/jupyter-scipy:v1",
    "quay.io/example/web:1.0",
    "gcr.io/example/queue@sha256:" + "0" * 64,
]


def write(folder: Path) -> tuple[Layout, dict[str, str]]:
    layout = Layout(folder)
    digests = StandIns(layout, scale=1e-4).put_all(NAMES)
    layout.finish()
    return layout, digests


def manifest(layout: Layout, index_digest: str) -> dict[str, object]:
    index = json.loads((layout.blobs / index_digest.removeprefix("sha256:")).read_bytes())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    found: dict[str, object] = json.loads((layout.blobs / digest).read_bytes())
    return found


def layers(layout: Layout, index_digest: str) -> list[str]:
    listed = manifest(layout, index_digest)["layers"]
    assert isinstance(listed, list)
    return [layer["digest"] for layer in listed]


def test_the_same_names_give_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a")[1] == write(tmp_path / "b")[1]
    assert len(set(write(tmp_path / "c")[1].values())) == len(NAMES)


def test_every_one_says_that_it_is_a_stand_in(tmp_path: Path) -> None:
    layout, digests = write(tmp_path)
    for digest in digests.values():
        config = manifest(layout, digest)["config"]
        assert isinstance(config, dict)
        text = (layout.blobs / config["digest"].removeprefix("sha256:")).read_bytes()
        assert json.loads(text)["config"]["Labels"][LABEL] == "true"


def test_a_family_shares_its_base_and_nothing_else(tmp_path: Path) -> None:
    layout, digests = write(tmp_path)
    cuda, scipy, web, _ = (layers(layout, digests[name]) for name in NAMES)
    assert cuda[0] == scipy[0]
    assert set(cuda) & set(scipy) == {cuda[0]}
    assert not set(cuda) & set(web)


def test_a_name_with_a_digest_is_found_by_the_stand_ins_own_digest_alone(tmp_path: Path) -> None:
    layout, digests = write(tmp_path)
    index = json.loads((layout.folder / "index.json").read_text())
    names = {m["annotations"]["org.opencontainers.image.ref.name"] for m in index["manifests"]}
    assert "gcr.io/example/queue" in names
    assert digests[NAMES[3]] != NAMES[3].partition("@")[2]
