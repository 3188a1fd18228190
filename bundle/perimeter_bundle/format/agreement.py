"""Whether the parts of a bundle tell the same story: lock, bundle.json, index.json and blobs.

Plain functions; each gives back every problem it finds as one line. The bytes were checked before:
here it is about what they say. ``verify`` calls these and raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from perimeter_bundle.format.layout import BLOBS, PYTHON_INDEX, blob_path, python_package_path
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.oci import (
    CONFIG_TYPES,
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    ImageManifest,
    OciIndex,
    parse_manifest,
)
from perimeter_bundle.format.strict_json import parse_object
from perimeter_bundle.format.sums import Sums
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, PerimeterError
from perimeter_bundle.model.lock import FileKind, Lock, LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import repeated

MAX_INDEX_DEPTH = 3  # an index of indexes of indexes is not an image

ReadBlob = Callable[[Digest, int], bytes]  # the blob's bytes, at most so many


def blob_name_problems(sums: Sums) -> list[str]:
    """Files below blobs/ whose name is not the digest of their bytes, as SHA256SUMS lists them."""
    return [
        f"{path}: its bytes are {digest}"
        for path, digest in sums.digests.items()
        if path.startswith(f"{BLOBS}/") and path != blob_path(digest)
    ]


def lock_problems(lock: Lock, manifest: BundleManifest, index: OciIndex) -> list[str]:
    """Where lock, bundle.json and index.json differ in release, names or digests."""
    problems = [f"the lock has no digest for {name}" for name in lock.unresolved()]
    if lock.release != manifest.release:
        problems.append(f"release: the lock says {lock.release!r}, not {manifest.release!r}")
    if lock.number != manifest.number:
        problems.append(f"release number: the lock says {lock.number}, not {manifest.number}")
    items = {item.name: item for item in manifest.items if item.kind.in_index}
    entries = {entry.reference: entry for entry in index.manifests}
    problems += [f"index.json names {name} twice" for name in _names_twice(index)]
    problems += [
        f"index.json holds {entry.digest} without a name"
        for entry in index.manifests
        if not entry.reference
    ]
    locked = dict(_pins(lock))
    for name, pin in locked.items():
        problems += _pin_problems(name, pin, items.get(name), entries.get(name))
    problems += [
        f"{name} is in bundle.json but not locked" for name in sorted(set(items) - set(locked))
    ]
    problems += _package_problems(lock, manifest)
    problems += [
        f"{name} is in index.json but not in bundle.json"
        for name in sorted(set(entries) - set(items) - {""})
    ]
    return problems


def content_problems(manifest: BundleManifest, sums: Sums) -> list[str]:
    """Wheels and collections of bundle.json that are not in the bundle with their digest."""
    problems = []
    for item in manifest.items:
        if item.kind.in_index:
            continue
        path = item.name if item.kind is ItemKind.WHEEL else f"{item.name}/MANIFEST.json"
        found = sums.digests.get(path)
        if found != item.digest:
            problems.append(f"{path}: bundle.json says {item.digest}, SHA256SUMS {found}")
    return problems


def _package_problems(lock: Lock, manifest: BundleManifest) -> list[str]:
    """Python packages that lock and bundle.json do not both have with one digest."""
    locked = {python_package_path(one.filename): one.digest for one in lock.packages}
    items = {
        item.name: item.digest
        for item in manifest.items_of(ItemKind.WHEEL)
        if item.name.startswith(f"{PYTHON_INDEX}/")
    }
    return [
        f"{name}: the lock says {locked.get(name)}, bundle.json {items.get(name)}"
        for name in sorted(locked.keys() | items.keys())
        if locked.get(name) != items.get(name)
    ]


@dataclass(frozen=True, slots=True)
class _Pin:
    """What the lock says of one name, whatever its kind."""

    kind: ItemKind
    digest: Digest | None
    is_payload: bool  # the digest is of the file itself, not of its OCI manifest
    platforms: tuple[str, ...] | None  # None: not compared


def _pins(lock: Lock) -> Iterator[tuple[str, _Pin]]:
    for image in lock.images:
        platforms = tuple(str(platform) for platform in sorted(image.manifests))
        yield str(image.reference), _Pin(ItemKind.IMAGE, image.digest, False, platforms)
    for chart in lock.charts:
        yield str(chart.reference), _Pin(ItemKind.CHART, chart.digest, True, None)
    for file in lock.files:
        kind = ItemKind.FILE if file.kind is FileKind.FILE else ItemKind.MANIFEST
        yield str(file.reference), _Pin(kind, file.digest, True, None)
    for source in lock.sources:
        yield str(source.reference), _Pin(ItemKind.SOURCE, source.digest, True, None)


def _pin_problems(
    name: str, pin: _Pin, item: BundleItem | None, entry: Descriptor | None
) -> list[str]:
    if item is None or entry is None:
        where = "bundle.json" if item is None else "index.json"
        return [f"{name} is locked but not in {where}"]
    problems = []
    if item.kind is not pin.kind:
        problems.append(f"{name}: bundle.json calls it a {item.kind.value}, not {pin.kind.value}")
    promised = item.payload if pin.is_payload else item.digest
    if pin.digest is not None and promised != pin.digest:
        problems.append(f"{name}: the lock says {pin.digest}, bundle.json {promised}")
    if entry.digest != item.digest:
        problems.append(f"{name}: bundle.json says {item.digest}, index.json {entry.digest}")
    if pin.platforms is not None and tuple(sorted(item.platforms)) != pin.platforms:
        found, locked = ", ".join(item.platforms), ", ".join(pin.platforms)
        problems.append(f"{name}: the lock has platforms {locked}, bundle.json {found}")
    return problems


def _names_twice(index: OciIndex) -> list[str]:
    return repeated(entry.reference for entry in index.manifests if entry.reference)


def closure_problems(
    lock: Lock,
    manifest: BundleManifest,
    index: OciIndex,
    sizes: Mapping[Digest, int],
    read: ReadBlob,
) -> list[str]:
    """What index.json needs and the bundle lacks; ``sizes`` holds every blob that is there.

    Every descriptor reachable from index.json must be there with its size. Members of an index
    that were not collected may be absent, but what the lock names must be there, be a member, and
    be built for the platform under which it is locked.
    """
    walk = _Walk(sizes, read)
    for entry in index.manifests:
        walk.descend(entry, entry.reference or str(entry.digest), depth=0, required=True)
    for image in lock.images:
        walk.check_platforms(image)
    for item in manifest.items:
        if item.kind.in_index:
            walk.check_payload(item)
    return walk.problems


class _Walk:
    """Goes through manifests once each and keeps what they say."""

    def __init__(self, sizes: Mapping[Digest, int], read: ReadBlob) -> None:
        self._sizes = sizes
        self._read = read
        self._parsed: dict[Digest, ImageManifest | OciIndex] = {}
        self.problems: list[str] = []

    def descend(self, entry: Descriptor, name: str, *, depth: int, required: bool) -> None:
        """Checks ``entry`` and everything below it, each digest once."""
        if entry.digest not in self._sizes and not required:
            return
        if not self._is_there(entry, name):
            return
        if depth > MAX_INDEX_DEPTH:
            self.problems.append(f"{name}: indexes are nested deeper than {MAX_INDEX_DEPTH}")
            return
        if not (entry.is_index or entry.is_manifest):
            self.problems.append(f"{name}: {entry.media_type!r} is not a manifest or index")
            return
        known = self._parsed.get(entry.digest)
        parsed = known or self._parse(entry, name)
        if parsed is None:
            return
        if parsed.media_type != entry.media_type:
            self.problems.append(
                f"{name}: {entry.digest} is {parsed.media_type}, announced as {entry.media_type}"
            )
        for child in () if known else parsed.descriptors:
            if isinstance(parsed, OciIndex):
                self.descend(child, name, depth=depth + 1, required=False)
            else:
                self._is_there(child, name)

    def _parse(self, entry: Descriptor, name: str) -> ImageManifest | OciIndex | None:
        try:
            parsed = parse_manifest(self._read(entry.digest, MAX_MANIFEST_BYTES))
        except PerimeterError as error:
            reasons = "; ".join([error.message, *error.problems])
            self.problems.append(f"{name}: {entry.digest}: {reasons}")
            return None
        self._parsed[entry.digest] = parsed
        return parsed

    def check_platforms(self, image: LockedImage) -> None:
        """That what is locked for each platform is there and was built for it."""
        name, top = str(image.reference), image.digest
        parsed = self._parsed.get(top) if top else None
        for platform, digest in sorted(image.manifests.items()):
            if isinstance(parsed, OciIndex):
                member = next((one for one in parsed.manifests if one.digest == digest), None)
                if member is None:
                    self.problems.append(f"{name}: {digest} is not a member of {top}")
                    continue
                if digest not in self._sizes:
                    self.problems.append(f"{name}: {digest} ({platform}) is missing")
                    continue
            elif digest != top:
                self.problems.append(f"{name}: {digest} is not {top}, which is no index")
                continue
            child = self._parsed.get(digest)
            if isinstance(child, ImageManifest):
                self._check_config(name, platform, child)

    def check_payload(self, item: BundleItem) -> None:
        """That what bundle.json calls the payload is what the item's manifest holds."""
        parsed = self._parsed.get(item.digest)
        if parsed is None:
            return  # reported already
        held = {entry.digest for entry in parsed.descriptors}
        if item.kind is ItemKind.IMAGE:
            held = held if isinstance(parsed, OciIndex) else {item.digest}
        elif not isinstance(parsed, ImageManifest) or len(parsed.layers) != 1:
            self.problems.append(f"{item.name}: not an artifact of one layer")
            return
        else:
            held = {parsed.layers[0].digest}
        if item.payload not in held:
            self.problems.append(f"{item.name}: its payload {item.payload} is not in {item.digest}")

    def _check_config(self, name: str, platform: Platform, image: ImageManifest) -> None:
        if image.config.media_type not in CONFIG_TYPES or image.config.digest not in self._sizes:
            return
        try:
            data = self._read(image.config.digest, MAX_CONFIG_BYTES)
            config = parse_object(data, "an image configuration", max_bytes=MAX_CONFIG_BYTES)
        except IntegrityError as error:
            self.problems.append(f"{name}: {error.message}")
            return
        built = (config.get("os"), config.get("architecture"))
        if built != (platform.os, platform.architecture):
            self.problems.append(f"{name}: locked for {platform}, built for {built[0]}/{built[1]}")

    def _is_there(self, entry: Descriptor, name: str) -> bool:
        size = self._sizes.get(entry.digest)
        if size is None:
            self.problems.append(f"{name}: {entry.digest} is missing")
            return False
        if size != entry.size_bytes:
            self.problems.append(
                f"{name}: {entry.digest} has {size} bytes, {entry.size_bytes} were announced"
            )
        return True
