"""How large a request may be at a registry, or a proxy before it, that cuts long ones."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from perimeter_installer.load import retry


@dataclass(slots=True)
class ChunkSize:
    """What passes at one registry, learned from what did not; shared by all uploads to it.

    Blobs go whole as long as that works: fewer requests, and nothing to put together.
    """

    size_bytes: int = retry.FIRST_CHUNK_BYTES
    _refused_bytes: int = 2 * retry.LARGEST_CHUNK_BYTES  # the smallest that was
    _cuts: int = 0
    _passed: int = 0  # in a row
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def splits(self, size_bytes: int) -> bool:
        """Whether a blob of this size is better sent in parts from the start."""
        return self._cuts >= retry.CUTS_BEFORE_PARTS and size_bytes > self.size_bytes

    def passed(self, size_bytes: int) -> None:
        """A part got through; after some of them the next are twice as large."""
        with self._lock:
            if size_bytes < self.size_bytes:
                return
            self._passed += 1
            larger = min(self.size_bytes * 2, retry.LARGEST_CHUNK_BYTES)
            if self._passed >= retry.PARTS_BEFORE_GROWING and larger < self._refused_bytes:
                self._passed = 0
                self.size_bytes = larger

    def cut(self, size_bytes: int, *, refused: bool = False) -> None:
        """A request of this size did not get through; ``refused``: and never will."""
        with self._lock:
            self._passed = 0
            self._cuts += 1
            if refused:
                self._cuts += retry.CUTS_BEFORE_PARTS
                self._refused_bytes = min(self._refused_bytes, size_bytes)
            smaller = min(self.size_bytes, size_bytes // 2)
            self.size_bytes = max(smaller, retry.SMALLEST_CHUNK_BYTES)
