"""inventory.json: what a site's registry holds, told to the connected side, signed by the site.

With it the builder leaves out of a bundle what is at the site already. It crosses the air gap
outwards, so it holds names of replicas and repositories and no address.
docs/formats/inventory.md describes it.

1. A key that the connected side trusts already signed FILE (signed_file.py).
2. Only then FILE is read: strict JSON, no unknown key, digests, and sizes an honest blob has.
3. Nothing in it contradicts itself: a repository stands there once, a digest has one size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.format.signed_file import read_signed, write_signed
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.format.trust import Trust, TrustedKey
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.reader import Reader, Table, repeated
from perimeter_bundle.model.reference import ImageReference

INVENTORY_FORMAT = "perimeter-inventory/1"
INVENTORY_FILE = "inventory.json"
MAX_INVENTORY_BYTES = 64 * MIB
MAX_BLOB_BYTES = 2**40  # a layer of a TiB is nobody's
MAX_PROBLEMS = 50  # a hostile file shall not fill the screen
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LINE = re.compile(r"[ -~]{1,200}")


@dataclass(frozen=True, slots=True)
class HeldRepository:
    """What every replica gives out under one name: bytes by digest."""

    name: str  # as images are named: quay.io/minio/minio, without the prefix of a registry
    blobs: Mapping[Digest, int]
    manifests: Mapping[Digest, int]


@dataclass(frozen=True, slots=True, order=True)
class Uneven:
    """A blob or manifest that some replicas hold and others lack; it counts as not held."""

    repository: str
    digest: Digest
    lacking: tuple[str, ...]  # names of replicas

    def __str__(self) -> str:
        return f"{self.repository}: {self.digest} is not on {', '.join(self.lacking)}"


@dataclass(frozen=True, slots=True, order=True)
class LoadedRelease:
    """A bundle that was loaded as far as the jump host remembers."""

    number: int
    release: str
    identity: Digest  # of the bundle's SHA256SUMS

    def to_dict(self) -> dict[str, object]:
        """As the file writes it."""
        return {"release": self.release, "number": self.number, "identity": str(self.identity)}


@dataclass(frozen=True, slots=True)
class Inventory:
    """The whole file."""

    site: str
    made_at: str  # 2026-11-23T04:30:00Z
    replicas: tuple[str, ...]
    hashed: bool  # every blob was read and hashed, not only asked for
    releases: tuple[LoadedRelease, ...]
    repositories: tuple[HeldRepository, ...]
    uneven: tuple[Uneven, ...] = ()

    @property
    def blobs(self) -> dict[Digest, int]:
        """Bytes of every blob that all replicas hold, each once."""
        return {
            digest: size
            for repository in self.repositories
            for digest, size in repository.blobs.items()
        }

    def to_bytes(self) -> bytes:
        """The file; the same inventory always the same bytes."""
        return dump_object(
            {
                "format": INVENTORY_FORMAT,
                "site": self.site,
                "made_at": self.made_at,
                "replicas": list(self.replicas),
                "hashed": self.hashed,
                "releases": [one.to_dict() for one in sorted(self.releases)],
                "repositories": [
                    {
                        "name": one.name,
                        "blobs": _table(one.blobs),
                        "manifests": _table(one.manifests),
                    }
                    for one in sorted(self.repositories, key=lambda one: one.name)
                ],
                "uneven": [
                    {
                        "repository": one.repository,
                        "digest": str(one.digest),
                        "lacking": list(one.lacking),
                    }
                    for one in sorted(self.uneven)
                ],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Inventory:
        """The inventory in ``data``.

        Raises IntegrityError[bad-json] or InputError[bad-inventory] with every problem found.
        """
        document = parse_object(data, INVENTORY_FILE, max_bytes=MAX_INVENTORY_BYTES)
        if document.get("format") != INVENTORY_FORMAT:
            raise InputError(
                "bad-inventory",
                "not an inventory of a format known here",
                context={
                    "found": repr(document.get("format"))[:100],
                    "expected": INVENTORY_FORMAT,
                },
                hint="write the file again with perimeter-install inventory, or use a newer"
                " perimeter-bundle",
            )
        reader = Reader()
        where = "inventory"
        reader.only(document, where, _KEYS)
        reader.problems += [f"{where}: {key} is missing" for key in _KEYS if key not in document]
        hashed = document.get("hashed")
        if not isinstance(hashed, bool):
            reader.problems.append(f"{where}: hashed must be true or false")
        inventory = cls(
            site=reader.value(document, "site", where, site_name, ""),
            made_at=reader.value(document, "made_at", where, point_in_time, ""),
            replicas=tuple(reader.each(document, "replicas", where, _line)),
            hashed=hashed is True,
            releases=tuple(reader.tables(document, "releases", _read_release)),
            repositories=tuple(reader.tables(document, "repositories", _read_repository)),
            uneven=tuple(reader.tables(document, "uneven", _read_uneven)),
        )
        problems = reader.problems + _contradictions(inventory)
        if problems:
            raise InputError(
                "bad-inventory",
                f"the inventory cannot be used: {len(problems)} problems",
                problems=[problem[:200] for problem in problems[:MAX_PROBLEMS]],
                hint="write the file again with perimeter-install inventory; it is never edited",
            )
        return inventory


_MAKER = object()


@dataclass(frozen=True, slots=True)
class VerifiedInventory:
    """An inventory whose signature held when it was read. Only open_inventory makes one."""

    inventory: Inventory
    digest: Digest  # of the file
    signer: TrustedKey
    maker: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.maker is not _MAKER:
            raise TypeError("only open_inventory() makes a VerifiedInventory")


def write_inventory(
    inventory: Inventory, path: Path, key_path: Path, password: str | None = None
) -> tuple[Path, str]:
    """Writes ``path`` and its signature; the signature's path and the id of the key.

    Raises what write_signed raises.
    """
    return write_signed(path, inventory.to_bytes(), Inventory.parse, key_path, password)


def open_inventory(path: Path, trust: Trust) -> VerifiedInventory:
    """The inventory in ``path`` if a key in ``trust`` signed it.

    Raises InputError[no-inventory], what read_signed raises, and what Inventory.parse raises.
    """
    if not path.is_file():
        raise InputError(
            "no-inventory",
            f"there is no file {path}",
            hint="perimeter-install inventory writes it at the site; carry it here with its .sig",
        )
    signed = read_signed(path, trust, MAX_INVENTORY_BYTES)  # 1
    inventory = Inventory.parse(signed.data)  # 2, 3
    return VerifiedInventory(inventory, signed.digest, signed.signer, _MAKER)


def repository_name(text: str) -> str:
    """``text`` when it is host and repository; raises ValueError."""
    try:
        complete = ImageReference.parse(text).name
    except PerimeterError:
        complete = ""
    if complete != text:
        raise ValueError(f"{text[:100]!r} is not a host and a repository")
    return text


def site_name(text: str) -> str:
    """``text`` when a site may be called so; raises ValueError."""
    if not _SITE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not the name of a site")
    return text


def point_in_time(text: str) -> str:
    """``text`` when it is a time in UTC; raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a time such as 2026-11-23T04:30:00Z")
    return text


_KEYS = ("format", "site", "made_at", "replicas", "hashed", "releases", "repositories", "uneven")
_NO_DIGEST = Digest.of_bytes(b"")


def _table(sizes: Mapping[Digest, int]) -> dict[str, int]:
    return {str(digest): size for digest, size in sizes.items()}


def _line(text: str) -> str:
    if not _LINE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a plain line")
    return text


def _read_release(reader: Reader, table: Table, where: str) -> LoadedRelease:
    reader.only(table, where, ("release", "number", "identity"))
    return LoadedRelease(
        number=reader.count(table, "number", where),
        release=reader.value(table, "release", where, _line, ""),
        identity=reader.value(table, "identity", where, Digest.parse, _NO_DIGEST),
    )


def _read_repository(reader: Reader, table: Table, where: str) -> HeldRepository:
    reader.only(table, where, ("name", "blobs", "manifests"))
    return HeldRepository(
        name=reader.value(table, "name", where, repository_name, ""),
        blobs=_read_sizes(reader, table, "blobs", where),
        manifests=_read_sizes(reader, table, "manifests", where),
    )


def _read_sizes(reader: Reader, table: Table, key: str, where: str) -> dict[Digest, int]:
    sizes: dict[Digest, int] = {}
    listed = reader.table(table, key, where)
    for text in listed:
        digest = reader.value({"digest": text}, "digest", where, Digest.parse, _NO_DIGEST)
        sizes[digest] = reader.count(listed, text, where)
        if sizes[digest] > MAX_BLOB_BYTES:
            reader.problems.append(f"{where}: {digest} has {sizes[digest]} bytes, which none has")
    return sizes


def _read_uneven(reader: Reader, table: Table, where: str) -> Uneven:
    reader.only(table, where, ("repository", "digest", "lacking"))
    return Uneven(
        repository=reader.value(table, "repository", where, repository_name, ""),
        digest=reader.value(table, "digest", where, Digest.parse, _NO_DIGEST),
        lacking=tuple(reader.each(table, "lacking", where, _line)),
    )


def _contradictions(inventory: Inventory) -> list[str]:
    problems = [
        f"repository {name} stands there twice"
        for name in repeated(one.name for one in inventory.repositories)
    ]
    problems += [f"replica {name} stands there twice" for name in repeated(inventory.replicas)]
    if not inventory.replicas:
        problems.append("no replica was asked")
    sizes: dict[Digest, int] = {}
    for one in inventory.repositories:
        for digest, size in (*one.blobs.items(), *one.manifests.items()):
            if sizes.setdefault(digest, size) != size:
                problems.append(f"{one.name}: {digest} has {size} bytes, elsewhere {sizes[digest]}")
    held = {one.name: one for one in inventory.repositories}
    for uneven in inventory.uneven:
        there = held.get(uneven.repository)
        if there and (uneven.digest in there.blobs or uneven.digest in there.manifests):
            problems.append(f"{uneven.repository}: {uneven.digest} is both held and not")
    return problems
