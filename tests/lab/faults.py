"""What can go wrong with a node's disk, and the programs that make it so."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
FILLER = ".perimeter-lab-filler"
Run = Callable[[list[str]], subprocess.CompletedProcess[str]]


def shut_down_filesystem(path: Path) -> None:
    """The file system forgets at once what it has not written, as at a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def fill_disc(run: Run, path: str, keep_free_bytes: int) -> int:
    """Take the room of the file system at ``path`` (the host's disk is not filled)."""
    blocks, block_bytes = run(["stat", "-f", "-c", "%a %S", path]).stdout.split()
    size = int(blocks) * int(block_bytes) - keep_free_bytes
    if size <= 0:
        return 0
    filler = f"{path.rstrip('/')}/{FILLER}"
    # the last blocks go to the file's own bookkeeping: take less, then what is left in small bits
    script = (
        'n=$2; while ! fallocate -l "$n" "$1" 2>/dev/null; do n=$((n - 1048576)); '
        '[ "$n" -gt 0 ] || exit 1; done; echo "$n"'
    )
    return int(run(["sh", "-c", script, "sh", filler, str(size)]).stdout)


def free_disc(run: Run) -> None:
    """Remove every filler of the node."""
    run(["find", "/", "-xdev", "-name", FILLER, "-delete"])
