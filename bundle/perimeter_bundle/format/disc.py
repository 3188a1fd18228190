"""A folder that is written to: one run at a time, room for it, and what its disc says no to."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.terminal.text import human_bytes


def refuse_no_folder(path: Path) -> None:
    """Raises InputError[out-not-ours] when something other than a folder bears that name."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError("out-not-ours", f"{path} is not a folder", hint="choose another --out")


@contextmanager
def alone_in(folder: Path, who: str = "run") -> Iterator[None]:
    """Holds the folder, made where it is not there, for this run.

    Raises HostError[busy], InputError[out-not-ours] or OSError.
    """
    refuse_no_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # the folder itself: a lock file would be one more thing in it that is not ours to leave
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                "busy", f"another {who} is at work in {folder}", hint="wait for it, or end it"
            ) from error
        yield
    finally:
        os.close(descriptor)


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
            hint="FAT32 ends at 4 GiB: pack --volume-size 4G fits it; or choose another --out",
        )
    return HostError(
        "disc-error",
        f"cannot read or write {error.filename or path}: {error.strerror or error}",
        hint=disc_hint(error),
    )


def disc_hint(error: OSError) -> str:
    """What to do about a file that cannot be read or written."""
    if error.errno == errno.EIO:
        return (
            "the disc or its cable fails (dmesg says more): take another --out, or run the same "
            "command again when it is mended; what did not reach the disc is done again"
        )
    return "check the folder's owner, its permissions and the disc"


def flush_disc(folder: Path) -> None:
    """Has everything on the file system of ``folder`` written to the disc; raises OSError.

    One call instead of one for each file: the disc gets to order its writes. syncfs(2)
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
