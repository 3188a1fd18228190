"""SHA256SUMS: the one list of what a bundle holds, in the format of GNU sha256sum.

Every file of the bundle but SHA256SUMS itself and what lies in signatures/, one a line, sorted by
the bytes of its path. Names that GNU sha256sum would have to escape are refused, so that each
line reads the same to every tool.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import (
    Tree,
    list_tree,
    open_plain,
    path_problem,
    unreadable,
    write_file,
)
from perimeter_bundle.format.layout import SIGNATURES, SUMS
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.model.reader import repeated

MAX_SUMS_BYTES = 64 * MIB
READ_BYTES = MIB
MAX_WORKERS = 8
REPORT_EVERY_S = 0.25
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_SHOWN = 20  # problems of one kind that are written out; the rest is counted


@dataclass(frozen=True, slots=True)
class Sums:
    """Digest of every listed path; paths are relative, POSIX and sorted by their bytes."""

    digests: Mapping[str, Digest]

    def to_bytes(self) -> bytes:
        """The text of SHA256SUMS; the same files give the same bytes."""
        paths = sorted(self.digests, key=os.fsencode)
        return "".join(f"{self.digests[path].hex}  {path}\n" for path in paths).encode()

    @classmethod
    def parse(cls, data: bytes) -> Sums:
        """The list in ``data``; raises IntegrityError[bad-sums] with every problem."""
        if len(data) > MAX_SUMS_BYTES:
            raise _bad_sums([f"it has {len(data)} bytes; {MAX_SUMS_BYTES} are allowed"])
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _bad_sums([str(error)]) from error
        if not text.endswith("\n"):
            raise _bad_sums(["it is empty" if not text else "its last line does not end"])
        digests: dict[str, Digest] = {}
        problems: list[str] = []
        paths: list[str] = []
        for number, line in enumerate(text[:-1].split("\n"), 1):
            match = _LINE.fullmatch(line)
            if not match:
                problems.append(f"line {number}: not a SHA-256, two spaces and a path")
                continue
            path = match[2]
            problem = path_problem(path) or _unlistable(path)
            if problem:
                problems.append(f"line {number}: {path[:200]!r}: {problem}")
            paths.append(path)
            digests[path] = Digest(f"sha256:{match[1]}")
        problems += [f"{path!r} stands there twice" for path in repeated(paths)]
        encoded = [path.encode() for path in paths]
        if encoded != sorted(encoded):
            problems.append("its lines are not sorted by path")
        if problems:
            raise _bad_sums(problems)
        return cls(digests)


def check_tree(tree: Tree, sums: Sums) -> None:
    """Raises unless exactly the listed files are there.

    IntegrityError[odd-file], [missing-file] or [unlisted-file]. Files in signatures/ are not
    listed; who checks signatures checks their names.
    """
    if tree.odd:
        raise IntegrityError(
            "odd-file",
            "the bundle holds something that is not a plain file",
            problems=some(tree.odd),
            hint="a bundle holds plain files only; carry it over again, or ask its builder",
        )
    missing = sorted(set(sums.digests) - set(tree.files))
    if missing:
        raise IntegrityError(
            "missing-file",
            f"{len(missing)} of {len(sums.digests)} listed files are missing",
            problems=some(missing),
            hint="the copy is not complete; carry it over again",
        )
    extra = sorted(path for path in set(tree.files) - set(sums.digests) if not _unlistable(path))
    if extra:
        raise IntegrityError(
            "unlisted-file",
            f"{len(extra)} files are in the bundle but not in {SUMS}",
            problems=some(extra),
            hint="they were added after sealing; remove them once you know where they come from",
        )


def some(problems: Sequence[str]) -> tuple[str, ...]:
    """The first problems, and how many more there are."""
    rest = len(problems) - _SHOWN
    return (*problems[:_SHOWN], *([f"… and {rest} more"] if rest > 0 else []))


def hash_files(
    root: Path,
    sizes: Mapping[str, int],
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
    task: str = "sums",
) -> dict[str, Digest]:
    """SHA-256 of every path in ``sizes``, read in parallel; raises IntegrityError[unreadable].

    Events come from the calling thread. An exception, Ctrl-C included, stops the readers.
    """
    count = workers or min(MAX_WORKERS, os.cpu_count() or 1)
    meter = _Meter()
    total_bytes, total_items = sum(sizes.values()), len(sizes)

    def report(kind: EventKind) -> None:
        done_bytes, done_items = meter.read()
        on_event(
            Event(
                kind,
                task,
                done_bytes=done_bytes,
                total_bytes=total_bytes,
                done_items=done_items,
                total_items=total_items,
            )
        )

    report(EventKind.START)
    largest_first = sorted(sizes, key=lambda path: (-sizes[path], path))
    with ThreadPoolExecutor(count, thread_name_prefix="sums") as pool:
        futures: dict[str, Future[Digest]] = {}
        try:
            for path in largest_first:
                futures[path] = pool.submit(_hash_file, root, path, meter)
            pending = set(futures.values())
            while pending:
                done, pending = wait(pending, REPORT_EVERY_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                report(EventKind.PROGRESS)
        except BaseException:
            meter.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    report(EventKind.FINISH)
    return {path: futures[path].result() for path in sizes}


def check_hashes(
    root: Path,
    sizes: Mapping[str, int],
    sums: Sums,
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> None:
    """Raises IntegrityError[digest-mismatch] unless every listed file has its listed digest.

    The first file in the order of the list is named with both digests, the others are counted.
    """
    sizes = {path: sizes[path] for path in sums.digests}
    found = hash_files(root, sizes, on_event=on_event, workers=workers)
    wrong = [path for path, digest in sums.digests.items() if found[path] != digest]
    if wrong:
        first = wrong[0]
        rest = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise IntegrityError(
            "digest-mismatch",
            f"{first}{rest}: not the bytes that were signed",
            context={
                "expected": sums.digests[first],
                "found": found[first],
                "size_bytes": sizes[first],
            },
            hint="the copy is damaged or was changed; carry the bundle over again",
        )


def write_sums(
    root: Path,
    *,
    known: Mapping[str, Digest] | None = None,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> Digest:
    """Writes SHA256SUMS over what lies in ``root``; the digest of its bytes.

    Files in ``known`` are not read: whoever gives their digests has proven them.
    """
    tree = list_tree(root)
    if tree.odd:
        check_tree(tree, Sums({}))
    sizes = {path: size for path, size in tree.files.items() if not _unlistable(path)}
    proven = {path: digest for path, digest in (known or {}).items() if path in sizes}
    unknown = {path: size for path, size in sizes.items() if path not in proven}
    found = hash_files(root, unknown, on_event=on_event, workers=workers)
    data = Sums({**found, **proven}).to_bytes()
    write_file(root / SUMS, data)
    return Digest.of_bytes(data)


class _Meter:
    """Bytes and files done so far, over all readers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = self._files = 0
        self.stopped = threading.Event()

    def add(self, size_bytes: int, files: int = 0) -> None:
        with self._lock:
            self._bytes += size_bytes
            self._files += files

    def read(self) -> tuple[int, int]:
        with self._lock:
            return self._bytes, self._files


_buffers = threading.local()


def _hash_file(root: Path, path: str, meter: _Meter) -> Digest:
    """Digest of one file; hashlib and readinto let the other threads run."""
    buffer: bytearray | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    hasher = hashlib.sha256()
    try:
        with open_plain(root / path) as file:
            while (length := file.readinto(view)) and not meter.stopped.is_set():
                hasher.update(view[:length])
                meter.add(length)
    except OSError as error:
        raise unreadable(path, error) from error
    meter.add(0, files=1)
    return Digest(f"sha256:{hasher.hexdigest()}")


def _unlistable(path: str) -> str | None:
    """Why a path that is allowed in a bundle is not in its list; None when it is."""
    if path == SUMS:
        return "the list does not hold itself"
    if path.startswith(f"{SIGNATURES}/"):
        return "signatures are made after the list"
    return None


def _bad_sums(problems: Sequence[str]) -> IntegrityError:
    return IntegrityError("bad-sums", f"{SUMS} cannot be used", problems=some(problems))
