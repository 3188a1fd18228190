"""Named files of a folder or of an uncompressed tar, read without unpacking anything.

A tar comes from anywhere, so it is read as if somebody meant harm: no name may climb, nothing may
stand there twice, sizes must fit into the file, and headers may not be huge. Links are allowed
only where docker save makes them: from one layer to the same layer under another name.
"""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from perimeter_bundle.format.files import open_plain, path_problem, unreadable
from perimeter_bundle.model.errors import InputError, IntegrityError

MAX_MEMBERS = 100_000
MAX_HEADER_BYTES = 1024 * 1024  # of one PAX or long-name header; honest ones have hundreds
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


class Store(Protocol):
    """Files by name; ``shown`` is how messages call it."""

    @property
    def shown(self) -> str:
        """Its name in messages."""
        ...

    def size_of(self, name: str) -> int | None:
        """Bytes of a file; None when there is no such file."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file for reading; raises IntegrityError[missing-blob] or [unreadable]."""
        ...


def read_all(store: Store, name: str, limit_bytes: int) -> bytes:
    """The bytes of a small file; raises IntegrityError[oversize], [missing-blob]."""
    with store.open(name) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise IntegrityError(
            "oversize",
            f"{store.shown}: {name} is larger than any honest one",
            context={"allowed": f"{limit_bytes} bytes"},
        )
    return data


def missing(store: Store, name: str) -> IntegrityError:
    """The error for a file that should be there."""
    return IntegrityError(
        "missing-blob",
        f"{store.shown}: {name} is not in it",
        hint="it was cut off or is incomplete: make it again",
    )


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Files below a folder; a link in place of a file is refused."""

    root: Path
    shown: str

    def size_of(self, name: str) -> int | None:
        try:
            found = (self.root / name).lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(name, error) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, name: str) -> BinaryIO:
        if self.size_of(name) is None:
            raise missing(self, name)
        try:
            return open_plain(self.root / name)
        except OSError as error:
            raise unreadable(name, error) from error


@dataclass(frozen=True, slots=True)
class _Part:
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TarStore:
    """Files of one tar; ``parts`` says where each lies."""

    path: Path
    shown: str
    parts: Mapping[str, _Part]

    @classmethod
    def read(cls, path: Path, shown: str) -> TarStore:
        """The table of contents of a tar.

        Raises InputError[compressed-archive], IntegrityError[bad-archive] with every problem.
        """
        try:
            with open_plain(path) as stream:
                _refuse_compressed(stream.read(8), shown)
                size = stream.seek(0, io.SEEK_END)
                stream.seek(0)
                return cls(path, shown, _parts(_Bounded(stream), size, shown))
        except tarfile.TarError as error:
            raise _bad(shown, [str(error)]) from error
        except OSError as error:
            raise unreadable(shown, error) from error

    def size_of(self, name: str) -> int | None:
        part = self.parts.get(name)
        return part.size_bytes if part else None

    def open(self, name: str) -> BinaryIO:
        part = self.parts.get(name)
        if part is None:
            raise missing(self, name)
        try:
            stream = open_plain(self.path)
            stream.seek(part.offset)
        except OSError as error:
            raise unreadable(self.shown, error) from error
        # a reader over the rest of one file; it ends with the part
        return cast("BinaryIO", io.BufferedReader(_Window(stream, part.size_bytes)))


class _Window(io.RawIOBase):
    """The next so many bytes of a stream, which is closed with it."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # Buffer, at run time
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Bounded:
    """What tarfile reads headers through: one that claims to be huge is refused, not read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """At most MAX_HEADER_BYTES at once."""
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes is larger than any honest one")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As the stream."""
        return self._stream.tell()


def _parts(stream: _Bounded, archive_bytes: int, shown: str) -> Mapping[str, _Part]:
    parts: dict[str, _Part] = {}
    links: dict[str, str] = {}
    problems: list[str] = []
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]  # 3 methods
        count = 0
        while (member := tar.next()) is not None:
            tar.members = []  # tarfile remembers all of them otherwise
            count += 1
            if count > MAX_MEMBERS:
                raise _bad(shown, [f"it holds more than {MAX_MEMBERS} files"])
            name = member.name.removeprefix("./")
            problem = path_problem(name) if name not in ("", ".") else None
            if problem:
                problems.append(f"{member.name[:200]!r}: {problem}")
            elif member.isdir():
                continue
            elif name in parts or name in links:
                problems.append(f"{name} stands there twice")
            elif member.issym() or member.islnk():
                base = posixpath.dirname(name) if member.issym() else ""
                links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
            elif not member.isreg() or member.issparse():
                problems.append(f"{name}: neither a file nor a folder")
            elif member.size < 0 or member.offset_data + member.size > archive_bytes:
                problems.append(
                    f"{name}: {member.size} bytes are promised, the archive ends before"
                )
            else:
                parts[name] = _Part(member.offset_data, member.size)
    for name, target in links.items():
        if target in parts:
            parts[name] = parts[target]
        else:
            problems.append(f"{name}: a link to {target[:200]!r}, which is no file of the archive")
    if problems:
        raise _bad(shown, problems[:20])
    return parts


def _refuse_compressed(start: bytes, shown: str) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(
                "compressed-archive",
                f"{shown} is compressed ({name})",
                hint="unpack it first, for example with gunzip; layers stay as they are",
            )


def _bad(shown: str, problems: list[str]) -> IntegrityError:
    return IntegrityError(
        "bad-archive",
        f"{shown} is not a tar that can be used",
        problems=problems,
        hint="it was cut off or made by something else: make it again",
    )
