"""SHA-256 of many files at once, at the speed of the disc or of the hash, whichever is slower.

Several threads, the largest file first, so that none is left alone with one at the end; reading and
hashing let other threads run. Files are read through the page cache with the kernel reading ahead:
that overlaps disc and hash without a thread of its own, is as fast as a direct read or faster where
it was measured, costs the same processor time, and takes from memory what is there already. A file
is not mapped: one that is cut off while it is read would end the program.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from mmap import mmap

from perimeter_bundle.format.aligned import aligned_buffer
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import open_plain, unreadable
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events

READ_BYTES = MIB
MAX_WORKERS = 8
REPORT_EVERY_S = 0.25

Outcome = Digest | IntegrityError  # the error: [unreadable] or [changing]
TakeOutcome = Callable[[str, Outcome], None]


def hash_extents(
    extents: Sequence[Extent],
    *,
    buffer: mmap | None = None,
    on_bytes: Callable[[int], None] = lambda length: None,
    whole: bool = False,
) -> Digest:
    """SHA-256 of the bytes in ``extents``, in their order.

    ``on_bytes`` is told of each piece, and what it raises stops the reading. With ``whole`` each
    extent must be all of its file. Raises IntegrityError[unreadable], or [changing] when a file
    ends too early or, with ``whole``, has grown.
    """
    view = memoryview(aligned_buffer(READ_BYTES) if buffer is None else buffer)
    hasher = hashlib.sha256()
    for extent in extents:
        try:
            with open_plain(extent.path) as file:
                descriptor = file.fileno()
                if extent.size_bytes > len(view):
                    os.posix_fadvise(
                        descriptor, extent.offset, extent.size_bytes, os.POSIX_FADV_SEQUENTIAL
                    )
                done = 0
                while left := extent.size_bytes - done:
                    piece = view[: min(left, len(view))]
                    length = os.preadv(descriptor, [piece], extent.offset + done)
                    if not length:
                        raise _changing(extent, f"it ends {left} bytes too early")
                    hasher.update(piece[:length])
                    done += length
                    on_bytes(length)
                if whole and (size := os.fstat(descriptor).st_size) != extent.size_bytes:
                    raise _changing(extent, f"it had {extent.size_bytes} bytes and has {size}")
        except OSError as error:
            raise unreadable(extent.path, error) from error
    return Digest.of_hasher(hasher)


def hash_all(
    files: Mapping[str, Sequence[Extent]],
    take: TakeOutcome,
    *,
    whole: bool = False,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
    task: str = "sums",
) -> None:
    """Hashes every file and gives each name to ``take`` with its digest, or why there is none.

    ``take`` and ``on_event`` are called in the calling thread. What they raise, Ctrl-C included,
    stops the readers.
    """
    sizes = {name: sum(extent.size_bytes for extent in runs) for name, runs in files.items()}
    reading = _Reading(files, sorted(sizes, key=lambda name: (-sizes[name], name)), whole)
    total_bytes, done_items = sum(sizes.values()), 0

    def report(kind: EventKind) -> None:
        on_event(
            Event(
                kind,
                task,
                done_bytes=reading.done_bytes(),
                total_bytes=total_bytes,
                done_items=done_items,
                total_items=len(files),
            )
        )

    report(EventKind.START)
    count = min(workers or min(MAX_WORKERS, os.cpu_count() or 1), max(1, len(files)))
    with ThreadPoolExecutor(count, thread_name_prefix="sums") as pool:
        try:
            for _ in range(count):
                pool.submit(reading.work)
            due_s = 0.0
            while done_items < len(files):
                for name, outcome in reading.wait():
                    done_items += 1
                    if not isinstance(outcome, Digest | IntegrityError):
                        raise outcome
                    take(name, outcome)
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + REPORT_EVERY_S
                    report(EventKind.PROGRESS)
        finally:
            reading.stop()
    report(EventKind.FINISH)


class _Stopped(Exception):
    """The calling thread has left."""


class _Reading:
    """What the readers share: what is left to read, what they found, and how far they are."""

    def __init__(
        self, files: Mapping[str, Sequence[Extent]], order: Sequence[str], whole: bool
    ) -> None:
        self._files = files
        self._left = iter(order)
        self._whole = whole
        self._lock = threading.Lock()
        self._bytes = 0
        self._stopped = False
        self._outcomes: queue.SimpleQueue[tuple[str, Outcome | BaseException]] = queue.SimpleQueue()

    def work(self) -> None:
        """One reader: takes files until none is left; whatever it meets reaches the caller."""
        name: str | None = ""
        try:
            buffer = aligned_buffer(READ_BYTES)
            while (name := self._next()) is not None:
                self._outcomes.put((name, self._hash(name, buffer)))
        except BaseException as error:
            self._outcomes.put((name or "", error))

    def wait(self) -> list[tuple[str, Outcome | BaseException]]:
        """What ended meanwhile; waits a little for the first."""
        found: list[tuple[str, Outcome | BaseException]] = []
        with suppress(queue.Empty):
            found.append(self._outcomes.get(timeout=REPORT_EVERY_S))
            while True:
                found.append(self._outcomes.get_nowait())
        return found

    def stop(self) -> None:
        """Readers end within a piece."""
        self._stopped = True

    def done_bytes(self) -> int:
        """Bytes hashed so far, over all readers."""
        return self._bytes

    def _hash(self, name: str, buffer: mmap) -> Outcome:
        runs = self._files[name]
        try:
            return hash_extents(runs, buffer=buffer, on_bytes=self._count, whole=self._whole)
        except IntegrityError as error:
            return error

    def _next(self) -> str | None:
        with self._lock:
            return None if self._stopped else next(self._left, None)

    def _count(self, length: int) -> None:
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._bytes += length


def _changing(extent: Extent, what: str) -> IntegrityError:
    return IntegrityError(
        "changing",
        f"{extent.path} changes while it is read: {what}",
        hint="find out who writes there, then carry the bundle over again",
    )
