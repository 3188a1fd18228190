"""Bundles whose base.json does not agree with the rest, sealed and signed all the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import BUSYBOX, MINIO, SmallBundle, make_bundle

from perimeter_bundle.format import layout
from perimeter_bundle.format.base import JUMP_HOST_PROGRAMS, Base, LeftOut
from perimeter_bundle.format.manifest import BundleManifest, ItemKind
from perimeter_bundle.format.oci import ImageManifest
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

INVENTORY = Digest.of_bytes(b"inventory")
ROLES = Path(__file__).resolve().parents[2] / "roles"
LAYER = Digest.of_bytes(b"layer of busybox")


def config_of(bundle: SmallBundle) -> Digest:
    digest = bundle.manifest.find(BUSYBOX).digest
    return ImageManifest.parse(bundle.file(layout.blob_path(digest)).read_bytes()).config.digest


def payload(bundle: SmallBundle, kind: ItemKind) -> Digest:
    return bundle.manifest.items_of(kind)[0].payload


def delta(
    folder: Path,
    choose: Callable[[SmallBundle], Iterable[Digest]],
    *,
    keep: bool = False,
    size: int | None = None,
    named: Digest | None = INVENTORY,
) -> SmallBundle:
    """A bundle that leaves out what ``choose`` gives, sealed and signed again."""
    bundle = make_bundle(folder)
    left = []
    for digest in choose(bundle):
        path = bundle.file(layout.blob_path(digest))
        size_bytes = path.stat().st_size if size is None else size
        left.append(LeftOut(digest, size_bytes, "quay.io/minio/minio", (MINIO,)))
        if not keep:
            path.unlink()
    base = Base(INVENTORY, "plant", "2026-11-23T04:30:00Z", tuple(left))
    bundle.file(layout.BASE).write_bytes(base.to_bytes())
    manifest = BundleManifest.parse(bundle.file(layout.BUNDLE_MANIFEST).read_bytes())
    bundle.file(layout.BUNDLE_MANIFEST).write_bytes(replace(manifest, base=named).to_bytes())
    bundle.reseal()
    return bundle


def refused(bundle: SmallBundle, code: str) -> str:
    with pytest.raises(IntegrityError) as caught:
        open_bundle(bundle.root, bundle.trust)
    assert caught.value.code == code
    return str(caught.value)


def test_a_layer_and_a_file_of_nodes_may_be_left_out(tmp_path: Path) -> None:
    bundle = delta(tmp_path, lambda one: [LAYER, payload(one, ItemKind.FILE)])
    opened = open_bundle(bundle.root, bundle.trust)
    assert opened.base is not None and len(opened.base.blobs) == 2


def test_refuses_a_missing_blob_that_the_base_does_not_name(tmp_path: Path) -> None:
    bundle = delta(tmp_path, lambda one: [])
    bundle.file(layout.blob_path(LAYER)).unlink()
    bundle.reseal()
    assert f"{LAYER} is missing" in refused(bundle, "incomplete")


def test_refuses_a_base_that_names_another_size(tmp_path: Path) -> None:
    said = refused(delta(tmp_path, lambda one: [LAYER], size=1), "incomplete")
    assert "has 1 bytes, 16 were announced" in said


def test_refuses_a_blob_that_is_left_out_and_there(tmp_path: Path) -> None:
    said = refused(delta(tmp_path, lambda one: [LAYER], keep=True), "bad-base")
    assert f"{LAYER} is left out and in the bundle" in said


@pytest.mark.parametrize("kind", [ItemKind.CHART, ItemKind.MANIFEST, ItemKind.SOURCE])
def test_refuses_to_do_without_what_the_jump_host_reads(tmp_path: Path, kind: ItemKind) -> None:
    said = refused(delta(tmp_path, lambda one: [payload(one, kind)]), "bad-base")
    assert "no layer of an image and no file of a node" in said


def test_refuses_to_do_without_a_manifest_or_a_configuration(tmp_path: Path) -> None:
    top = delta(tmp_path / "top", lambda one: [one.manifest.find(BUSYBOX).digest])
    assert "cannot read" in refused(top, "incomplete")
    config = delta(tmp_path / "config", lambda one: [config_of(one)])
    assert "cannot read" in refused(config, "incomplete")


def test_refuses_a_base_that_bundle_json_does_not_name(tmp_path: Path) -> None:
    said = refused(delta(tmp_path / "none", lambda one: [LAYER], named=None), "bad-base")
    assert "bundle.json names the base None" in said
    other = delta(tmp_path / "other", lambda one: [LAYER], named=LAYER)
    assert f"bundle.json names the base {LAYER}" in refused(other, "bad-base")
    gone = delta(tmp_path / "gone", lambda one: [])
    gone.file(layout.BASE).unlink()
    gone.reseal()
    assert f"names the base {INVENTORY}, manifest/base.json names None" in refused(gone, "bad-base")


def test_every_file_that_a_role_reads_out_of_the_bundle_is_always_carried() -> None:
    """A role that takes ``blob`` of a file reads it on the jump host."""
    read = set()
    for path in ROLES.rglob("tasks/*.yml"):
        for variable in re.findall(r"(\w+_file)\.blob\b", path.read_text()):
            defaults = (path.parents[1] / "defaults" / "main.yml").read_text()
            (name,) = re.findall(rf"^{variable}: .*perimeter_files\['([^']+)'\]", defaults, re.M)
            read.add(name)
    assert read == JUMP_HOST_PROGRAMS - {"kustomize/kustomize"}  # which render.py unpacks
