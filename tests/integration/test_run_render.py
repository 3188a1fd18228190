"""The installer renders a source of the bundle again, with the bundle's kustomize."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.support.kustomize import kustomize_archive

from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind, Room
from perimeter_bundle.format.source_tree import pack_tree
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_installer.run.render import SiteRender, render_for_site

IMAGE = "quay.io/example/shop:1.0"
TREE = {
    "app/kustomization.yaml": b"resources: [pod.yaml]\n",
    "app/pod.yaml": b"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n"
    b"spec: {containers: [{name: c, image: 'quay.io/example/shop:1.0'}]}\n",
}


def bundle_of(tree: dict[str, bytes]) -> VerifiedBundle:
    """What the renderer reads of a bundle; the reading itself is tested with real ones."""
    payloads = {
        "perimeter.internal/sources/trees:1.0": (ItemKind.SOURCE, pack_tree(tree)),
        "perimeter.internal/files/kustomize/kustomize:v1-amd64": (
            ItemKind.FILE,
            kustomize_archive(),
        ),
        IMAGE: (ItemKind.IMAGE, b"{}"),
    }
    items = tuple(
        BundleItem(
            *(kind, name, Digest.of_bytes(data), Digest.of_bytes(data), len(data)),
            *(("linux/amd64",), "", "", "", (), "1.0"),
        )
        for name, (kind, data) in payloads.items()
    )
    blobs = {blob_path(Digest.of_bytes(data)): data for _, data in payloads.values()}
    manifest = BundleManifest("r", 1, "0.1.0", (), items, Room(0, 0, 0))
    made: Any = SimpleNamespace(manifest=manifest, read=blobs.__getitem__)
    return cast(VerifiedBundle, made)


def patch(image: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop", "labels": {"site": "plant"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def test_renders_with_the_values_of_the_site() -> None:
    objects = render_for_site(bundle_of(TREE), SiteRender("trees", "app", (patch(IMAGE),)))
    assert b"site: plant" in objects
    assert b"image: quay.io/example/shop:1.0" in objects


def test_refuses_images_that_the_bundle_lacks_and_lists_them() -> None:
    wanted = SiteRender("trees", "app", (patch("quay.io/example/other:2.0"),))
    with pytest.raises(PerimeterError) as caught:
        render_for_site(bundle_of(TREE), wanted)
    assert caught.value.code == "image-not-in-bundle"
    assert caught.value.problems == ("quay.io/example/other:2.0",)


def test_says_what_kustomize_says(tmp_path: Path) -> None:
    with pytest.raises(PerimeterError) as caught:
        render_for_site(bundle_of(TREE), SiteRender("trees", "gone"))
    assert caught.value.code == "not-rendered"
    assert "/tmp" not in "".join(caught.value.problems)


def test_a_source_that_is_not_carried_is_named() -> None:
    with pytest.raises(PerimeterError) as caught:
        render_for_site(bundle_of(TREE), SiteRender("shrubs", "app"))
    assert caught.value.message == "source shrubs is not in this bundle"


def test_a_tree_with_a_folder_called_as_the_overlay_is_refused() -> None:
    with pytest.raises(PerimeterError) as caught:
        render_for_site(bundle_of({**TREE, "perimeter-site/x": b""}), SiteRender("trees", "app"))
    assert caught.value.code == "bad-source"
