"""Bundles with images of real size: layers of random bytes, so that nothing is the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor, ImageManifest, OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference
from tests.support.bundles import OCI_CONFIG, OCI_LAYER, SmallBundle


def add_image(bundle: SmallBundle, name: str, layer_bytes: Iterable[int]) -> None:
    """Adds an image whose layers have these sizes, and seals and signs the bundle again."""
    source = random.Random(name)
    layers = tuple(_blob(bundle, source.randbytes(size), OCI_LAYER) for size in layer_bytes)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}, "name": name}
    manifest = ImageManifest(_blob(bundle, json.dumps(config).encode(), OCI_CONFIG), layers)
    entry = _blob(bundle, manifest.to_bytes(), OCI_MANIFEST)
    size_bytes = entry.size_bytes + sum(part.size_bytes for part in manifest.descriptors)
    why = ("asked for by a test",)
    item = BundleItem(
        *(ItemKind.IMAGE, name, entry.digest, entry.digest, size_bytes, ("linux/amd64",)),
        *(name, "Apache-2.0", "minio", why, name.rpartition(":")[2]),
    )
    pin = LockedImage(
        reference=ImageReference.parse(name),
        digest=entry.digest,
        media_type=entry.media_type,
        manifests={LINUX_AMD64: entry.digest},
        size_bytes=size_bytes,
        components=("minio",),
        why=why,
    )
    lock = Lock.parse(bundle.file(layout.LOCK).read_bytes())
    old = BundleManifest.parse(bundle.file(layout.BUNDLE_MANIFEST).read_bytes())
    index = OciIndex.parse(bundle.file(layout.INDEX).read_bytes())
    named = replace(entry, annotations={layout.REF_NAME_ANNOTATION: name})
    entries = sorted((*index.manifests, named), key=lambda one: one.reference)
    files = {
        layout.LOCK: replace(lock, images=(*lock.images, pin)).to_bytes(),
        layout.BUNDLE_MANIFEST: replace(old, items=(*old.items, item)).to_bytes(),
        layout.INDEX: OciIndex(tuple(entries)).to_bytes(),
    }
    for path, data in files.items():
        bundle.file(path).write_bytes(data)
    bundle.reseal()


def _blob(bundle: SmallBundle, data: bytes, media_type: str) -> Descriptor:
    digest = Digest.of_bytes(data)
    path = bundle.file(layout.blob_path(digest))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Descriptor(media_type, digest, len(data))
