"""The part file: where bytes wait, hashed and locked, until they are all there and right.

Bytes are received into one buffer, hashed in it, and written from it, past the page cache where the
file system allows (``format.aligned``). A buffer is hashed and written whole: every call gives
Python's lock away and waits for it again, which costs more than the processor's cache saves.
Small blobs are written as usual, from small buffers: many of them come at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perimeter_bundle.format.aligned import (
    ALIGNMENT_BYTES,
    aligned_buffer,
    open_direct,
    write_some,
)
from perimeter_bundle.format.disc import disc_hint
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError
from perimeter_bundle.registry.retry import MIB

if TYPE_CHECKING:
    from hashlib import _Hash

PART_SUFFIX = ".part"
MAX_BLOB_BYTES = 512 * 1024 * MIB  # larger than any layer there is; a larger promise is a lie
BUFFER_BYTES = MIB  # one for each large transfer that runs; four times as much is no cheaper
SMALL_BUFFER_BYTES = MIB // 8  # many small ones run at once
DIRECT_FROM_BYTES = MIB  # most of what the scheduler's small places take stays below
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to arrive, and under which name it is spoken of.

    ``size_bytes`` is None when nobody promised a size (a file that is being locked);
    then ``limit_bytes`` alone bounds it.
    """

    task: str
    digest: Digest
    size_bytes: int | None
    limit_bytes: int = MAX_BLOB_BYTES
    host: str = ""  # who sends it

    @property
    def most_bytes(self) -> int:
        """More than this is refused."""
        return self.limit_bytes if self.size_bytes is None else self.size_bytes


@dataclass(slots=True)
class PartFile:
    """The open part file with the hash of everything in it.

    ``buffer`` stands for the file from ``offset`` on: up to ``written`` it is in the file, up to
    ``hashed`` in the hash, up to ``filled`` it has come.
    """

    path: Path
    descriptor: int
    hasher: _Hash
    buffer: memoryview = field(repr=False)
    bytes_done: int = 0
    was_resumed: bool = False  # so a wrong digest may come from joining pieces
    reported_bytes: int = 0
    offset: int = 0
    written: int = 0
    hashed: int = 0
    filled: int = 0

    @property
    def bytes_on_disc(self) -> int:
        """How much of it an earlier run would find."""
        return self.offset + self.written

    def room(self, most_bytes: int) -> memoryview:
        """Where the next bytes may be put, and no more than ``most_bytes`` of them."""
        return self.buffer[self.filled : self.filled + most_bytes]

    def took(self, size: int) -> None:
        """``size`` bytes were put into what ``room`` gave."""
        self.filled += size
        self.bytes_done += size
        if self.filled == len(self.buffer):
            self._hash()
            self._write(self.filled)
            self.offset += self.filled
            self.written = self.hashed = self.filled = 0

    def write(self, data: bytes) -> None:
        """Appends."""
        view = memoryview(data)
        while view:
            room = self.room(len(view))
            room[:] = view[: len(room)]
            view = view[len(room) :]
            self.took(len(room))

    def digest(self) -> Digest:
        """The digest of everything that has come."""
        self._hash()
        return Digest.of_hasher(self.hasher)

    def settle(self) -> None:
        """Everything that has come is in the file; whole blocks first, the rest as usual."""
        self._write(self.filled // ALIGNMENT_BYTES * ALIGNMENT_BYTES)
        self._write(self.filled)

    def start_over(self, digest: Digest) -> None:
        """Forgets everything in it."""
        os.ftruncate(self.descriptor, 0)
        self.hasher = digest.new_hasher()
        self.bytes_done = self.reported_bytes = 0
        self.offset = self.written = self.hashed = self.filled = 0
        self.was_resumed = False

    def take_up(self, size: int, check: Callable[[], None]) -> None:
        """Hashes the ``size`` bytes an earlier run left, and goes on after them."""
        while self.bytes_done < size:
            check()
            place = self.offset
            got = os.preadv(self.descriptor, [self.buffer], place)
            if got == 0:
                break
            self.hasher.update(self.buffer[:got])
            whole = got // ALIGNMENT_BYTES * ALIGNMENT_BYTES
            self.bytes_done, self.offset = place + got, place + whole
            self.was_resumed = True
            if got > whole:  # the end; its block is written again, whole
                self.filled = self.hashed = got - whole
                self.buffer[: self.filled] = bytes(self.buffer[whole:got])
                break

    def _hash(self) -> None:
        self.hasher.update(self.buffer[self.hashed : self.filled])
        self.hashed = self.filled

    def _write(self, end: int) -> None:
        """Puts the buffer up to ``end`` into the file; what a full disc took counts."""
        while self.written < end:
            self.written += write_some(
                self.descriptor, self.buffer[self.written : end], self.offset + self.written
            )


def part_path(target: Path, digest: Digest) -> Path:
    """Where the bytes wait until they are complete."""
    return target.with_name(digest.hex + PART_SUFFIX)


def open_part(target: Path, wanted: Wanted, check: Callable[[], None]) -> PartFile:
    """The part file beside ``target``, locked, with the hash of what an earlier run left in it.

    ``check`` is called while hashing and may raise. Raises HostError[busy], [no-room].
    """
    path = part_path(target, wanted.digest)
    is_small = wanted.size_bytes is not None and wanted.size_bytes < DIRECT_FROM_BYTES
    flags = os.O_RDWR | os.O_CREAT
    try:
        if is_small:
            descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        else:
            descriptor = open_direct(path, flags)
    except OSError as error:
        raise transfer_error(error, target, wanted, 0) from error
    try:
        size = _lock(descriptor, path)
        part = PartFile(path, descriptor, wanted.digest.new_hasher(), _buffer(wanted.size_bytes))
        if size > wanted.most_bytes:
            part.start_over(wanted.digest)
        else:
            part.take_up(size, check)
        _refuse_without_room(target, wanted, part.bytes_done)
    except BlockingIOError as error:
        os.close(descriptor)
        raise HostError(
            "busy",
            f"another process is fetching {wanted.task} into the same folder",
            context={"file": path},
            hint="let it finish, or end it",
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return part


_buffers = threading.local()


def _buffer(size_bytes: int | None) -> memoryview:
    """Memory for a blob of that size; a thread has one blob at a time and keeps one buffer."""
    is_small = size_bytes is not None and size_bytes < DIRECT_FROM_BYTES
    needed = SMALL_BUFFER_BYTES if is_small else BUFFER_BYTES
    kept: memoryview | None = getattr(_buffers, "view", None)
    if kept is None or len(kept) < needed:
        kept = _buffers.view = memoryview(aligned_buffer(needed))
    return kept


def _lock(descriptor: int, path: Path) -> int:
    """Takes the part file for this process; its size."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    status = os.fstat(descriptor)
    try:
        is_same = os.path.samestat(path.stat(), status)
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise BlockingIOError  # its owner finished between open and lock
    return status.st_size


def hash_stream(
    descriptor: int, digest: Digest, check: Callable[[], None] | None
) -> tuple[_Hash, int]:
    """Hash and size of everything in an open file, from where it stands; ``check`` may raise."""
    hasher, size = digest.new_hasher(), 0
    view = memoryview(bytearray(MIB))
    while got := os.readv(descriptor, [view]):
        if check:
            check()
        hasher.update(view[:got])
        size += got
    return hasher, size


def _refuse_without_room(target: Path, wanted: Wanted, bytes_done: int) -> None:
    missing = _missing(wanted, bytes_done)
    if missing is not None and missing > shutil.disk_usage(target.parent).free:
        raise _no_room(target.parent, wanted.task, missing, bytes_done)


def host_error(
    error: OSError, folder: Path, task: str, needed_bytes: int | None = None, kept_bytes: int = 0
) -> HostError:
    """The error to raise for what this machine refused; [no-room] says how much is needed."""
    if error.errno in _NO_ROOM:
        return _no_room(folder, task, needed_bytes, kept_bytes)
    return HostError(
        "cannot-write",
        f"cannot write {task} to {folder}",
        context={"found": error.strerror or type(error).__name__},
        hint=disc_hint(error),
    )


def transfer_error(error: OSError, target: Path, wanted: Wanted, bytes_done: int) -> HostError:
    """The same for a transfer that has ``bytes_done`` in its part file."""
    return host_error(error, target.parent, wanted.task, _missing(wanted, bytes_done), bytes_done)


def _missing(wanted: Wanted, bytes_done: int) -> int | None:
    return None if wanted.size_bytes is None else wanted.size_bytes - bytes_done


def _no_room(folder: Path, task: str, needed_bytes: int | None, kept_bytes: int) -> HostError:
    return HostError(
        "no-room",
        f"no room for {task} in {folder}",
        context={
            "needed": "unknown" if needed_bytes is None else f"{needed_bytes} bytes more",
            "free": f"{shutil.disk_usage(folder).free} bytes",
            "kept": f"{kept_bytes} bytes",
        },
        hint="make room and run the same command again: it goes on where it stopped",
    )
