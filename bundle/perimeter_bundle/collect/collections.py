"""The Ansible collections the playbooks use, taken out of the package that has them all.

One list, here: a playbook that needs another collection adds it.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import path_problem, write_file
from perimeter_bundle.format.layout import COLLECTIONS
from perimeter_bundle.format.strict_json import MIB, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

MAX_MEMBER_BYTES = 16 * MIB
_BELOW = "ansible_collections"
_LEFT_OUT = ("tests/", "docs/", "changelogs/", ".github/", "hacking/")


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection by name and licence."""

    namespace: str
    name: str
    licence: str

    @property
    def folder(self) -> str:
        """Where it lies, in the package and below the bundle's collections."""
        return f"{_BELOW}/{self.namespace}/{self.name}"


COLLECTIONS_USED = (
    Collection("ansible", "posix", "GPL-3.0-or-later"),
    Collection("kubernetes", "core", "GPL-3.0-or-later"),
)


@dataclass(frozen=True, slots=True)
class UnpackedCollection:
    """What was put into a bundle."""

    collection: Collection
    version: str
    path: str  # of its folder in the bundle
    manifest: Digest  # of its MANIFEST.json
    size_bytes: int


def unpack_collections(wheel: Path, bundle: Path) -> tuple[UnpackedCollection, ...]:
    """Puts COLLECTIONS_USED out of ``wheel`` into ``bundle``, tests and changelogs left out.

    Every file is checked against the collection's own FILES.json.
    Raises IntegrityError[bad-collection].
    """
    with zipfile.ZipFile(wheel) as archive:
        return tuple(_unpack(archive, one, bundle) for one in COLLECTIONS_USED)


def _unpack(archive: zipfile.ZipFile, collection: Collection, bundle: Path) -> UnpackedCollection:
    what = f"{collection.namespace}.{collection.name}"
    prefix = f"{collection.folder}/"
    names = sorted(n for n in archive.namelist() if n.startswith(prefix) and not n.endswith("/"))
    if not names:
        raise IntegrityError("bad-collection", f"the package holds no collection {what}")
    manifest = _read(archive, f"{prefix}MANIFEST.json", what)
    promised = _promised(_read(archive, f"{prefix}FILES.json", what), what)
    info = parse_object(manifest, f"{what}/MANIFEST.json", max_bytes=MAX_MEMBER_BYTES)
    details = info.get("collection_info")
    version = str(details.get("version", "")) if isinstance(details, dict) else ""
    size = 0
    for name in names:
        inner = name.removeprefix(prefix)
        if inner.startswith(_LEFT_OUT):
            continue
        data = _read(archive, name, what)
        expected = promised.get(inner)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise IntegrityError("bad-collection", f"{what}: {inner} is not what FILES.json says")
        target = f"{COLLECTIONS}/{name}"
        if path_problem(target):
            raise IntegrityError("bad-collection", f"{what}: {name!r}: {path_problem(target)}")
        write_file(bundle / target, data)
        size += len(data)
    return UnpackedCollection(
        collection, version, f"{COLLECTIONS}/{collection.folder}", Digest.of_bytes(manifest), size
    )


def _promised(data: bytes, what: str) -> dict[str, str]:
    """SHA-256 of each file by path, as FILES.json lists them."""
    document = parse_object(data, f"{what}/FILES.json", max_bytes=MAX_MEMBER_BYTES)
    files = document.get("files")
    promised = {}
    for entry in files if isinstance(files, list) else []:
        if isinstance(entry, dict) and entry.get("ftype") == "file":
            promised[str(entry.get("name"))] = str(entry.get("chksum_sha256"))
    return promised


def _read(archive: zipfile.ZipFile, name: str, what: str) -> bytes:
    try:
        if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
            raise IntegrityError("bad-collection", f"{what}: {name} is larger than any honest file")
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise IntegrityError("bad-collection", f"{what}: cannot read {name}: {error}") from error
