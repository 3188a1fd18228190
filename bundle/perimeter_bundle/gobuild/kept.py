"""Results of compiling, kept by the digest of their recipe: what was made once is made.

    <folder>/<recipe>/made.json      what the image consists of
    <folder>/<recipe>/blobs/<hex>    every blob that is ours; layers of a base are not
    <folder>/<recipe>.work/          Go's caches of an image that is not finished

A folder gets its name last, so one that is there is whole; its blobs are hashed again before they
are believed, and ``build`` believes it only when it is what the lock pins.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import read_file, write_file
from perimeter_bundle.format.oci import MAX_MANIFEST_BYTES, OciIndex
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, PerimeterError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import Reader, Table

FORMAT = "perimeter-made/1"
_MADE = "made.json"
_BLOBS = "blobs"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that was made beside an image: source, materials or provenance."""

    name: str
    platform: Platform | None
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MadeImage:
    """A compiled image: ``index`` names everything; ``blobs`` is where each own blob lies."""

    index: Digest
    blobs: Mapping[Digest, Path]
    files: tuple[MadeFile, ...]

    def read_index(self) -> OciIndex:
        """The index over its platforms."""
        return OciIndex.parse(read_file(self.blobs[self.index], MAX_MANIFEST_BYTES))

    def file(self, name: str, platform: Platform | None) -> MadeFile | None:
        """The file of that name for that platform."""
        return next((f for f in self.files if (f.name, f.platform) == (name, platform)), None)


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of results; only its owner may write there."""

    folder: Path

    def work_folder(self, key: Digest) -> Path:
        """For Go's caches of an image that is being made."""
        return self.folder / f"{key.hex}.work"

    @contextmanager
    def held(self, key: Digest) -> Iterator[None]:
        """Only one process makes an image; raises HostError[busy] or [cannot-write]."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(
                self.folder / f"{key.hex}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise HostError(
                "cannot-write",
                f"cannot keep what is compiled in {self.folder}: {error.strerror}",
                hint="choose another folder with --build-cache",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise HostError(
                "busy",
                f"another run compiles the same image in {self.folder}",
                hint="wait for it, or end it",
            ) from error
        finally:
            os.close(descriptor)

    def find(self, key: Digest) -> MadeImage | None:
        """What was made for a recipe; None when there is nothing, or it is not whole."""
        place = self.folder / key.hex
        try:
            made = _read(read_file(place / _MADE, MIB), place)
            whole = made is not None and all(
                file_digest(path) == digest for digest, path in made.blobs.items()
            )
        except (PerimeterError, OSError):
            return None
        return made if whole else None

    def keep(self, key: Digest, made: MadeImage) -> MadeImage:
        """Moves the blobs of a finished image into its own folder."""
        place, half = self.folder / key.hex, self.folder / f"{key.hex}.half"
        shutil.rmtree(half, ignore_errors=True)
        (half / _BLOBS).mkdir(parents=True, mode=0o700)
        for digest, path in made.blobs.items():
            shutil.move(path, half / _BLOBS / digest.hex)
        write_file(half / _MADE, dump_object(_to_dict(made)))
        shutil.rmtree(place, ignore_errors=True)
        half.rename(place)
        blobs = {digest: place / _BLOBS / digest.hex for digest in made.blobs}
        return MadeImage(made.index, blobs, made.files)

    def forget(self, key: Digest) -> None:
        """Removes what was made for a recipe."""
        shutil.rmtree(self.folder / key.hex, ignore_errors=True)


def _to_dict(made: MadeImage) -> dict[str, object]:
    return {
        "format": FORMAT,
        "index": str(made.index),
        "blobs": sorted(str(digest) for digest in made.blobs),
        "files": [
            {
                "name": file.name,
                "platform": str(file.platform or ""),
                "digest": str(file.digest),
                "size": file.size_bytes,
            }
            for file in made.files
        ],
    }


def _read(data: bytes, place: Path) -> MadeImage | None:
    document = parse_object(data, _MADE, max_bytes=MIB)
    reader = Reader()
    nothing = Digest.of_bytes(b"")
    index = reader.value(document, "index", _MADE, Digest.parse, nothing)
    blobs = {
        digest: place / _BLOBS / digest.hex
        for digest in reader.each(document, "blobs", _MADE, Digest.parse)
    }
    files = tuple(reader.tables(document, "files", _read_file))
    if reader.problems or document.get("format") != FORMAT:
        return None
    named = {index, *(file.digest for file in files)}
    return MadeImage(index, blobs, files) if named <= set(blobs) else None


def _read_file(reader: Reader, table: Table, where: str) -> MadeFile:
    platform = (
        reader.value(table, "platform", where, Platform.parse, None)
        if table.get("platform")
        else None
    )
    return MadeFile(
        name=reader.text(table, "name", where),
        platform=platform,
        digest=reader.value(table, "digest", where, Digest.parse, Digest.of_bytes(b"")),
        size_bytes=reader.count(table, "size", where),
    )


def file_digest(path: Path) -> Digest:
    """The SHA-256 of a file that may be large."""
    with path.open("rb") as stream:
        return Digest.parse(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
