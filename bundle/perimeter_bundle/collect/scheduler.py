"""Many transfers at once: the largest first, each blob once, one clear end.

The largest first keeps the last minute short: a small one never waits alone for a big one that
began late. The first final error stops new work and wakes what runs; part files stay usable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.registry.stop import Stop, StoppedError

STOP_GRACE_S = 5.0  # threads that wait for the first byte of an answer cannot be woken
_POLL_S = 0.2  # the main thread must come back to Python for Ctrl-C to be seen


@dataclass(frozen=True, slots=True)
class FetchTask:
    """One transfer; two tasks with one ``key`` (a digest) are the same work."""

    key: str
    name: str
    size_bytes: int
    run: Callable[[], object]


class _Work:
    """What the threads share; every access to the rest holds ``lock``."""

    def __init__(self, tasks: Sequence[FetchTask]) -> None:
        self.lock = threading.Lock()
        self.report_lock = threading.Lock()
        self.waiting = list(reversed(tasks))  # taken from the end
        self.running = 0
        self.done_items = 0
        self.done_bytes = 0
        self.errors: list[BaseException] = []


def fetch_all(
    tasks: Iterable[FetchTask],
    workers: int,
    on_event: OnEvent = ignore_events,
    *,
    stop: Stop | None = None,
    task_name: str = "fetch",
) -> int:
    """Runs every task, ``workers`` at once; gives back how many there were after joining equals.

    ``stop`` is the flag the tasks' own transport watches, so that they end at once. Raises the
    first final error, with how much else failed or was left; KeyboardInterrupt passes through
    after the running transfers ended.
    """
    unique = join_equal(tasks)
    flag = stop or Stop()
    work = _Work(unique)
    total_bytes = sum(task.size_bytes for task in unique)

    def report(kind: EventKind) -> None:
        with work.report_lock:  # one after the other, so that counts never go back
            with work.lock:
                event = Event(
                    kind,
                    task_name,
                    done_bytes=work.done_bytes,
                    total_bytes=total_bytes,
                    done_items=work.done_items,
                    total_items=len(unique),
                )
            on_event(event)

    def labour() -> None:
        while task := _take(work, flag):
            try:
                task.run()
            except StoppedError:
                _put_down(work, None)
                return
            except BaseException as error:  # whatever it is, the main thread must hear of it
                _put_down(work, error)
                flag.request()
                return
            _put_down(work, None, task)
            report(EventKind.PROGRESS)

    report(EventKind.START)
    threads = [
        threading.Thread(target=labour, name=f"{task_name}-{number}", daemon=True)
        for number in range(max(1, min(workers, len(unique))))
    ]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(_POLL_S)
            if flag.requested:
                _wait_for(threads)
                break
    except BaseException:
        flag.request()
        _wait_for(threads)
        raise
    _raise_first(work, flag)
    report(EventKind.FINISH)
    return len(unique)


def join_equal(tasks: Iterable[FetchTask]) -> tuple[FetchTask, ...]:
    """Each key once, the largest first; raises InputError when two sizes are given for one."""
    by_key: dict[str, FetchTask] = {}
    for task in tasks:
        known = by_key.setdefault(task.key, task)
        if known.size_bytes != task.size_bytes:
            raise InputError(
                "size-mismatch",
                f"{task.key} has two sizes",
                context={
                    known.name: f"{known.size_bytes} bytes",
                    task.name: f"{task.size_bytes} bytes",
                },
                hint="one of the manifests is damaged; lock the release again",
            )
    return tuple(sorted(by_key.values(), key=lambda task: (-task.size_bytes, task.name, task.key)))


def _take(work: _Work, flag: Stop) -> FetchTask | None:
    with work.lock:
        if flag.requested or not work.waiting:
            return None
        work.running += 1
        return work.waiting.pop()


def _put_down(work: _Work, error: BaseException | None, done: FetchTask | None = None) -> None:
    with work.lock:
        work.running -= 1
        if error is not None:
            work.errors.append(error)
        if done is not None:
            work.done_items += 1
            work.done_bytes += done.size_bytes


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    end_s = time.monotonic() + STOP_GRACE_S
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, end_s - time.monotonic()))


def _raise_first(work: _Work, flag: Stop) -> None:
    with work.lock:
        errors, left = list(work.errors), len(work.waiting)
        all_there = work.done_items
    if not errors:
        if flag.requested:
            raise StoppedError
        return
    first = errors[0]
    if isinstance(first, PerimeterError):
        others = [f"also failed: {str(error).splitlines()[0]}" for error in errors[1:]]
        note = f"{all_there} transfers were finished before, {left} had not begun"
        first.problems = (*first.problems, *others, note)
    raise first
