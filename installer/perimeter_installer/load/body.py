"""Bytes of the bundle on their way to a registry: from file to socket, without a copy of our own.

Over a plain connection the kernel moves them (sendfile); TLS encrypts out of one small buffer for
each thread, which stays in the processor's cache.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from perimeter_bundle.format.extent import Extent
from perimeter_installer.load import refusals, retry

OnSent = Callable[[int], None]  # bytes sent since the last call; negative when a try is repeated

# what reading gives when a medium fails or is pulled out; a socket gives none of them
_MEDIUM_FAILS = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO})
_buffers = threading.local()


class Cancelled(Exception):
    """Raised out of an upload after ``PushClient.cancel``."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of an open file, short enough that stopping and progress need not wait for it."""

    file: BinaryIO
    path: Path
    offset: int
    size_bytes: int

    def send_over(self, sock: socket.socket) -> None:
        """Sends it; raises IntegrityError when the file gives no such bytes, OSError as sockets."""
        with reading(self.path):
            sent = self._encrypt(sock) if isinstance(sock, ssl.SSLSocket) else self._hand_over(sock)
        if sent != self.size_bytes:
            raise refusals.other_size(self.path, self.offset + self.size_bytes, self.offset + sent)

    def _hand_over(self, sock: socket.socket) -> int:
        # not socket.sendfile: it makes a selector for each call, and asks it before each try
        sent = 0
        while sent < self.size_bytes:
            try:
                count = os.sendfile(
                    sock.fileno(), self.file.fileno(), self.offset + sent, self.size_bytes - sent
                )
            except BlockingIOError:
                _wait_for_room(sock)
                continue
            if not count:
                break
            sent += count
        return sent

    def _encrypt(self, sock: socket.socket) -> int:
        buffer = _buffer()
        sent = 0
        while sent < self.size_bytes:
            room = buffer[: self.size_bytes - sent]
            count = os.preadv(self.file.fileno(), [room], self.offset + sent)
            if not count:
                break
            sock.sendall(room[:count])
            sent += count
        return sent


class BlobBody:
    """A request body made of ``extents``; counts what was sent and stops when asked to."""

    def __init__(
        self, extents: tuple[Extent, ...], on_sent: OnSent, cancelled: threading.Event
    ) -> None:
        self._extents = extents
        self._on_sent = on_sent
        self._cancelled = cancelled
        self.is_started = False

    def __iter__(self) -> Iterator[Piece]:
        self.is_started = True
        for extent in self._extents:
            with opened(extent) as file:
                for offset in range(0, extent.size_bytes, retry.PIECE_BYTES):
                    if self._cancelled.is_set():
                        raise Cancelled
                    size = min(retry.PIECE_BYTES, extent.size_bytes - offset)
                    yield Piece(file, extent.path, extent.offset + offset, size)
                    self._on_sent(size)


def part_of(extents: tuple[Extent, ...], start: int, size_bytes: int) -> tuple[Extent, ...]:
    """Where ``size_bytes`` bytes of a blob from ``start`` on lie."""
    parts = []
    for extent in extents:
        skipped = min(start, extent.size_bytes)
        taken = min(extent.size_bytes - skipped, size_bytes)
        if taken:
            parts.append(Extent(extent.path, extent.offset + skipped, taken))
        start, size_bytes = start - skipped, size_bytes - taken
    return tuple(parts)


def read_extents(extents: tuple[Extent, ...]) -> bytes:
    """All bytes of a small blob; raises IntegrityError as ``opened``."""
    parts = []
    for extent in extents:
        with opened(extent) as file, reading(extent.path):
            parts.append(os.pread(file.fileno(), extent.size_bytes, extent.offset))
    return b"".join(parts)


def check_extents(extents: tuple[Extent, ...], size_bytes: int) -> None:
    """Raises IntegrityError unless the files are there and give ``size_bytes`` together."""
    for extent in extents:
        with opened(extent):
            pass
    found_bytes = sum(extent.size_bytes for extent in extents)
    if found_bytes != size_bytes:
        raise refusals.other_size(extents[0].path, size_bytes, found_bytes)


@contextmanager
def opened(extent: Extent) -> Iterator[BinaryIO]:
    """The extent's file; raises IntegrityError when it is gone or ends too early."""
    with reading(extent.path, every=True):
        descriptor = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        found_bytes = os.fstat(descriptor).st_size
        if found_bytes < extent.offset + extent.size_bytes:
            raise refusals.other_size(extent.path, extent.offset + extent.size_bytes, found_bytes)
        yield file


@contextmanager
def reading(path: Path, *, every: bool = False) -> Iterator[None]:
    """Names the medium as the one at fault, not the registry; ``every`` failure is its own."""
    try:
        yield
    except OSError as error:
        if every or error.errno in _MEDIUM_FAILS:
            raise refusals.unreadable(path, error) from error
        raise


def _wait_for_room(sock: socket.socket) -> None:
    timeout_s = sock.gettimeout()
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    if not waiting.poll(None if timeout_s is None else timeout_s * 1000):
        raise TimeoutError("timed out")


def _buffer() -> memoryview:
    if not hasattr(_buffers, "block"):
        _buffers.block = memoryview(bytearray(retry.TLS_BLOCK_BYTES))
    block: memoryview = _buffers.block
    return block
