"""Is what a tool left behind complete and right? A result that is not does not count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.content import STORE, TAG, ImageSet, blob_path

_BLOCK = 1 << 20


def layout_problem(layouts: Iterable[Path], wanted: ImageSet, blobs: Path) -> str:
    """What is wrong with images in OCI layouts that share ``blobs``; empty when nothing is."""
    listed: set[str] = set()
    for layout in layouts:
        try:
            index = json.loads((layout / "index.json").read_text())
        except (OSError, ValueError):
            return f"{layout.name} has no index.json"
        listed |= {str(one["digest"]) for one in index.get("manifests", [])}
    gone = [one.repository for one in wanted.images if one.manifest.digest not in listed]
    if gone:
        return f"{len(gone)} of {len(wanted.images)} images are in no index, {gone[0]} for one"
    found = {digest: blobs / "sha256" / digest.removeprefix("sha256:") for digest in wanted.blobs}
    return _blob_problem(found, wanted)


def store_problem(store: Path, wanted: ImageSet, prefix: str = "", *, hashed: bool = True) -> str:
    """What is wrong with images loaded into a registry's storage, each below ``prefix``."""
    for image in wanted.images:
        folder = store / STORE / "repositories" / f"{prefix}{image.repository}"
        tag = folder / f"_manifests/tags/{TAG}/current/link"
        if not tag.is_file() or tag.read_text() != image.manifest.digest:
            return f"{prefix}{image.repository}:{TAG} is not the image"
        for blob in image.blobs:
            if not (folder / "_layers/sha256" / blob.digest[7:] / "link").is_file():
                return f"{prefix}{image.repository} lacks {blob.digest}"
    places = {digest: blob_path(store, digest) for digest in wanted.blobs}
    return _blob_problem(places, wanted, hashed)


def _blob_problem(places: dict[str, Path], wanted: ImageSet, hashed: bool = True) -> str:
    for digest, path in places.items():
        if not path.is_file():
            return f"{digest} is missing"
        if path.stat().st_size != wanted.blobs[digest]:
            return f"{digest} has {path.stat().st_size} of {wanted.blobs[digest]} bytes"
    if not hashed:
        return ""
    with ThreadPoolExecutor(2) as pool:
        hashes = pool.map(hash_file, places.values())
        for digest, found in zip(places, hashes, strict=True):
            if found != digest:
                return f"{digest} has other bytes: {found}"
    return ""


def hash_file(path: Path) -> str:
    """``sha256:…`` of a file, read into one buffer."""
    found, buffer = hashlib.sha256(), bytearray(_BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            found.update(view[:count])
    return f"sha256:{found.hexdigest()}"
