"""Buffers and files for O_DIRECT: bytes go past the page cache where the file system allows it.

Large bundles would push everything else out of the page cache, and copying into it is the largest
part of a transfer's CPU time. tmpfs and overlays over it refuse O_DIRECT; there files are opened
as usual. See open(2), section O_DIRECT: address, length and offset must be multiples of
ALIGNMENT_BYTES.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

ALIGNMENT_BYTES = 4096  # a multiple of every logical block there is on discs in use


def aligned_buffer(size_bytes: int) -> mmap.mmap:
    """A writable buffer that starts at a page; ``size_bytes`` is a multiple of the alignment."""
    if size_bytes <= 0 or size_bytes % ALIGNMENT_BYTES:
        raise ValueError(f"{size_bytes} is not a multiple of {ALIGNMENT_BYTES}")
    return mmap.mmap(-1, size_bytes)


def open_direct(path: Path, flags: int, mode: int = 0o644) -> int:
    """A descriptor of ``path``, past the page cache where that is possible; raises OSError.

    O_CLOEXEC and O_NOFOLLOW are added to ``flags``.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_DIRECT, mode)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags, mode)


def write_some(descriptor: int, data: memoryview, offset: int) -> int:
    """How many bytes of ``data`` were written; what is not aligned goes through the page cache.

    From then on everything does. Raises OSError.
    """
    if len(data) % ALIGNMENT_BYTES or offset % ALIGNMENT_BYTES:
        _go_through_the_cache(descriptor)
    try:
        return os.pwrite(descriptor, data, offset)
    except OSError as error:
        # some file systems take the flag and refuse the write
        if error.errno != errno.EINVAL or not _go_through_the_cache(descriptor):
            raise
    return os.pwrite(descriptor, data, offset)


def _go_through_the_cache(descriptor: int) -> bool:
    """Takes O_DIRECT from an open file; False when it had none."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not flags & os.O_DIRECT:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return True
