"""The part file: where bytes wait, hashed and locked, until they are all there and right."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError
from perimeter_bundle.registry.retry import MIB

if TYPE_CHECKING:
    from hashlib import _Hash

PART_SUFFIX = ".part"
MAX_BLOB_BYTES = 512 * 1024 * MIB  # larger than any layer there is; a larger promise is a lie
_READ_BUFFER_BYTES = 1 * MIB
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


@dataclass(slots=True)
class PartFile:
    """The open part file with the hash of everything in it."""

    path: Path
    descriptor: int
    hasher: _Hash
    bytes_done: int = 0
    was_resumed: bool = False  # so a wrong digest may come from joining pieces
    reported_bytes: int = field(default=0)

    def write(self, data: bytes) -> None:
        """Appends; what the disc took before it was full counts."""
        view = memoryview(data)
        while view:
            written = os.write(self.descriptor, view)
            self.hasher.update(view[:written])
            self.bytes_done += written
            view = view[written:]

    def start_over(self, digest: Digest) -> None:
        """Forgets everything in it."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        self.hasher = digest.new_hasher()
        self.bytes_done = self.reported_bytes = 0
        self.was_resumed = False


def part_path(target: Path, digest: Digest) -> Path:
    """Where the bytes wait until they are complete."""
    return target.with_name(digest.hex + PART_SUFFIX)


def open_part(target: Path, wanted: Wanted, check: Callable[[], None]) -> PartFile:
    """The part file beside ``target``, locked, with the hash of what an earlier run left in it.

    ``check`` is called while hashing and may raise. Raises HostError[busy], [no-room].
    """
    path = part_path(target, wanted.digest)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise transfer_error(error, target, wanted, 0) from error
    try:
        _lock(descriptor, path)
        hasher, size = hash_stream(descriptor, wanted.digest, check)
        part = PartFile(path, descriptor, hasher, size, was_resumed=size > 0)
        if wanted.size_bytes is not None and size > wanted.size_bytes:
            part.start_over(wanted.digest)
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


def _lock(descriptor: int, path: Path) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(descriptor)):
        raise BlockingIOError  # its owner finished between open and lock


def hash_stream(
    descriptor: int, digest: Digest, check: Callable[[], None] | None
) -> tuple[_Hash, int]:
    """Hash and size of everything in an open file, from where it stands; ``check`` may raise."""
    hasher, size = digest.new_hasher(), 0
    buffer = bytearray(_READ_BUFFER_BYTES)
    view = memoryview(buffer)
    while got := os.readv(descriptor, [buffer]):
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
        hint="check the folder's owner, its permissions and the disc",
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


def sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
