"""Aligned buffers and files past the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perimeter_bundle.format.aligned import ALIGNMENT_BYTES, aligned_buffer, open_direct


def test_a_buffer_of_an_odd_size_is_refused() -> None:
    for size in (0, -ALIGNMENT_BYTES, ALIGNMENT_BYTES + 1):
        with pytest.raises(ValueError, match="multiple"):
            aligned_buffer(size)


def test_what_is_written_past_the_page_cache_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    buffer = aligned_buffer(2 * ALIGNMENT_BYTES)
    buffer[:5] = b"hello"
    descriptor = open_direct(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(descriptor, buffer) == 2 * ALIGNMENT_BYTES
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"hello" + bytes(2 * ALIGNMENT_BYTES - 5)


def test_a_file_system_in_memory_falls_back_to_the_page_cache() -> None:
    path = Path("/dev/shm") / f"perimeter-aligned-{os.getpid()}"
    descriptor = open_direct(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(descriptor, b"odd") == 3
    finally:
        os.close(descriptor)
        path.unlink()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        open_direct(tmp_path / "link", os.O_WRONLY | os.O_CREAT)
