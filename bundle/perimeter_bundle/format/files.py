"""Files of a bundle: which paths may be there, what lies in a folder, reading and writing.

Paths come from people and from media that travelled, so they are judged before they touch a disk,
and no symbolic link is ever followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from perimeter_bundle.model.errors import IntegrityError

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
_USUAL_PATH = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies in a folder: size of each regular file by path, and what must not be there."""

    files: Mapping[str, int]
    odd: tuple[str, ...]  # symbolic links, devices, unreadable names; one line each


def path_problem(path: str) -> str | None:
    """Why ``path`` may not stand in a bundle; None when it may."""
    if _USUAL_PATH.fullmatch(path) and len(path) <= MAX_NAME_BYTES:
        return None  # as every blob's: there are many
    encoded = path.encode("utf-8", "surrogateescape")
    parts = path.split("/")
    if any("\ud800" <= char <= "\udfff" for char in path):
        return "its name is not UTF-8"
    if not path.isprintable():  # controls, and what only looks like another name
        return "it holds a control character"
    if path == "-":
        return "sha256sum would read standard input instead"
    if "\\" in path:
        return "it holds a backslash"
    if any(part in ("", ".", "..") for part in parts):
        return "it is not a plain relative path"
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return "it is too long"
    return None


def list_tree(root: Path, *, missing_ok: bool = False) -> Tree:
    """Every file below ``root``, links not followed; raises IntegrityError[unreadable].

    No folder at all gives an empty tree with ``missing_ok``.
    """
    if missing_ok and not os.path.lexists(root):
        return Tree({}, ())
    files: dict[str, int] = {}
    odd: list[str] = []
    for path, mode, size in _walk(root):
        problem = path_problem(path)
        if stat.S_ISREG(mode) and not problem:
            files[path] = size
        else:
            odd.append(f"{path!r}: {problem or _KINDS.get(stat.S_IFMT(mode), 'a special file')}")
    return Tree(files, tuple(sorted(odd)))


def write_file(path: Path, data: bytes, *, mode: int = 0o644, flushed: bool = True) -> None:
    """Writes ``data`` whole or not at all: a file beside it, flushed, then renamed.

    Not ``flushed``, a power cut may leave other bytes: for what is hashed before it is believed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        if flushed:
            os.fsync(file.fileno())
    beside.chmod(mode)
    beside.replace(path)


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a plain file; raises IntegrityError[unreadable] or [oversize].

    A link is not followed, and a file that grows is not read past ``max_bytes``.
    """
    try:
        with open_plain(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > max_bytes:
        raise IntegrityError(
            "oversize", f"{path.name} is larger than any honest one", context={"allowed": max_bytes}
        )
    return data


def unreadable(path: Path | str, error: OSError) -> IntegrityError:
    """The error for a file that cannot be read."""
    return IntegrityError(
        "unreadable",
        f"cannot read {path}: {error.strerror or error}",
        hint="the medium may be damaged, or this user may not read it",
    )


def open_plain(path: Path) -> BufferedReader:
    """The file opened for reading; a symbolic link in its last part raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not block
    return os.fdopen(os.open(path, flags), "rb")


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _walk(root: Path, below: str = "") -> Iterator[tuple[str, int, int]]:
    """Path, mode and size of everything but folders; a folder is entered only if it is real."""
    try:
        with os.scandir(root / below) as entries:
            for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
                path = f"{below}/{entry.name}" if below else entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield from _walk(root, path)
                else:
                    yield path, status.st_mode, status.st_size
    except OSError as error:
        raise unreadable(root / below, error) from error
