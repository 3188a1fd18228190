"""How large the parts of a blob become."""

from __future__ import annotations

from perimeter_installer.load import retry
from perimeter_installer.load.chunks import ChunkSize

MIB = 1 << 20


def test_blobs_go_whole_until_requests_were_cut_more_than_once() -> None:
    chunk = ChunkSize()
    assert not chunk.splits(10**12)
    chunk.cut(800 * MIB)
    assert not chunk.splits(10**12), "one cut may be an accident"
    chunk.cut(700 * MIB)
    assert chunk.splits(700 * MIB)
    assert not chunk.splits(chunk.size_bytes)


def test_a_refusal_for_size_is_believed_at_once_and_never_tried_again() -> None:
    chunk = ChunkSize()
    chunk.cut(3 * MIB, refused=True)
    assert chunk.splits(2 * MIB)
    assert chunk.size_bytes == 3 * MIB // 2
    for _ in range(100):
        chunk.passed(chunk.size_bytes)
    assert chunk.size_bytes < 3 * MIB


def test_parts_shrink_to_the_smallest_and_grow_to_the_largest() -> None:
    chunk = ChunkSize()
    for _ in range(40):
        chunk.cut(chunk.size_bytes)
    assert chunk.size_bytes == retry.SMALLEST_CHUNK_BYTES
    for _ in range(retry.PARTS_BEFORE_GROWING):
        chunk.passed(chunk.size_bytes)
    assert chunk.size_bytes == 2 * retry.SMALLEST_CHUNK_BYTES
    chunk.passed(1)  # the last part of a blob says nothing
    for _ in range(100):
        chunk.passed(chunk.size_bytes)
    assert chunk.size_bytes == retry.LARGEST_CHUNK_BYTES
