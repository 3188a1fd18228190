"""OCI descriptors, manifests and indexes, and Docker's schema 2 forms of the same.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md and image-index.md
Bytes that a digest names are kept as they came; these values are only a view of them. Unknown
keys are allowed, as the specification asks. ``to_bytes`` is for what perimeter itself writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perimeter_bundle.format.layout import REF_NAME_ANNOTATION
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import Reader, Table

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

# what runs as a container has one of these configurations
CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
MAX_CONFIG_BYTES = 8 * MIB

# the empty configuration that artifacts carry: the two bytes {}
EMPTY_CONFIG_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY_CONFIG = b"{}"

MAX_MANIFEST_BYTES = 4 * MIB  # what the distribution specification asks a registry to take
MAX_INDEX_BYTES = 64 * MIB  # index.json of a layout names everything in it
LAYOUT_VERSION = b'{"imageLayoutVersion":"1.0.0"}\n'


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Type, digest and size of a blob; platform and annotations where an index gives them."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_index(self) -> bool:
        """Whether it names an index or a manifest list."""
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """Whether it names a single manifest."""
        return self.media_type in MANIFEST_TYPES

    @property
    def reference(self) -> str:
        """The full reference under which an index.json holds it; empty when it has none."""
        return self.annotations.get(REF_NAME_ANNOTATION, "")

    def to_dict(self) -> dict[str, object]:
        """The descriptor as JSON writes it; empty fields are left out."""
        table: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size_bytes,
        }
        if self.platform:
            parts = {
                "os": self.platform.os,
                "architecture": self.platform.architecture,
                "variant": self.platform.variant,
            }
            table["platform"] = {key: value for key, value in parts.items() if value}
        if self.annotations:
            table["annotations"] = dict(self.annotations)
        if self.artifact_type:
            table["artifactType"] = self.artifact_type
        return table


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """An image for one platform, or an artifact: a configuration and layers."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """Everything it needs: the configuration, then the layers."""
        return (self.config, *self.layers)

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        table: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }
        return dump_object(_with_extras(table, self.annotations, self.artifact_type))

    @classmethod
    def parse(cls, data: bytes) -> ImageManifest:
        """The manifest in ``data``; raises IntegrityError[bad-oci] with every problem."""
        parsed = parse_manifest(data)
        if not isinstance(parsed, ImageManifest):
            raise IntegrityError("bad-oci", "expected an image manifest, found an index")
        return parsed


@dataclass(frozen=True, slots=True)
class OciIndex:
    """Manifests of one image for several platforms, or (index.json) of everything in a layout."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """Every manifest it names."""
        return self.manifests

    def find(self, reference: str) -> Descriptor | None:
        """The entry of an index.json with this full reference."""
        return next((entry for entry in self.manifests if entry.reference == reference), None)

    def for_platform(self, wanted: Platform) -> Descriptor | None:
        """The first manifest that serves ``wanted``, as container runtimes choose it."""
        for entry in self.manifests:
            if entry.platform and entry.platform.serves(wanted):
                return entry
        return None

    def to_bytes(self) -> bytes:
        """Deterministic JSON; entries keep their order."""
        table: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [entry.to_dict() for entry in self.manifests],
        }
        return dump_object(_with_extras(table, self.annotations, self.artifact_type))

    @classmethod
    def parse(cls, data: bytes) -> OciIndex:
        """The index in ``data``; raises IntegrityError[bad-oci] with every problem."""
        parsed = parse_manifest(data, max_bytes=MAX_INDEX_BYTES)
        if not isinstance(parsed, OciIndex):
            raise IntegrityError("bad-oci", "expected an index, found an image manifest")
        return parsed


def parse_manifest(data: bytes, *, max_bytes: int = MAX_MANIFEST_BYTES) -> ImageManifest | OciIndex:
    """The manifest or index in ``data``, whichever its fields and media type say it is.

    Raises IntegrityError[bad-oci] with every problem. A document that could be read as both is
    refused (CVE-2021-41190), and so are Docker's schema 1 and unknown media types.
    """
    document = parse_object(data, "an OCI manifest", max_bytes=max_bytes)
    reader = Reader()
    is_index, is_manifest = "manifests" in document, "layers" in document or "config" in document
    media_type = _own_media_type(reader, document, is_index)
    if document.get("schemaVersion") != 2:
        reader.problems.append(f"schemaVersion is {document.get('schemaVersion')!r}, not 2")
    if is_index == is_manifest:
        both = "both an index and a manifest" if is_index else "neither an index nor a manifest"
        reader.problems.append(f"it is {both}")
        raise _refusal(reader)
    annotations = _annotations(reader, document, "manifest")
    artifact_type = _optional_text(reader, document, "artifactType", "manifest")
    parsed: ImageManifest | OciIndex
    if is_index:
        entries = tuple(reader.tables(document, "manifests", _read_descriptor))
        parsed = OciIndex(entries, media_type, annotations, artifact_type)
    else:
        config = _read_descriptor(reader, reader.table(document, "config", "manifest"), "config")
        layers = tuple(reader.tables(document, "layers", _read_descriptor))
        parsed = ImageManifest(config, layers, media_type, annotations, artifact_type)
        if "layers" not in document:
            reader.problems.append("layers is missing")
    if reader.problems:
        raise _refusal(reader)
    return parsed


def closure(data: bytes) -> tuple[Descriptor, ...]:
    """What a manifest or index needs directly: configuration and layers, or manifests."""
    return parse_manifest(data).descriptors


def _own_media_type(reader: Reader, document: Table, is_index: bool) -> str:
    """What the document says it is; OCI lets it say nothing."""
    allowed = INDEX_TYPES if is_index else MANIFEST_TYPES
    default = OCI_INDEX if is_index else OCI_MANIFEST
    media_type = document.get("mediaType", default)
    if not isinstance(media_type, str) or media_type not in allowed:
        reader.problems.append(
            f"mediaType {media_type!r} is not among {', '.join(sorted(allowed))}"
        )
        return default
    return media_type


_NOTHING = Digest.of_bytes(b"")


def _read_descriptor(reader: Reader, table: Table, where: str) -> Descriptor:
    return Descriptor(
        media_type=reader.text(table, "mediaType", where),
        digest=reader.value(table, "digest", where, Digest.parse, _NOTHING),
        size_bytes=reader.count(table, "size", where),
        platform=_read_platform(reader, table, where),
        annotations=_annotations(reader, table, where),
        artifact_type=_optional_text(reader, table, "artifactType", where),
    )


def _read_platform(reader: Reader, table: Table, where: str) -> Platform | None:
    if table.get("platform") is None:
        return None
    platform = reader.table(table, "platform", where)
    names = [_optional_text(reader, platform, key, where) for key in _PLATFORM_KEYS]
    if not any(names):
        return None
    joined = {"platform": "/".join(names if names[2] else names[:2])}
    return reader.value(joined, "platform", where, Platform.parse, None)


_PLATFORM_KEYS = ("os", "architecture", "variant")


def _annotations(reader: Reader, table: Table, where: str) -> dict[str, str]:
    if table.get("annotations") is None:
        return {}
    pairs = reader.table(table, "annotations", where)
    annotations = {key: value for key, value in pairs.items() if isinstance(value, str)}
    if len(annotations) != len(pairs):
        reader.problems.append(f"{where}: annotations must be strings")
    return annotations


def _optional_text(reader: Reader, table: Table, key: str, where: str) -> str:
    return reader.text(table, key, where, empty=True) if table.get(key) is not None else ""


def _with_extras(
    table: dict[str, object], annotations: Mapping[str, str], artifact_type: str
) -> dict[str, object]:
    if annotations:
        table["annotations"] = dict(annotations)
    if artifact_type:
        table["artifactType"] = artifact_type
    return table


def _refusal(reader: Reader) -> IntegrityError:
    return IntegrityError(
        "bad-oci", "an OCI manifest cannot be used", problems=tuple(reader.problems)
    )
