"""What a registry must hold for a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.bundles import BUSYBOX, MINIO, make_bundle
from tests.support.large_bundles import add_image

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_installer.load.content import content_of
from perimeter_installer.load.load import bundle_content


@pytest.fixture
def bundle(tmp_path: Path) -> VerifiedBundle:
    made = make_bundle(tmp_path)
    add_image(made, "quay.io/test/large:1", layer_bytes=[5000, 70000, 300])
    return open_bundle(made.root, made.trust)


def test_blobs_come_biggest_first(bundle: VerifiedBundle) -> None:
    sizes = [need.size_bytes for need in bundle_content(bundle).blobs]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 70000


def test_manifests_of_platforms_come_before_the_index_that_names_them(
    bundle: VerifiedBundle,
) -> None:
    minio = bundle.manifest.find(MINIO)
    order = [need.digest for need in bundle_content(bundle).manifests]
    assert order.index(minio.payload) < order.index(minio.digest)


def test_a_sparse_index_knows_what_may_stand_instead(bundle: VerifiedBundle) -> None:
    needs = {str(need): need for need in bundle_content(bundle).names}
    assert needs[MINIO].sparse
    assert needs[MINIO].instead == bundle.manifest.find(MINIO).payload
    assert not needs[BUSYBOX].sparse
    assert needs[BUSYBOX].instead is None


def test_every_item_that_is_an_artifact_has_a_name(bundle: VerifiedBundle) -> None:
    names = {str(need) for need in bundle_content(bundle).names}
    assert names == {item.name for item in bundle.manifest.items if item.kind.in_index}
    assert not [item for item in bundle.manifest.items_of(ItemKind.WHEEL) if item.name in names]


def test_a_shared_blob_stands_once_with_every_repository(bundle: VerifiedBundle) -> None:
    needs = bundle_content(bundle).blobs
    assert len({need.digest for need in needs}) == len(needs)
    (empty,) = [need for need in needs if need.digest == Digest.of_bytes(b"{}")]
    assert len(empty.names) == 4


def test_an_image_without_a_tag_is_pushed_by_its_digest(bundle: VerifiedBundle) -> None:
    busybox = bundle.manifest.find(BUSYBOX)
    by_digest = f"docker.io/library/busybox@{busybox.digest}"
    item = type(busybox)(
        **{name: getattr(busybox, name) for name in busybox.__slots__} | {"name": by_digest}
    )
    content = content_of(
        [item],
        lambda digest: bundle.read(layout.blob_path(digest)),
        lambda digest: layout.blob_path(digest) in bundle.sizes,
    )
    (need,) = content.names
    assert need.reference == str(busybox.digest)
    assert not need.is_named
    assert str(need) == by_digest


def test_refuses_an_item_whose_manifest_is_not_there(bundle: VerifiedBundle) -> None:
    with pytest.raises(IntegrityError, match="which the bundle lacks") as raised:
        content_of(bundle.manifest.items, lambda digest: b"", lambda digest: False)
    assert raised.value.code == "blob-missing"
