"""manifest/base.json: what a delta leaves out because the site's registry holds it already.

Only layers of images and files of nodes are ever left out. Manifests and configurations are small
and verification reads them; charts, manifests of Kubernetes, sources and the programs below are
read on the jump host, out of the bundle. docs/formats/bundle.md describes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from perimeter_bundle.format.inventory import (
    MAX_BLOB_BYTES,
    point_in_time,
    repository_name,
    site_name,
)
from perimeter_bundle.format.layout import BASE, BASE_FORMAT
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.oci import (
    MAX_MANIFEST_BYTES,
    ImageManifest,
    OciIndex,
    parse_manifest,
)
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.reader import Reader, Table, repeated

MAX_BASE_BYTES = 64 * MIB
# component/name of files that the jump host itself reads; tests/unit/format compares with the roles
JUMP_HOST_PROGRAMS = frozenset({"helm/helm", "kustomize/kustomize", "registry/registry"})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A blob that is not in the bundle."""

    digest: Digest
    size_bytes: int
    repository: str  # where every replica of the site held it
    items: tuple[str, ...]  # which images and files need it


@dataclass(frozen=True, slots=True)
class Base:
    """The whole file; ``inventory`` is the digest of the inventory that was built against."""

    inventory: Digest
    site: str
    made_at: str
    blobs: tuple[LeftOut, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blobs", tuple(sorted(self.blobs, key=lambda one: one.digest)))

    @property
    def sizes(self) -> dict[Digest, int]:
        """Bytes by digest."""
        return {one.digest: one.size_bytes for one in self.blobs}

    @property
    def total_bytes(self) -> int:
        """Everything that was left out."""
        return sum(one.size_bytes for one in self.blobs)

    @property
    def about(self) -> str:
        """For messages: ``site plant, as of 2026-11-23T04:30:00Z``."""
        return f"site {self.site}, as of {self.made_at}"

    def to_dict(self) -> dict[str, object]:
        """As the file and ``inspect --json`` write it."""
        return {
            "format": BASE_FORMAT,
            "inventory": str(self.inventory),
            "site": self.site,
            "made_at": self.made_at,
            "blobs": [
                {
                    "digest": str(one.digest),
                    "size_bytes": one.size_bytes,
                    "repository": one.repository,
                    "items": list(one.items),
                }
                for one in self.blobs
            ],
        }

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        return dump_object(self.to_dict())

    @classmethod
    def parse(cls, data: bytes) -> Base:
        """The base in ``data``; raises IntegrityError[bad-json] or [bad-base]."""
        document = parse_object(data, BASE, max_bytes=MAX_BASE_BYTES)
        reader = Reader()
        if document.get("format") != BASE_FORMAT:
            found = repr(document.get("format"))[:100]
            reader.problems.append(f"format is {found}, expected {BASE_FORMAT!r}")
        reader.only(document, BASE, ("format", "inventory", "site", "made_at", "blobs"))
        base = cls(
            inventory=reader.value(document, "inventory", BASE, Digest.parse, _NO_DIGEST),
            site=reader.value(document, "site", BASE, site_name, ""),
            made_at=reader.value(document, "made_at", BASE, point_in_time, ""),
            blobs=tuple(reader.tables(document, "blobs", _read_left_out)),
        )
        if "blobs" not in document:
            reader.problems.append(f"{BASE}: blobs is missing")
        reader.problems += [
            f"{digest} stands there twice" for digest in repeated(str(b.digest) for b in base.blobs)
        ]
        if reader.problems:
            raise IntegrityError(
                "bad-base", f"{BASE} cannot be used", problems=reader.problems[:50]
            )
        return base


def may_be_left_out(kind: ItemKind, repository: str) -> bool:
    """Whether the layers of an image, or the file at ``repository``, are used from the registry."""
    if kind is ItemKind.IMAGE:
        return True
    return kind is ItemKind.FILE and repository.removeprefix("files/") not in JUMP_HOST_PROGRAMS


def base_problems(
    base: Base | None,
    manifest: BundleManifest,
    present: Iterable[Digest],
    read: Callable[[Digest, int], bytes],
) -> list[str]:
    """Where base.json and the bundle do not agree: each problem as one line.

    What is left out must be a layer of an image or a file of a node, and not be in the bundle too.
    """
    named = base.inventory if base else None
    if manifest.base != named:
        return [f"bundle.json names the base {manifest.base}, {BASE} names {named}"]
    if base is None or not base.blobs:
        return []
    here = set(present)
    may, must = _left_and_carried(manifest.items, here, read)
    problems = [
        f"{one.digest} is left out and in the bundle" for one in base.blobs if one.digest in here
    ]
    problems += [
        f"{one.digest} is left out, but is no layer of an image and no file of a node"
        for one in base.blobs
        if one.digest not in may - must
    ]
    return problems


def _left_and_carried(
    items: Iterable[BundleItem], here: set[Digest], read: Callable[[Digest, int], bytes]
) -> tuple[set[Digest], set[Digest]]:
    """What may be left out, and what must be in the bundle."""
    may: set[Digest] = set()
    must: set[Digest] = set()
    for item in items:
        if not item.kind.in_index:
            continue
        leave = may_be_left_out(item.kind, item.reference.repository)
        for parsed in _manifests(item.digest, here, read):
            must.add(parsed.config.digest)
            (may if leave else must).update(layer.digest for layer in parsed.layers)
    return may, must


def _manifests(
    digest: Digest, here: set[Digest], read: Callable[[Digest, int], bytes]
) -> Iterable[ImageManifest]:
    """Every image manifest in the bundle at or one level below ``digest``."""
    if digest not in here:
        return  # the closure says so
    parsed = parse_manifest(read(digest, MAX_MANIFEST_BYTES))
    if isinstance(parsed, OciIndex):
        for child in parsed.manifests:
            yield from _manifests(child.digest, here, read)
    else:
        yield parsed


_NO_DIGEST = Digest.of_bytes(b"")


def _read_left_out(reader: Reader, table: Table, where: str) -> LeftOut:
    reader.only(table, where, ("digest", "size_bytes", "repository", "items"))
    size_bytes = reader.count(table, "size_bytes", where)
    if size_bytes > MAX_BLOB_BYTES:
        reader.problems.append(f"{where}: {size_bytes} bytes, which no blob has")
    return LeftOut(
        digest=reader.value(table, "digest", where, Digest.parse, _NO_DIGEST),
        size_bytes=size_bytes,
        repository=reader.value(table, "repository", where, repository_name, ""),
        items=tuple(reader.each(table, "items", where, str)),
    )
