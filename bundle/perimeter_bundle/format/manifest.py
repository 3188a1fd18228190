"""manifest/bundle.json: what a bundle holds, from where, under which licence and why.

Machine-written and deterministic: sorted, no clock. docs/formats/bundle.md describes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from perimeter_bundle.format.layout import BUNDLE_FORMAT
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.lock import WORKLOADS
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import Reader, Table, repeated
from perimeter_bundle.model.reference import ImageReference

MAX_MANIFEST_BYTES = 64 * MIB


class ItemKind(Enum):
    """What an item of a bundle is."""

    IMAGE = "image"
    CHART = "chart"
    FILE = "file"
    MANIFEST = "manifest"
    SOURCE = "source"
    WHEEL = "wheel"
    COLLECTION = "collection"

    @property
    def in_index(self) -> bool:
        """Whether it is an OCI artifact named in index.json; wheels and collections are files."""
        return self not in (ItemKind.WHEEL, ItemKind.COLLECTION)


# what playbooks are given a path to, so it must lie there as a file
PLAYBOOK_KINDS = (ItemKind.FILE, ItemKind.MANIFEST, ItemKind.CHART)


@dataclass(frozen=True, slots=True)
class BundleComponent:
    """One component of the release, in the order in which they are installed."""

    name: str
    version: str
    licence: str
    source: str
    phase: str


@dataclass(frozen=True, slots=True)
class BundleItem:
    """One thing a bundle carries.

    ``name`` is the full reference (charts, files, sources: ``perimeter.internal/…``); for a wheel
    its path in the bundle, for a collection the path of its folder.
    ``digest`` is what the name resolves to in index.json: an image's index or manifest, the OCI
    manifest of a chart, file or source. For a wheel it is the file's own digest, for a collection
    that of its MANIFEST.json.
    ``payload`` is the digest of what is used: a chart's .tgz, a file, a source's .tar; for an image
    the manifest of its first platform.
    """

    kind: ItemKind
    name: str
    digest: Digest
    payload: Digest
    size_bytes: int
    platforms: tuple[str, ...]
    source: str
    licence: str
    component: str
    why: tuple[str, ...]
    version: str

    @property
    def reference(self) -> ImageReference:
        """``name`` as a reference; only for kinds that are ``in_index``."""
        return ImageReference.parse(self.name)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes needed: for the bundle itself, on a registry host, on a node."""

    bundle_bytes: int
    registry_bytes: int
    node_bytes: int


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """The whole of manifest/bundle.json; items are sorted by kind and name."""

    release: str
    number: int
    minimum_installer: str
    components: tuple[BundleComponent, ...]
    items: tuple[BundleItem, ...]
    room: Room
    format: str = BUNDLE_FORMAT
    base: Digest | None = None  # of the inventory, in a delta: base.json names what was left out

    def __post_init__(self) -> None:
        ordered = sorted(self.items, key=lambda item: (item.kind.value, item.name))
        object.__setattr__(self, "items", tuple(ordered))

    def items_of(self, kind: ItemKind) -> tuple[BundleItem, ...]:
        """Every item of one kind, sorted by name."""
        return tuple(item for item in self.items if item.kind is kind)

    def find(self, name: str) -> BundleItem:
        """The item of this name; raises InputError[not-in-bundle]."""
        for item in self.items:
            if item.name == name:
                return item
        raise InputError(
            "not-in-bundle",
            f"{name} is not in this bundle",
            context={"release": self.release},
            hint="perimeter-bundle inspect lists what is",
        )

    def to_bytes(self) -> bytes:
        """The manifest as JSON; the same value gives the same bytes."""
        delta = {"base": str(self.base)} if self.base else {}
        return dump_object(
            {
                **delta,
                "format": self.format,
                "release": self.release,
                "number": self.number,
                "minimum_installer": self.minimum_installer,
                "components": [_component_table(component) for component in self.components],
                "items": [_item_table(item) for item in self.items],
                "room": {key: getattr(self.room, key) for key in _ROOM_KEYS},
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> BundleManifest:
        """The manifest in ``data``.

        Raises IntegrityError[unknown-format], or IntegrityError[bad-manifest] with every problem.
        """
        document = parse_object(data, "manifest/bundle.json", max_bytes=MAX_MANIFEST_BYTES)
        if document.get("format") != BUNDLE_FORMAT:
            raise IntegrityError(
                "unknown-format",
                "this bundle is of a format that this program does not know",
                context={"expected": BUNDLE_FORMAT, "found": repr(document.get("format"))[:100]},
                hint="install the perimeter that the bundle brings along (bootstrap.sh)",
            )
        reader = Reader()
        reader.only(document, "bundle.json", _KEYS)
        room = reader.table(document, "room", "bundle.json")
        reader.only(room, "room", _ROOM_KEYS)
        for key in ("components", "items"):
            if key not in document:
                reader.problems.append(f"bundle.json: {key} is missing")
        manifest = cls(
            release=reader.value(document, "release", "bundle.json", _one_line, ""),
            number=reader.count(document, "number", "bundle.json"),
            minimum_installer=reader.text(document, "minimum_installer", "bundle.json"),
            components=tuple(reader.tables(document, "components", _read_component)),
            items=tuple(reader.tables(document, "items", _read_item)),
            room=Room(*(reader.count(room, key, "room") for key in _ROOM_KEYS)),
            base=(
                reader.value(document, "base", "bundle.json", Digest.parse, None)
                if "base" in document
                else None
            ),
        )
        reader.problems += _contradictions(manifest)
        if reader.problems:
            raise IntegrityError(
                "bad-manifest", "manifest/bundle.json cannot be used", problems=reader.problems
            )
        return manifest


_KEYS = (
    *("format", "release", "number", "minimum_installer", "components", "items", "room"),
    "base",
)
_ROOM_KEYS = ("bundle_bytes", "registry_bytes", "node_bytes")
_COMPONENT_KEYS = ("name", "version", "licence", "source", "phase")
_ITEM_TEXTS = ("source", "licence", "component", "version")
_ITEM_KEYS = (
    *("kind", "name", "digest", "payload", "size_bytes", "platforms", "why"),
    *_ITEM_TEXTS,
)
_NO_DIGEST = Digest.of_bytes(b"")


def _component_table(component: BundleComponent) -> dict[str, object]:
    return {key: getattr(component, key) for key in _COMPONENT_KEYS}


def _item_table(item: BundleItem) -> dict[str, object]:
    return {
        "kind": item.kind.value,
        "name": item.name,
        "digest": str(item.digest),
        "payload": str(item.payload),
        "size_bytes": item.size_bytes,
        "platforms": list(item.platforms),
        "why": list(item.why),
        **{key: getattr(item, key) for key in _ITEM_TEXTS},
    }


def _read_component(reader: Reader, table: Table, where: str) -> BundleComponent:
    reader.only(table, where, _COMPONENT_KEYS)
    return BundleComponent(*(reader.text(table, key, where) for key in _COMPONENT_KEYS))


def _read_item(reader: Reader, table: Table, where: str) -> BundleItem:
    reader.only(table, where, _ITEM_KEYS)
    kind = reader.value(table, "kind", where, ItemKind, ItemKind.FILE)
    return BundleItem(
        kind=kind,
        name=reader.value(table, "name", where, _reference if kind.in_index else _one_line, ""),
        digest=reader.value(table, "digest", where, Digest.parse, _NO_DIGEST),
        payload=reader.value(table, "payload", where, Digest.parse, _NO_DIGEST),
        size_bytes=reader.count(table, "size_bytes", where),
        platforms=tuple(reader.each(table, "platforms", where, _platform)),
        source=reader.text(table, "source", where, empty=True),
        licence=reader.text(table, "licence", where, empty=True),
        component=reader.text(table, "component", where, empty=True),
        why=tuple(reader.each(table, "why", where, str)),
        version=reader.text(table, "version", where, empty=True),
    )


def _contradictions(manifest: BundleManifest) -> list[str]:
    names = [item.name for item in manifest.items]
    components = [component.name for component in manifest.components]
    problems = [f"item {name} stands there twice" for name in repeated(names)]
    problems += [f"component {name} stands there twice" for name in repeated(components)]
    problems += [
        f"item {item.name} belongs to {item.component}, which is not a component"
        for item in manifest.items
        if item.component not in (*components, WORKLOADS, "")
    ]
    return problems


def _reference(text: str) -> str:
    if str(ImageReference.parse(text)) != text:
        raise ValueError(f"{text[:300]!r} is not a complete reference")
    return text


def _platform(text: str) -> str:
    return str(Platform.parse(text))


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"{text[:100]!r} holds characters that do not belong there")
    return text
