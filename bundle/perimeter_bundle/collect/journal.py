"""Which blobs of a build are known to be right, so that none is hashed or fetched twice.

A line is appended when a blob has its name: path, size and what the file system says of it. After
a SIGKILL the kernel still has every byte that was written, so lines of the same boot are believed.
After a power cut only those are that stand before a ``flushed`` line, which is written once the
whole file system was flushed. A disc that fails to flush leaves bytes in memory that it does not
have: what was written since is ``doubted``, and read from the disc. What is not believed is hashed
again; nothing else depends on this file. docs/decisions/0010 has the reasons.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.disc import flush_disc
from perimeter_bundle.format.layout import BLOBS
from perimeter_bundle.model.digest import Algorithm, Digest, is_digest
from perimeter_bundle.registry.transfer import Verified

_SHA256 = f"{BLOBS}/{Algorithm.SHA256.value}/"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes when somebody writes to a file or puts another one in its place."""

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        status = path.lstat()
        return cls(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def __str__(self) -> str:
        return f"{self.size} {self.inode} {self.mtime_ns} {self.ctime_ns}"


class Journal(Verified):
    """The blobs below ``root`` that were hashed and have not been touched since."""

    def __init__(self, root: Path, path: Path, boot: str | None = None) -> None:
        super().__init__()
        self._root = root
        boot = boot or _boot_id()
        data = path.read_bytes() if path.exists() else b""
        self._flushed, self._stamps = _believed(data, boot)
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        torn = "" if not data or data.endswith(b"\n") else "\n"
        self._append(f"{torn}boot {boot}")

    def add(self, path: Path) -> None:
        """Remembers that ``path`` holds what its name says."""
        stamp, name = _Stamp.of(path), path.relative_to(self._root).as_posix()
        with self._lock:
            self._stamps[name] = stamp
            with suppress(OSError):  # on a full disc: the next run hashes it, nothing else
                self._append(f"blob {name} {stamp}")

    def __contains__(self, path: Path) -> bool:
        with self._lock:
            stamp = self._stamps.get(path.relative_to(self._root).as_posix())
        return stamp is not None and _is_still(path, stamp)

    def proven(self) -> Mapping[str, Digest]:
        """Digest of each SHA-256 blob that need not be hashed, by its path in the bundle."""
        with self._lock:
            stamps = dict(self._stamps)
        return {
            name: Digest.parse(f"sha256:{name.rpartition('/')[2]}")
            for name, stamp in stamps.items()
            if name.startswith(_SHA256) and _is_still(self._root / name, stamp)
        }

    def flush(self) -> None:
        """Everything written so far is on the disc when this returns; raises OSError."""
        try:
            flush_disc(self._root)
        except OSError:
            self._doubt()
            raise
        with self._lock:
            self._flushed = dict(self._stamps)
            self._append("flushed")
            os.fsync(self._descriptor)

    def _doubt(self) -> None:
        """Forgets what was added since the last flush, and has it read from the disc again."""
        with self._lock:
            doubted = [name for name in self._stamps if name not in self._flushed]
            self._stamps = dict(self._flushed)
            with suppress(OSError):
                self._append("doubted")
        for name in doubted:
            with suppress(OSError):
                _drop_from_memory(self._root / name)

    def close(self) -> None:
        """Nothing is added any more."""
        os.close(self._descriptor)

    def _append(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


def _drop_from_memory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _believed(data: bytes, boot: str) -> tuple[dict[str, _Stamp], dict[str, _Stamp]]:
    """What a journal says is flushed, and what it proves in a system started as ``boot``."""
    flushed: dict[str, _Stamp] = {}
    since: dict[str, _Stamp] = {}  # of the boot that is being read
    reading = ""
    # what follows the last line feed was cut off
    for line in data.decode("ascii", "replace").split("\n")[:-1]:
        match line.split(" "):
            case ["boot", identifier]:
                if identifier != reading:
                    since = {}
                reading = identifier
            case ["flushed"]:
                flushed |= since
            case ["doubted"]:
                since = {}
            case ["blob", name, *numbers] if _is_blob(name) and len(numbers) == 4:
                if all(text.isascii() and text.isdigit() for text in numbers):
                    since[name] = _Stamp(*map(int, numbers))
    return flushed, flushed | since if reading == boot else dict(flushed)


def _is_blob(name: str) -> bool:
    match name.split("/"):
        case [folder, algorithm, value] if folder == BLOBS:
            return is_digest(f"{algorithm}:{value}")
    return False


def _is_still(path: Path, stamp: _Stamp) -> bool:
    try:
        return _Stamp.of(path) == stamp
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return f"unknown-{os.urandom(8).hex()}"  # equals no other: everything is hashed
