"""Copies runs of bytes between files and hashes them on the way, several at once.

Each run has a place of its own in its target, so the order in which they are done does not matter.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from perimeter_bundle.format.aligned import aligned_buffer, open_direct, write_some
from perimeter_bundle.format.disc import disc_error
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import unreadable
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent

BUFFER_BYTES = 2 * MIB
MAX_WORKERS = 4
_REPORT_EVERY_S = 0.25
_AHEAD = 64  # runs given to the workers; each costs memory, and time whenever they are waited for


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes to be read and hashed, and copied if there is a target."""

    source: tuple[Extent, ...]
    what: str  # names it in errors
    target: Path | None = None
    target_offset: int = 0

    @property
    def size_bytes(self) -> int:
        """How many bytes."""
        return sum(extent.size_bytes for extent in self.source)


class Progress:
    """Bytes and files done of one task, over all threads."""

    def __init__(
        self, on_event: OnEvent, task: str, total_bytes: int, total_items: int | None = None
    ) -> None:
        self._on_event, self._task = on_event, task
        self._total_bytes, self._total_items = total_bytes, total_items
        self._lock = threading.Lock()
        self._bytes = self._items = 0
        self._reported_s = 0.0
        self.stopped = threading.Event()
        self.report(EventKind.START)

    def add(self, size_bytes: int) -> None:
        """Notes bytes that are done."""
        with self._lock:
            self._bytes += size_bytes

    def add_item(self) -> None:
        """Notes that an item is done."""
        with self._lock:
            self._items += 1

    def report(self, kind: EventKind = EventKind.PROGRESS, message: str = "") -> None:
        """Tells how far it is, from the calling thread; PROGRESS at most a few times a second."""
        now_s = time.monotonic()
        if kind is EventKind.PROGRESS and now_s - self._reported_s < _REPORT_EVERY_S:
            return
        self._reported_s = now_s
        with self._lock:
            done_bytes, done_items = self._bytes, self._items
        self._on_event(
            Event(
                kind,
                self._task,
                message,
                done_bytes=done_bytes,
                total_bytes=self._total_bytes,
                done_items=None if self._total_items is None else done_items,
                total_items=self._total_items,
            )
        )


def copy_runs(
    runs: Iterable[Run],
    on_done: Callable[[Run, Digest | IntegrityError], None],
    progress: Progress,
    workers: int | None = None,
) -> None:
    """Copies and hashes every run; ``on_done`` gets its digest, or why it cannot be read.

    ``on_done`` is called from this thread. Raises HostError[no-room] or [disc-error] when a target
    cannot be written; an exception, Ctrl-C included, stops the others.
    """
    count = workers or min(MAX_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="volumes") as pool:
        futures: dict[Future[Digest | IntegrityError], Run] = {}
        try:
            waiting = iter(runs)
            while True:
                for run in islice(waiting, _AHEAD - len(futures)):
                    futures[pool.submit(_copy, run, progress)] = run
                if not futures:
                    return
                done, _ = wait(futures, _REPORT_EVERY_S, FIRST_COMPLETED)
                for future in done:
                    on_done(futures.pop(future), future.result())
                progress.report()
        except BaseException:
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


_buffers = threading.local()


def _copy(run: Run, progress: Progress) -> Digest | IntegrityError:
    hasher = hashlib.sha256()
    offset = run.target_offset
    target = _open_target(run)
    try:
        for extent in run.source:
            try:
                source = os.open(extent.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                return unreadable(extent.path, error)
            with closing(os.fdopen(source, "rb", buffering=0)):
                done = 0
                while done < extent.size_bytes and not progress.stopped.is_set():
                    view = _buffer()[: min(BUFFER_BYTES, extent.size_bytes - done)]
                    try:
                        length = os.preadv(source, [view], extent.offset + done)
                    except OSError as error:
                        return unreadable(f"{run.what} in {extent.path}", error)
                    if not length:
                        return IntegrityError(
                            "digest-mismatch", f"{run.what} ends too early in {extent.path}"
                        )
                    hasher.update(view[:length])
                    if target is not None:
                        _write(target, view[:length], offset, run.target)
                    offset += length
                    done += length
                    progress.add(length)
    finally:
        if target is not None:
            os.close(target)
    return Digest.of_hasher(hasher)


def _buffer() -> memoryview:
    view: memoryview | None = getattr(_buffers, "view", None)
    if view is None:
        view = _buffers.view = memoryview(aligned_buffer(BUFFER_BYTES))
    return view


def _open_target(run: Run) -> int | None:
    """Past the page cache where the whole target is one large run: the rest is not aligned."""
    if run.target is None:
        return None
    flags = os.O_WRONLY | os.O_CREAT
    try:
        if run.target_offset == 0 and run.size_bytes >= BUFFER_BYTES:
            return open_direct(run.target, flags)
        return os.open(run.target, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise disc_error(run.target, error) from error


def _write(descriptor: int, data: memoryview, offset: int, target: Path | None) -> None:
    try:
        while data:
            written = write_some(descriptor, data, offset)
            data, offset = data[written:], offset + written
    except OSError as error:
        raise disc_error(target or Path(), error) from error
