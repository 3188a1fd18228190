"""The images that are moved: made from a seed, so every run and every machine moves the same bytes.

Layers begin like gzip, since tools look at that to decide whether to compress them; the rest is a
key stream, which nothing can compress. They are put where a Distribution registry keeps its blobs.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
STORE = Path("docker/registry/v2")
TAG = "1"
HOST = "bench.example"  # what images are named after; a mirror says where they really are
_GZIP = bytes.fromhex("1f8b0800000000000003")
_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """What a set looks like; equal shapes give equal bytes."""

    name: str
    images: int
    layers: int  # unique ones
    unique_bytes: int
    smallest: int
    largest: int
    seed: int = 2026
    changed_layers: int = 0  # how many have other bytes than the shape without it

    @property
    def key(self) -> str:
        """Names the bytes that come of it."""
        text = json.dumps(asdict(replace(self, name="")), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as a manifest names it."""

    digest: str  # sha256:…
    size_bytes: int
    media_type: str

    def to_dict(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a set, at ``repository:TAG``."""

    repository: str
    manifest: Blob
    blobs: tuple[Blob, ...]  # configuration first


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A set as it lies in ``store``, the root of a registry's storage."""

    shape: Shape
    store: Path
    images: tuple[Image, ...]

    @property
    def blobs(self) -> dict[str, int]:
        """Size of every blob and manifest by its digest, each once."""
        return {
            one.digest: one.size_bytes
            for image in self.images
            for one in (image.manifest, *image.blobs)
        }

    @property
    def total_bytes(self) -> int:
        """Of everything, each blob once: what the best tool has to move."""
        return sum(self.blobs.values())

    def path(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        return blob_path(self.store, digest)


def layer_sizes(shape: Shape) -> list[int]:
    """Sizes as real layers have them, from the smallest to the largest, that add up.

    Their logarithms lie like a bell between the two ends, bent until the sum is right.
    """
    ratio = shape.largest / shape.smallest
    bell = NormalDist()
    steps = [bell.inv_cdf((index + 0.5) / shape.layers) for index in range(shape.layers)]
    steps = [(step - steps[0]) / (steps[-1] - steps[0]) for step in steps]

    def sizes(bend: float) -> list[int]:
        return [int(shape.smallest * ratio ** (step**bend)) for step in steps]

    low, high = 0.01, 100.0  # the more, the more small ones
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(sizes(middle)) > shape.unique_bytes else (low, middle)
    return sizes(high)


def arrange(shape: Shape) -> list[list[int]]:
    """The layers of each image; a third of all layers is in more than one."""
    source = random.Random(shape.seed)
    order = list(range(shape.layers))
    source.shuffle(order)
    shared, own = order[: shape.layers // 3], order[shape.layers // 3 :]
    images: list[list[int]] = [[] for _ in range(shape.images)]
    for turn, layer in enumerate(own):
        images[turn % shape.images].append(layer)
    for turn, layer in enumerate(shared):
        for image in {turn % shape.images, *source.sample(range(shape.images), 2)}:
            images[image].append(layer)
    return images


def make_set(shape: Shape, folder: Path) -> ImageSet:
    """The set in ``folder/<key>``; made unless it is there. A folder of that name is complete."""
    place = folder / shape.key
    if not place.is_dir():
        work = folder / f".making-{shape.key}"
        shutil.rmtree(work, ignore_errors=True)
        (work / "store").mkdir(parents=True)
        images = _write(shape, work / "store")
        (work / "set.json").write_text(json.dumps([asdict(image) for image in images]))
        work.rename(place)
    table = json.loads((place / "set.json").read_text())
    images = tuple(
        Image(
            one["repository"],
            Blob(**one["manifest"]),
            tuple(Blob(**blob) for blob in one["blobs"]),
        )
        for one in table
    )
    return ImageSet(shape, place / "store", images)


def blob_path(store: Path, digest: str) -> Path:
    """Where a Distribution registry with that storage keeps a blob."""
    hexadecimal = digest.removeprefix("sha256:")
    return store / STORE / "blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def _write(shape: Shape, store: Path) -> tuple[Image, ...]:
    sizes = layer_sizes(shape)
    with ThreadPoolExecutor(2) as pool:  # the cipher and the hash let go of Python's lock
        layers = list(pool.map(partial(_layer, shape, store), range(shape.layers), sizes))
    return tuple(
        _image(store, f"bench/image-{number:03}", [layers[index] for index in members])
        for number, members in enumerate(arrange(shape))
    )


def _layer(shape: Shape, store: Path, index: int, size: int) -> Blob:
    # the largest stay the same from one point release to the next, as base layers do
    changed = index % max(1, shape.layers // max(1, shape.changed_layers)) == 0
    version = 1 if shape.changed_layers and changed else 0
    key = hashlib.sha256(f"{shape.seed} {shape.layers} {index} {version}".encode()).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    found, left = hashlib.sha256(), size
    work = store / f".layer-{index}"
    zeros = bytes(_BLOCK)
    with work.open("wb", buffering=0) as out:
        head = _GZIP[:size]
        found.update(head)
        out.write(head)
        left -= len(head)
        while left:
            block = stream.update(zeros[: min(left, _BLOCK)])
            found.update(block)
            out.write(block)
            left -= len(block)
    digest = f"sha256:{found.hexdigest()}"
    target = blob_path(store, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    work.rename(target)
    return Blob(digest, size, LAYER_TYPE)


def _image(store: Path, repository: str, layers: list[Blob]) -> Image:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"name": repository}},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    config = _small(store, document, CONFIG_TYPE)
    manifest = _small(
        store,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_dict(),
            "layers": [layer.to_dict() for layer in layers],
        },
        MANIFEST_TYPE,
    )
    # under a name as ours gives it, too: a registry on this storage has nothing more to be sent
    for name in (repository, f"{HOST}/{repository}"):
        folder = store / STORE / "repositories" / name
        for blob in (config, *layers):
            _link(folder / "_layers", blob.digest)
        _link(folder / "_manifests/revisions", manifest.digest)
        _link(folder / f"_manifests/tags/{TAG}/index", manifest.digest)
        current = folder / f"_manifests/tags/{TAG}/current/link"
        current.parent.mkdir(parents=True)
        current.write_text(manifest.digest)
    return Image(repository, manifest, (config, *layers))


def _small(store: Path, document: object, media_type: str) -> Blob:
    data = json.dumps(document, separators=(",", ":")).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = blob_path(store, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Blob(digest, len(data), media_type)


def _link(folder: Path, digest: str) -> None:
    path = folder / "sha256" / digest.removeprefix("sha256:") / "link"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)
