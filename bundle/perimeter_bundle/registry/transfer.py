"""One blob or file from a server to its place on disc; resumable, never wrong under its name.

What holds, and where:

 1. bytes go to ``<hex>.part`` beside the target and are hashed and counted on the way;
 2. a part file from an earlier run is hashed from its start before a byte is added to it;
 3. a server that ignores Range, or answers another range, makes the transfer start over;
 4. nothing past the expected size is read, and a shorter body is asked for again where it ended;
 5. only the expected digest gets the name of the target;
 6. a wrong digest removes the part file; when it was fetched in pieces, one fresh attempt follows;
 7. a target that is there already is hashed before it is believed, once a run.

Keeping the part file after every other mishap is what makes an interrupted run cheap. Nothing is
flushed to the disc here: after a power cut 7. finds out what did not get there, and who lists
what is there as finished flushes all of it once (docs/decisions/0010).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.registry.answer import Answer, shown_url
from perimeter_bundle.registry.part_file import (
    PartFile,
    Wanted,
    hash_stream,
    open_part,
    transfer_error,
)
from perimeter_bundle.registry.retry import MIB, Failure, FailureKind, Retrier

EVENT_EVERY_BYTES = 4 * MIB
EVENT_EVERY_S = 1.0  # a slow host must not look like one that sends nothing
_OTHER_BYTES = (
    "a proxy may be rewriting downloads, or the server changed it; try a mirror (--mirror)"
)

# Opens the source with these headers. Statuses 200, 206 and 416 come back; Failure or a final
# error is raised for others.
OpenSource = Callable[[dict[str, str]], Answer]


class Verified:
    """Paths whose bytes were hashed in this run; they need not be hashed again."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._lock = threading.Lock()

    def add(self, path: Path) -> None:
        """Remembers that ``path`` holds what its name says."""
        with self._lock:
            self._paths.add(path)

    def __contains__(self, path: Path) -> bool:
        with self._lock:
            return path in self._paths


def download(
    open_source: OpenSource,
    target: Path,
    wanted: Wanted,
    *,
    retrier: Retrier,
    on_event: OnEvent,
    verified: Verified | None = None,
) -> int:
    """Brings ``wanted`` to ``target`` and gives back its size in bytes.

    Raises NetworkError after the retries, IntegrityError for other bytes than promised,
    HostError[no-room], HostError[busy] when another process fetches the same, StoppedError.
    """
    if wanted.size_bytes is not None and wanted.size_bytes > wanted.limit_bytes:
        raise IntegrityError(
            "absurd-size",
            f"refused {wanted.task}: no honest blob is that large",
            context={"promised": f"{wanted.size_bytes} bytes", "limit": wanted.limit_bytes},
        )
    # 7. before anything is asked for
    present = already_there(target, wanted, verified, retrier.stop.check, on_event)
    if present is not None:
        on_event(transfer_event(EventKind.SKIP, wanted, present))
        return present
    target.parent.mkdir(parents=True, exist_ok=True)
    # 2.
    part = open_part(target, wanted, retrier.stop.check)
    try:
        on_event(transfer_event(EventKind.START, wanted, part.bytes_done))
        size = _fetch(open_source, part, wanted, retrier, on_event)
        # 5. the digest was right
        part.settle()
        part.path.replace(target)  # the lock goes with the descriptor, the name is free again
    except OSError as error:
        raise transfer_error(error, target, wanted, part.bytes_on_disc) from error
    finally:
        with suppress(OSError):  # what is said is what went wrong before
            part.settle()
        os.close(part.descriptor)
    if verified is not None:
        verified.add(target)
    on_event(transfer_event(EventKind.FINISH, wanted, size))
    return size


def hash_file(path: Path, digest: Digest, check: Callable[[], None] | None = None) -> Digest:
    """The digest of a file's bytes, by the algorithm of ``digest``."""
    with path.open("rb", buffering=0) as stream:
        return Digest.of_hasher(hash_stream(stream.fileno(), digest, check)[0])


def already_there(
    target: Path,
    wanted: Wanted,
    verified: Verified | None,
    check: Callable[[], None],
    on_event: OnEvent,
) -> int | None:
    """The size of a target that holds the right bytes; removes one that does not."""
    try:
        size = target.stat().st_size
        if verified is not None and target in verified:
            return size
        if hash_file(target, wanted.digest, check) == wanted.digest:
            if verified is not None:
                verified.add(target)
            return size
        target.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise transfer_error(error, target, wanted, 0) from error
    note = f"{target.name} held other bytes than its name says; it is fetched again"
    on_event(Event(EventKind.WARNING, wanted.task, note))
    return None


def _fetch(
    open_source: OpenSource, part: PartFile, wanted: Wanted, retrier: Retrier, on_event: OnEvent
) -> int:
    """Fills the part file until it holds the wanted digest; gives back its size."""
    for is_last in (False, True):
        retrier.run(
            f"fetching {wanted.task}",
            lambda: _fetch_rest(open_source, part, wanted, on_event),
            task=wanted.task,
            done_bytes=lambda: part.bytes_done,
        )
        found = part.digest()
        if found == wanted.digest:
            return part.bytes_done
        # 6.
        if part.was_resumed and not is_last:
            note = "what was fetched in several pieces is not one whole; starting over"
            on_event(Event(EventKind.WARNING, wanted.task, note))
            part.start_over(wanted.digest)
            continue
        size = part.bytes_done
        part.path.unlink(missing_ok=True)
        raise IntegrityError(
            "digest-mismatch",
            f"refused {wanted.task}",
            context={
                "expected": wanted.digest,
                "found": f"{found} after {size} bytes",
                **({"from": wanted.host} if wanted.host else {}),
            },
            hint=_OTHER_BYTES,
        )
    raise AssertionError("unreachable: the second round returns or raises")


def _fetch_rest(open_source: OpenSource, part: PartFile, wanted: Wanted, on_event: OnEvent) -> None:
    """One request for what is missing."""
    if wanted.size_bytes is not None and part.bytes_done == wanted.size_bytes:
        return
    headers = {"Range": f"bytes={part.bytes_done}-"} if part.bytes_done else {}
    with open_source(headers) as answer:
        if answer.status == 416:
            # the part is as long as the server's file or longer; without a promised size the
            # digest decides, and a wrong one starts over because the bytes are old
            if wanted.size_bytes is None and range_total(answer) == part.bytes_done:
                return
            part.start_over(wanted.digest)
            raise Failure(FailureKind.TRUNCATED, "416: the server has no such range")
        # 3.
        if answer.status == 206 and not _continues(answer, part.bytes_done):
            part.start_over(wanted.digest)
            raise Failure(FailureKind.TRUNCATED, "the server answered another range")
        if answer.status == 200 and part.bytes_done:
            part.start_over(wanted.digest)
        part.was_resumed = part.was_resumed or part.bytes_done > 0
        # 4.
        _refuse_other_size(answer, part, wanted)
        promised = answer.length_bytes
        before = part.bytes_done
        # one byte more than wanted is enough to see that too much comes
        told_s = time.monotonic()
        for size in answer.pieces(lambda: part.room(wanted.most_bytes - part.bytes_done + 1)):
            if part.bytes_done + size > wanted.most_bytes:
                _refuse_too_much(part.bytes_done + size, part, wanted, answer)
            part.took(size)  # 1.
            now_s = time.monotonic()
            is_much = part.bytes_done - part.reported_bytes >= EVENT_EVERY_BYTES
            if is_much or now_s - told_s >= EVENT_EVERY_S:
                told_s = now_s
                part.reported_bytes = part.bytes_done
                on_event(transfer_event(EventKind.PROGRESS, wanted, part.bytes_done))
        got = part.bytes_done - before
    # 4.
    if promised is not None and got < promised:
        raise Failure(FailureKind.TRUNCATED, f"{got} of {promised} promised bytes came")
    if wanted.size_bytes is not None and part.bytes_done < wanted.size_bytes:
        raise Failure(FailureKind.TRUNCATED, f"{part.bytes_done} of {wanted.size_bytes} bytes came")


def _continues(answer: Answer, position: int) -> bool:
    """Whether a 206 starts where this part file ends."""
    return answer.headers.get("Content-Range", "").strip().lower().startswith(f"bytes {position}-")


def range_total(answer: Answer) -> int | None:
    """The size of the whole that a Content-Range header states, None without one."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2].strip()
    return int(total[:18]) if total.isascii() and total.isdigit() else None


def _refuse_other_size(answer: Answer, part: PartFile, wanted: Wanted) -> None:
    """A promise of another size than the expected one is wrong before the first byte."""
    promised = answer.length_bytes
    if promised is None:
        return
    whole = part.bytes_done + promised
    if wanted.size_bytes is None:
        if whole > wanted.limit_bytes:
            _refuse_too_much(whole, part, wanted, answer)
    elif whole != wanted.size_bytes:
        is_page = answer.content_type in ("text/html", "application/xhtml+xml")
        raise IntegrityError(
            "size-mismatch",
            f"refused {wanted.task}: the server offers something else",
            context={
                "expected": f"{wanted.size_bytes} bytes",
                "found": f"{whole} bytes of {answer.content_type or 'no type'}",
                "from": shown_url(answer.url),
            },
            hint="it is a web page: a proxy may want a login" if is_page else _OTHER_BYTES,
        )


def _refuse_too_much(size: int, part: PartFile, wanted: Wanted, answer: Answer) -> None:
    part.path.unlink(missing_ok=True)
    refuse_larger(size, wanted.most_bytes, wanted.task, answer)


def refuse_larger(size: int, limit: int, task: str, answer: Answer) -> None:
    """Raises IntegrityError[size-mismatch] when ``size`` bytes are more than allowed."""
    if size <= limit:
        return
    raise IntegrityError(
        "size-mismatch",
        f"refused {task}: more came than there may be",
        context={
            "expected": f"at most {limit} bytes",
            "found": f"at least {size} bytes",
            "from": shown_url(answer.url),
        },
        hint=_OTHER_BYTES,
    )


def transfer_event(kind: EventKind, wanted: Wanted, done: int) -> Event:
    """How far ``wanted`` has come."""
    return Event(
        kind, wanted.task, done_bytes=done, total_bytes=wanted.size_bytes, host=wanted.host
    )
