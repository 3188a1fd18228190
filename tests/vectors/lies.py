"""Bundles that were built wrong and signed nevertheless, each with the refusal it must meet.

Sums and signature hold, so verify.sh passes; only open_bundle reads what the files say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.bundles import (
    BUSYBOX,
    LINUX_ARM64,
    MINIO,
    OCI_CONFIG,
    WHEEL,
    SmallBundle,
    make_bundle,
)

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import BundleManifest, ItemKind
from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor, ImageManifest, OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.platform import LINUX_AMD64

ZERO = "0" * 64


@dataclass(frozen=True)
class Lie:
    """A bundle that was built wrong and signed nevertheless."""

    name: str
    build: Callable[[Path], SmallBundle]
    code: str
    problem: str


def _edit_lock(edit: Callable[[Lock], Lock]) -> Callable[[Path], SmallBundle]:
    return lambda folder: make_bundle(folder, edit_lock=edit)


def _edit_manifest(
    edit: Callable[[BundleManifest], BundleManifest],
) -> Callable[[Path], SmallBundle]:
    return lambda folder: make_bundle(folder, edit_manifest=edit)


def _edit_index(edit: Callable[[OciIndex], OciIndex]) -> Callable[[Path], SmallBundle]:
    return lambda folder: make_bundle(folder, edit_index=edit)


def _edit_tree(edit: Callable[[Path], object]) -> Callable[[Path], SmallBundle]:
    return lambda folder: make_bundle(folder, edit_tree=edit)


def _replace_in(name: str, old: bytes, new: bytes) -> Callable[[Path], SmallBundle]:
    def edit(root: Path) -> None:
        data = (root / name).read_bytes()
        assert old in data
        (root / name).write_bytes(data.replace(old, new, 1))

    return _edit_tree(edit)


def _first_image(lock: Lock, **changes: object) -> Lock:
    first = dataclasses.replace(lock.images[0], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(lock, images=(first, *lock.images[1:]))


def _image_items(manifest: BundleManifest, **changes: object) -> BundleManifest:
    items = tuple(
        dataclasses.replace(item, **changes) if item.kind is ItemKind.IMAGE else item  # type: ignore[arg-type]
        for item in manifest.items
    )
    return dataclasses.replace(manifest, items=items)


def _without_payload_of(position: int) -> Callable[[Path], SmallBundle]:
    """Without the blob that the item at this position of bundle.json is about."""

    def edit(root: Path) -> None:
        manifest = BundleManifest.parse((root / layout.BUNDLE_MANIFEST).read_bytes())
        (root / layout.blob_path(manifest.items[position].payload)).unlink()

    return _edit_tree(edit)


def _with_config(config: bytes) -> Callable[[Path], SmallBundle]:
    """busybox with these bytes for its configuration, and every digest to match."""
    return with_busybox(
        lambda old: dataclasses.replace(
            old,
            config=dataclasses.replace(
                old.config, digest=Digest.of_bytes(config), size_bytes=len(config)
            ),
        ).to_bytes(),
        {layout.blob_path(Digest.of_bytes(config)): config},
    )


def with_busybox(
    change: Callable[[ImageManifest], bytes], blobs: dict[str, bytes]
) -> Callable[[Path], SmallBundle]:
    def build(folder: Path) -> SmallBundle:
        good = make_bundle(folder / "good")
        old = good.manifest.find(BUSYBOX)
        manifest = ImageManifest.parse(good.file(layout.blob_path(old.digest)).read_bytes())
        data = change(manifest)
        digest = Digest.of_bytes(data)
        return make_bundle(
            folder / "bad",
            extra_files={**blobs, layout.blob_path(digest): data},
            edit_index=_rewrite_entry(BUSYBOX, digest=digest, size_bytes=len(data)),
            edit_lock=lambda lock: _first_image(
                lock, digest=digest, manifests={LINUX_AMD64: digest}
            ),
            edit_manifest=lambda manifest: _repoint(manifest, digest, BUSYBOX),
        )

    return build


def _rename_blob(root: Path) -> None:
    blob = next((root / "blobs/sha256").iterdir())
    blob.rename(blob.with_name(ZERO))


def _with_entry(entry: Descriptor) -> Callable[[OciIndex], OciIndex]:
    return lambda index: OciIndex((*index.manifests, entry))


def _rewrite_entry(name: str, **changes: object) -> Callable[[OciIndex], OciIndex]:
    return lambda index: OciIndex(
        tuple(
            dataclasses.replace(entry, **changes) if entry.reference == name else entry  # type: ignore[arg-type]
            for entry in index.manifests
        )
    )


def _nested(depth: int) -> Callable[[Path], SmallBundle]:
    """An index of an index of … under a name that all three documents know."""

    def build(folder: Path) -> SmallBundle:
        good = make_bundle(folder / "good")
        index = OciIndex.parse(good.file(layout.INDEX).read_bytes())
        entry = index.find(MINIO)
        assert entry is not None
        blobs: dict[str, bytes] = {}
        for _ in range(depth):
            inner = dataclasses.replace(entry, annotations={})
            data = OciIndex((inner,)).to_bytes()
            digest = Digest.of_bytes(data)
            blobs[layout.blob_path(digest)] = data
            entry = dataclasses.replace(entry, digest=digest, size_bytes=len(data))
        top = entry
        return make_bundle(
            folder / "bad",
            extra_files=blobs,
            edit_index=_rewrite_entry(MINIO, digest=top.digest, size_bytes=top.size_bytes),
            edit_lock=lambda lock: _pin(lock, top.digest),
            edit_manifest=lambda manifest: _repoint(manifest, top.digest),
        )

    return build


def _pin(lock: Lock, digest: Digest) -> Lock:
    images = tuple(
        dataclasses.replace(image, digest=digest) if str(image.reference) == MINIO else image
        for image in lock.images
    )
    return dataclasses.replace(lock, images=images)


def _repoint(manifest: BundleManifest, digest: Digest, name: str = MINIO) -> BundleManifest:
    items = tuple(
        dataclasses.replace(item, digest=digest, payload=digest) if item.name == name else item
        for item in manifest.items
    )
    return dataclasses.replace(manifest, items=items)


def _two_layers(folder: Path) -> SmallBundle:
    """A chart whose manifest holds two layers: which of them would be installed?"""
    good = make_bundle(folder / "good")
    chart = good.manifest.items_of(ItemKind.CHART)[0]
    old = ImageManifest.parse(good.file(layout.blob_path(chart.digest)).read_bytes())
    data = dataclasses.replace(old, layers=old.layers * 2).to_bytes()
    digest = Digest.of_bytes(data)

    def edit(manifest: BundleManifest) -> BundleManifest:
        items = tuple(
            dataclasses.replace(item, digest=digest) if item.name == chart.name else item
            for item in manifest.items
        )
        return dataclasses.replace(manifest, items=items)

    return make_bundle(
        folder / "bad",
        extra_files={layout.blob_path(digest): data},
        edit_manifest=edit,
        edit_index=_rewrite_entry(chart.name, digest=digest, size_bytes=len(data)),
    )


_OTHER = Digest.of_bytes(b"something else")
_NAMED = {layout.REF_NAME_ANNOTATION: "docker.io/library/extra:1"}

# where these stand among the items of bundle.json, which are sorted by kind and name
POSITION = {"chart": 0, BUSYBOX: 3, MINIO: 4}

LIES: tuple[Lie, ...] = (
    Lie("a blob under another name", _edit_tree(_rename_blob), "odd-blob", ZERO),
    Lie(
        "a file in blobs/ that is no blob",
        lambda folder: make_bundle(folder, extra_files={"blobs/README": b"x"}),
        "odd-blob",
        "blobs/README",
    ),
    Lie(
        "a lock without a digest",
        _edit_lock(lambda lock: _first_image(lock, digest=None)),
        "disagreement",
        f"the lock has no digest for {BUSYBOX}",
    ),
    Lie(
        "a lock of another release",
        _edit_lock(lambda lock: dataclasses.replace(lock, release="2026.12")),
        "disagreement",
        "release: the lock says '2026.12'",
    ),
    Lie(
        "a lock of another number",
        _edit_lock(lambda lock: dataclasses.replace(lock, number=7)),
        "disagreement",
        "release number: the lock says 7, not 1",
    ),
    Lie(
        "a lock with another digest",
        _edit_lock(lambda lock: _pin(lock, _OTHER)),
        "disagreement",
        f"{MINIO}: the lock says {_OTHER}",
    ),
    Lie(
        "a lock that names more",
        _edit_manifest(
            lambda manifest: dataclasses.replace(
                manifest, items=tuple(item for item in manifest.items if item.name != MINIO)
            )
        ),
        "disagreement",
        f"{MINIO} is locked but not in bundle.json",
    ),
    Lie(
        "an image that is not locked",
        _edit_lock(lambda lock: dataclasses.replace(lock, images=lock.images[:1])),
        "disagreement",
        f"{MINIO} is in bundle.json but not locked",
    ),
    Lie(
        "an image that is not in index.json",
        _edit_index(lambda index: OciIndex(index.manifests[:-1])),
        "disagreement",
        "is locked but not in index.json",
    ),
    Lie(
        "an image that only index.json names",
        _edit_index(_with_entry(Descriptor(OCI_MANIFEST, _OTHER, 3, annotations=_NAMED))),
        "disagreement",
        "docker.io/library/extra:1 is in index.json but not in bundle.json",
    ),
    Lie(
        "an entry of index.json without a name",
        _edit_index(_with_entry(Descriptor(OCI_MANIFEST, _OTHER, 3))),
        "disagreement",
        "without a name",
    ),
    Lie(
        "a name twice in index.json",
        _edit_index(lambda index: OciIndex((*index.manifests, index.manifests[0]))),
        "disagreement",
        f"index.json names {BUSYBOX} twice",
    ),
    Lie(
        "another digest in index.json",
        _edit_index(_rewrite_entry(BUSYBOX, digest=_OTHER)),
        "disagreement",
        f"index.json {_OTHER}",
    ),
    Lie(
        "another kind in bundle.json",
        _edit_manifest(lambda manifest: _image_items(manifest, kind=ItemKind.FILE)),
        "disagreement",
        "bundle.json calls it a file, not image",
    ),
    Lie(
        "other platforms in bundle.json",
        _edit_manifest(lambda manifest: _image_items(manifest, platforms=("linux/arm64",))),
        "disagreement",
        "the lock has platforms linux/amd64, bundle.json linux/arm64",
    ),
    Lie(
        "a wheel that is not the one named",
        lambda folder: make_bundle(folder, extra_files={WHEEL: b"another wheel"}),
        "disagreement",
        f"{WHEEL}: bundle.json says",
    ),
    Lie(
        "an image for another platform",
        lambda folder: make_bundle(folder, built_for=LINUX_ARM64),
        "incomplete",
        "locked for linux/amd64, built for linux/arm64",
    ),
    Lie(
        "an image without its manifest",
        _without_payload_of(POSITION[BUSYBOX]),
        "incomplete",
        f"{BUSYBOX}: sha256:",
    ),
    Lie(
        "a locked platform that was not collected",
        _without_payload_of(POSITION[MINIO]),
        "incomplete",
        "(linux/amd64) is missing",
    ),
    Lie(
        "a chart without its archive",
        _without_payload_of(POSITION["chart"]),
        "incomplete",
        "is missing",
    ),
    Lie(
        "an image whose configuration is not JSON",
        _with_config(b"{"),
        "incomplete",
        "an image configuration is not strict JSON",
    ),
    Lie(
        "an image whose configuration names no platform",
        _with_config(b"{}"),
        "incomplete",
        "built for None/None",
    ),
    Lie(
        "an image whose manifest is not one",
        with_busybox(lambda old: b'{"schemaVersion": 1}', {}),
        "incomplete",
        "schemaVersion is 1, not 2",
    ),
    Lie(
        "an image locked to another manifest than its own",
        _edit_lock(lambda lock: _first_image(lock, manifests={LINUX_AMD64: _OTHER})),
        "incomplete",
        "which is no index",
    ),
    Lie(
        "a lock for a manifest outside the index",
        _edit_lock(
            lambda lock: dataclasses.replace(
                lock,
                images=tuple(
                    dataclasses.replace(image, manifests={LINUX_AMD64: _OTHER})
                    for image in lock.images
                ),
            )
        ),
        "incomplete",
        "is not a member of",
    ),
    Lie(
        "a wrong size in index.json",
        _edit_index(_rewrite_entry(BUSYBOX, size_bytes=1)),
        "incomplete",
        "1 were announced",
    ),
    Lie(
        "a wrong media type in index.json",
        _edit_index(_rewrite_entry(BUSYBOX, media_type=OCI_MANIFEST)),
        "incomplete",
        f"announced as {OCI_MANIFEST}",
    ),
    Lie(
        "a media type that is no manifest",
        _edit_index(_rewrite_entry(BUSYBOX, media_type=OCI_CONFIG)),
        "incomplete",
        "is not a manifest or index",
    ),
    Lie("indexes nested too deep", _nested(6), "incomplete", "nested deeper than 3"),
    Lie("an artifact of two layers", _two_layers, "incomplete", "not an artifact of one layer"),
    Lie(
        "a payload that is not in its image",
        _edit_manifest(lambda manifest: _image_items(manifest, payload=_OTHER)),
        "incomplete",
        f"its payload {_OTHER} is not in",
    ),
    Lie(
        "duplicate keys in bundle.json",
        _replace_in(layout.BUNDLE_MANIFEST, b'"number": 1', b'"number": 1,\n  "number": 2'),
        "bad-json",
        "key 'number' stands there twice",
    ),
    Lie(
        "an unknown key in bundle.json",
        _replace_in(layout.BUNDLE_MANIFEST, b'"number": 1', b'"number": 1,\n  "hooks": 2'),
        "bad-manifest",
        "unknown key 'hooks'",
    ),
    Lie(
        "a format from the future",
        _replace_in(layout.BUNDLE_MANIFEST, layout.BUNDLE_FORMAT.encode(), b"perimeter-bundle/9"),
        "unknown-format",
        "of a format that this program does not know",
    ),
    Lie(
        "a bundle for a newer installer",
        lambda folder: make_bundle(folder, minimum_installer="99.0"),
        "installer-too-old",
        "needs perimeter 99.0 or newer",
    ),
    Lie(
        "a minimum installer that is no version",
        lambda folder: make_bundle(folder, minimum_installer="latest"),
        "bad-manifest",
        "minimum_installer is not a version: 'latest'",
    ),
    Lie(
        "an oversize oci-layout",
        lambda folder: make_bundle(folder, edit_tree=lambda root: _grow(root / layout.OCI_LAYOUT)),
        "oversize",
        "oci-layout is larger than any honest one",
    ),
    Lie(
        "no bundle.json",
        _edit_tree(lambda root: (root / layout.BUNDLE_MANIFEST).unlink()),
        "missing-file",
        "the bundle holds no manifest/bundle.json",
    ),
    Lie(
        "a lock that is not TOML",
        _edit_tree(lambda root: (root / layout.LOCK).write_bytes(b"[[")),
        "bad-lock",
        "not a lock",
    ),
    Lie(
        "an index.json that is a manifest",
        _edit_tree(
            lambda root: (root / layout.INDEX).write_bytes(
                b'{"schemaVersion":2,"config":{},"layers":[]}'
            )
        ),
        "bad-oci",
        "cannot be used",
    ),
)


def _grow(path: Path) -> None:
    path.write_bytes(b'{"imageLayoutVersion":"1.0.0","x":"' + b"x" * 5000 + b'"}')
