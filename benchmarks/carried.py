"""A signed bundle of a generated set, and the same images as layouts the peers can push from.

Its blobs are links to the registry's own files: nothing is there twice.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from tests.support.bundles import SmallBundle, make_bundle, make_key

from benchmarks import ours
from benchmarks.content import HOST, TAG, ImageSet
from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.oci import Descriptor, OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock, LockedImage


def carry(wanted: ImageSet, folder: Path) -> SmallBundle:
    """The set as ``perimeter-bundle build`` and ``sign`` leave it, in ``folder``."""
    pins = ours.lock_of(wanted).images
    return make_bundle(
        folder,
        key=make_key(folder / "keys"),
        edit_lock=lambda lock: _pinned(lock, pins),
        edit_manifest=lambda manifest: _listed(manifest, pins),
        edit_index=lambda index: _named(index, wanted),
        edit_tree=lambda root: _linked(root, wanted),
    )


def make_views(wanted: ImageSet, bundle: Path, folder: Path) -> Path:
    """A layout for each image, all over the bundle's blobs."""
    for image in wanted.images:
        view = folder / image.repository.rpartition("/")[2]
        view.mkdir(parents=True)
        (view / "blobs").symlink_to(bundle / "blobs")
        (view / layout.OCI_LAYOUT).write_bytes(layout_version())
        names = {"org.opencontainers.image.ref.name": TAG}
        entry = {**image.manifest.to_dict(), "annotations": names}
        index = {"schemaVersion": 2, "manifests": [entry]}
        (view / "index.json").write_text(json.dumps(index))
    return folder


def layout_version() -> bytes:
    """The file that says what an OCI layout is."""
    return b'{"imageLayoutVersion":"1.0.0"}'


def _pinned(lock: Lock, pins: tuple[LockedImage, ...]) -> Lock:
    return replace(lock, images=(*lock.images, *pins))


def _listed(manifest: BundleManifest, pins: tuple[LockedImage, ...]) -> BundleManifest:
    return replace(manifest, items=(*manifest.items, *(_item(pin) for pin in pins)))


def _item(pin: LockedImage) -> BundleItem:
    name, digest = str(pin.reference), pin.digest
    assert digest is not None
    return BundleItem(
        *(ItemKind.IMAGE, name, digest, digest, pin.size_bytes, ("linux/amd64",)),
        *(name, "Apache-2.0", "minio", pin.why, pin.reference.tag),
    )


def _named(index: OciIndex, wanted: ImageSet) -> OciIndex:
    entries = [
        Descriptor(
            image.manifest.media_type,
            Digest.parse(image.manifest.digest),
            image.manifest.size_bytes,
            annotations={layout.REF_NAME_ANNOTATION: f"{HOST}/{image.repository}:{TAG}"},
        )
        for image in wanted.images
    ]
    merged = sorted((*index.manifests, *entries), key=lambda one: one.reference)
    return OciIndex(tuple(merged))


def _linked(root: Path, wanted: ImageSet) -> None:
    for digest in wanted.blobs:
        target = root / layout.blob_path(Digest.parse(digest))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(wanted.path(digest), target)
