"""One image in an OCI layout or in a docker save archive: its digest, manifests and blobs.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
https://github.com/moby/moby/blob/v28.0.0/image/tarexport/save.go
docker save writes manifest.json, and since version 25 an OCI layout around the same files. Where
there is a layout its manifest is taken, because that is the one whose digest the engine shows.
Where there is none, a manifest is made of the configuration and the layers as they stand: the
same archive, the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol, TypeVar, cast

from perimeter_bundle.format.layout import INDEX, OCI_LAYOUT, blob_path
from perimeter_bundle.format.oci import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    ImageManifest,
    OciIndex,
)
from perimeter_bundle.format.strict_json import MIB, parse_object
from perimeter_bundle.imagesource.store import Store, missing, read_all
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError
from perimeter_bundle.model.reference import ImageReference

DOCKER_SAVE = "manifest.json"
# Docker's own name beside the one of the OCI specification, which is the tag alone there
_FULL_NAME_ANNOTATION = "io.containerd.image.name"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_COMPRESSED_LAYERS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_MAX_SAVE_BYTES = 16 * MIB
_READ_BYTES = MIB

Chosen = TypeVar("Chosen", bound=Hashable)
Check = Callable[[], None]  # raises when work should end


class Content(Protocol):
    """One image; its bytes are checked by whoever asks for them."""

    @property
    def top(self) -> Digest:
        """What the image's name stands for: an index or a manifest."""
        ...

    def manifest(self, digest: Digest) -> bytes:
        """The bytes kept under a manifest's digest; raises IntegrityError[missing-blob]."""
        ...

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        """A blob for reading, and its size; raises IntegrityError[missing-blob]."""
        ...


@dataclass(frozen=True, slots=True)
class LayoutContent:
    """One image of an OCI layout."""

    store: Store
    top: Digest

    def manifest(self, digest: Digest) -> bytes:
        return read_all(self.store, blob_path(digest), MAX_MANIFEST_BYTES)

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        return _open(self.store, blob_path(digest))


@dataclass(frozen=True, slots=True)
class SavedContent:
    """One image of docker save's manifest.json; ``names`` says where each blob lies."""

    store: Store
    top: Digest
    made: bytes
    names: Mapping[Digest, str]

    def manifest(self, digest: Digest) -> bytes:
        if digest != self.top:
            raise missing(self.store, str(digest))
        return self.made

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        if digest not in self.names:
            raise missing(self.store, str(digest))
        return _open(self.store, self.names[digest])


def read_layout(store: Store, name: str, reference: ImageReference) -> LayoutContent:
    """The image called ``name`` in a layout; without a name the one called ``reference``.

    Raises InputError[not-a-layout], [no-such-image], IntegrityError[two-images], [bad-layout].
    """
    if store.size_of(OCI_LAYOUT) is None or store.size_of(INDEX) is None:
        raise InputError(
            "not-a-layout",
            f"{store.shown} is no OCI image layout",
            context={"missing": OCI_LAYOUT if store.size_of(OCI_LAYOUT) is None else INDEX},
            hint="docker buildx build --output type=oci, skopeo copy and crane pull write one",
        )
    try:
        version = parse_object(read_all(store, OCI_LAYOUT, 4096), OCI_LAYOUT, max_bytes=4096)
        index = OciIndex.parse(read_all(store, INDEX, _MAX_SAVE_BYTES))
    except IntegrityError as error:
        raise _bad_layout(store, error) from error
    if version.get("imageLayoutVersion") != "1.0.0":
        raise _bad_layout(store, None)
    entries = [(_names_of(entry), entry.digest) for entry in index.manifests]
    return LayoutContent(store, _choose(store, entries, name, reference))


def read_saved(
    store: Store, name: str, reference: ImageReference, check: Check
) -> LayoutContent | SavedContent:
    """The image called ``name`` in what docker save wrote; as ``read_layout``.

    Every layer of an archive without a layout is hashed once, and compared with what the image's
    configuration says of it. Raises also IntegrityError[bad-archive], [digest-mismatch].
    """
    if store.size_of(OCI_LAYOUT) is not None and store.size_of(INDEX) is not None:
        return read_layout(store, name, reference)
    if store.size_of(DOCKER_SAVE) is None:
        raise InputError(
            "not-an-archive",
            f"{store.shown} is no archive of docker save",
            context={"missing": DOCKER_SAVE},
            hint="docker save NAME -o FILE writes one; it may have been cut off",
        )
    images = _saved_images(store)
    entries = [(image.names, number) for number, image in enumerate(images)]
    image = images[_choose(store, entries, name, reference)]
    return _made(store, image, check)


@dataclass(frozen=True, slots=True)
class _Saved:
    """One entry of manifest.json."""

    names: frozenset[str]
    config: str
    layers: tuple[str, ...]


def _saved_images(store: Store) -> list[_Saved]:
    raw = read_all(store, DOCKER_SAVE, _MAX_SAVE_BYTES)
    # it is a list, and strict JSON is read as an object
    document = parse_object(
        b'{"images":' + raw + b"}", f"{store.shown}: {DOCKER_SAVE}", max_bytes=_MAX_SAVE_BYTES + 16
    )
    found = document["images"]
    if len(document) != 1 or not isinstance(found, list):
        raise _bad_save(store, f"{DOCKER_SAVE} is no list of images")
    return [_saved_image(store, number, one) for number, one in enumerate(found, 1)]


def _saved_image(store: Store, number: int, entry: object) -> _Saved:
    table: Mapping[object, object] = entry if isinstance(entry, dict) else {}
    config, layers, tags = table.get("Config"), table.get("Layers"), table.get("RepoTags") or []
    if not isinstance(config, str) or not _texts(layers) or not _texts(tags):
        raise _bad_save(store, f"{DOCKER_SAVE}: image {number} lacks Config, Layers or RepoTags")
    names = frozenset(_complete(tag) for tag in cast("list[str]", tags))
    return _Saved(names, config, tuple(cast("list[str]", layers)))


def _made(store: Store, image: _Saved, check: Check) -> SavedContent:
    """The image with a manifest of our own."""
    config = read_all(store, image.config, MAX_CONFIG_BYTES)
    config_digest = Digest.of_bytes(config)
    # docker names it by its digest: <hex>.json, or blobs/sha256/<hex>
    named = PurePosixPath(image.config).name.removesuffix(".json")
    if len(named) == len(config_digest.hex) and named != config_digest.hex:
        raise IntegrityError(
            "digest-mismatch",
            f"refused {store.shown}: its configuration is not what its name says",
            context={"expected": f"sha256:{named}", "found": config_digest},
        )
    stated = _stated_layers(store, config, image.config)
    if len(stated) != len(image.layers):
        raise _bad_save(
            store, f"{len(image.layers)} layers are there, its configuration names {len(stated)}"
        )
    names = {config_digest: image.config}
    layers = []
    for name, expected in zip(image.layers, stated, strict=True):
        layer = _hashed_layer(store, name, expected, check)
        names[layer.digest] = name
        layers.append(layer)
    described = Descriptor(_CONFIG_TYPE, config_digest, len(config))
    made = ImageManifest(described, tuple(layers)).to_bytes()
    return SavedContent(store, Digest.of_bytes(made), made, names)


def _stated_layers(store: Store, config: bytes, name: str) -> list[Digest]:
    """The digests of the unpacked layers, as the configuration states them."""
    document = parse_object(config, f"{store.shown}: {name}", max_bytes=MAX_CONFIG_BYTES)
    rootfs = document.get("rootfs")
    stated = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not _texts(stated):
        raise _bad_save(store, f"{name} names no layers (rootfs.diff_ids)")
    try:
        return [Digest.parse(text) for text in cast("list[str]", stated)]
    except InputError as error:
        raise _bad_save(store, f"{name}: {error.message}") from error


def _hashed_layer(store: Store, name: str, expected: Digest, check: Check) -> Descriptor:
    hasher, size = hashlib.sha256(), 0
    stream, promised = _open(store, name)
    with stream:
        start = b""
        while data := stream.read(_READ_BYTES):
            check()
            start = start or data[:8]
            hasher.update(data)
            size += len(data)
    digest = Digest.of_hasher(hasher)
    suffix = next((s for magic, s in _COMPRESSED_LAYERS.items() if start.startswith(magic)), "")
    # a compressed layer is never unpacked here; the node that unpacks it compares
    if size != promised or (not suffix and digest != expected):
        raise IntegrityError(
            "digest-mismatch",
            f"refused {store.shown}: layer {name} is not what the image's configuration says",
            context={"expected": expected, "found": f"{digest} after {size} bytes"},
            hint="the archive is damaged: save the image again",
        )
    return Descriptor(_LAYER_TYPE + suffix, digest, size)


def _choose(
    store: Store,
    entries: Sequence[tuple[frozenset[str], Chosen]],
    name: str,
    reference: ImageReference,
) -> Chosen:
    """The entry that is meant; two different ones of one name are refused."""
    wanted = {name, _complete(name)} if name else {str(reference), reference.tag}
    fitting = {chosen for names, chosen in entries if names & wanted}
    if not name and not fitting and len(entries) == 1:
        return entries[0][1]
    if len(fitting) == 1:
        return fitting.pop()
    there = sorted({text for names, _ in entries for text in names})
    if fitting:
        raise IntegrityError(
            "two-images",
            f"{store.shown} holds {len(fitting)} images called {name or reference}",
            hint="which one is meant cannot be told: make it again with one",
        )
    raise InputError(
        "no-such-image",
        f"{store.shown} holds no image called {name or reference}",
        context={"there is": ", ".join(there[:20]) or f"{len(entries)} without a name"},
        hint="write the name behind the path, as in docker-archive:./train.tar:team/train:1.4",
    )


def _names_of(entry: Descriptor) -> frozenset[str]:
    texts = [entry.reference, entry.annotations.get(_FULL_NAME_ANNOTATION, "")]
    return frozenset(
        {text for text in texts if text} | {_complete(text) for text in texts if "/" in text}
    )


def _complete(name: str) -> str:
    """A name as containers know it; a tag alone, or what is no reference, stays as it is."""
    try:
        return str(ImageReference.parse(name))
    except InputError:
        return name


def _open(store: Store, name: str) -> tuple[BinaryIO, int]:
    size = store.size_of(name)
    if size is None:
        raise missing(store, name)
    return store.open(name), size


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _bad_save(store: Store, reason: str) -> IntegrityError:
    return IntegrityError(
        "bad-archive",
        f"{store.shown} cannot be used: {reason}",
        hint="it was cut off or made by something else: save the image again",
    )


def _bad_layout(store: Store, error: PerimeterError | None) -> IntegrityError:
    return IntegrityError(
        "bad-layout",
        f"{store.shown} cannot be used: {error.message if error else 'unknown layout version'}",
        problems=error.problems if error else (),
        hint="make it again",
    )
