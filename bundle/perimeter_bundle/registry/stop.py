"""One flag that ends all transfers of a run: the first final error or Ctrl-C sets it.

A thread that waits for a slow server would see a flag only when the server speaks again; so what
blocks registers how it is woken (a socket is shut down) and is woken the moment the flag is set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class StoppedError(Exception):
    """Work ended because somebody asked for it; never shown to people."""


class Stop:
    """Set once, by any thread; never taken back."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: dict[int, Callable[[], None]] = {}
        self._next = 0
        self._watchers: list[Callable[[bool], None]] = []

    @property
    def requested(self) -> bool:
        """Whether work should end."""
        return self._event.is_set()

    def request(self) -> None:
        """Asks everything that watches this flag to end, and wakes what blocks."""
        self._event.set()
        with self._lock:
            wakers = list(self._wakers.values())
        for wake in wakers:
            with suppress(OSError, ValueError):  # the connection may be gone already
                wake()

    def check(self) -> None:
        """Raises StoppedError when work should end."""
        if self._event.is_set():
            raise StoppedError

    def wait(self, seconds: float) -> None:
        """Sleeps, but no longer than until work should end; raises StoppedError then."""
        if self._event.wait(seconds):
            raise StoppedError

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """A pause for the sake of a host; whoever watches hears of both ends."""
        watchers = list(self._watchers)
        for watch in watchers:
            watch(True)
        try:
            yield
        finally:
            for watch in watchers:
                watch(False)

    @contextmanager
    def watching(self, watch: Callable[[bool], None]) -> Iterator[None]:
        """Calls ``watch`` in each thread that pauses during the block: True, then False."""
        self._watchers.append(watch)
        try:
            yield
        finally:
            self._watchers.remove(watch)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Calls ``wake`` from another thread if the flag is set during the block."""
        with self._lock:
            self._next += 1
            number = self._next
            self._wakers[number] = wake
        try:
            self.check()
            yield
        finally:
            with self._lock:
                del self._wakers[number]
