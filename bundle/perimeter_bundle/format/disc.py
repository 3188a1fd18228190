"""What a disc can say no to: no room before the first byte, no room or a fault in the middle."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perimeter_bundle.model.errors import HostError
from perimeter_bundle.terminal.text import human_bytes


def refuse_without_room(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises HostError[no-room] when the file system of ``folder`` has less than that free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise HostError(
            "no-room",
            f"there is no room for {what} in {folder}",
            context={"needed": human_bytes(needed_bytes), "free": human_bytes(free)},
            hint="make room and run the same command again, or choose another --out",
        )


@contextmanager
def disc_errors(folder: Path) -> Iterator[None]:
    """Turns what the system says about files into HostError[no-room] or [disc-error]."""
    try:
        yield
    except OSError as error:
        raise disc_error(folder, error) from error


def disc_error(path: Path, error: OSError) -> HostError:
    """The error for a file or folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError(
            "no-room",
            f"there is no room left in {error.filename or path}",
            hint="make room and run the same command again: it goes on where it stopped",
        )
    if error.errno == errno.EFBIG:
        return HostError(
            "file-too-large",
            f"the file system of {path} holds no file as large as this",
            hint="FAT32 ends at 4 GiB: --volume-size 4G",
        )
    return HostError(
        "disc-error",
        f"cannot read or write {error.filename or path}: {error.strerror or error}",
        hint="check the folder's owner, its permissions and the disc",
    )


def flush_disc(folder: Path) -> None:
    """Has everything on the file system of ``folder`` written to the disc; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
