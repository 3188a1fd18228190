"""Many transfers at once: the largest first, small ones beside them, each blob once, one clear end.

The largest first keeps the last minute short: a small one never waits alone for a big one that
began late. Small ones have places of their own, and more of them: they wait for answers, not for
the line. With no small one left, a few of those places take middling ones, the least first. A
transfer that pauses because its host asked for it, does not answer, or failed it again, gives its
place to one for another host; its own host gets no new transfers until it goes on. After a first
mishap a transfer waits in its place: a host that fails one request in fifty is still at work. The
first final error stops new work and wakes what runs; part files stay usable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.registry.stop import Stop, StoppedError

STOP_GRACE_S = 5.0  # threads that wait for the first byte of an answer cannot be woken
SMALL_BYTES = 1024 * 1024  # up to this the way there and back takes longer than the bytes
MIDDLING_BYTES = 32 * SMALL_BYTES  # up to this it is still felt between one and the next
_POLL_S = 0.2  # the main thread must come back to Python for Ctrl-C to be seen


@dataclass(frozen=True, slots=True)
class FetchTask:
    """One transfer; two tasks with one ``key`` (a digest) are the same work.

    ``host`` is asked first for it; empty when nobody is.
    """

    key: str
    name: str
    size_bytes: int
    run: Callable[[], object]
    host: str = ""


@dataclass(slots=True)
class _Lane:
    """Places for transfers of one kind, and those that wait for them, the next one last."""

    places: int
    waiting: list[FetchTask]
    running: int = 0
    pausing: int = 0

    @property
    def is_free(self) -> bool:
        return self.running - self.pausing < self.places


@dataclass(slots=True)
class _Worker:
    """What one thread is at."""

    lane: _Lane
    task: FetchTask


@dataclass(slots=True)
class _Work:
    """What the threads share; every access holds ``lock``."""

    large: _Lane
    small: _Lane
    lock: threading.Condition = field(default_factory=threading.Condition)
    report_lock: threading.Lock = field(default_factory=threading.Lock)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: dict[int, _Worker] = field(default_factory=dict)  # by the thread's number
    quiet: dict[str, int] = field(default_factory=dict)  # transfers that pause, by host
    done_items: int = 0
    done_bytes: int = 0
    errors: list[BaseException] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.large.waiting) + len(self.small.waiting)

    @property
    def running(self) -> int:
        return self.large.running + self.small.running

    def next_for(self, lane: _Lane) -> FetchTask | None:
        """Takes the next task a free place of ``lane`` may have."""
        if not lane.is_free:
            return None
        # large places help with small ones once nothing large is left
        queues = [self.large, self.small] if lane is self.large else [self.small]
        for queue in queues:
            for number in range(len(queue.waiting) - 1, -1, -1):
                if not self.quiet.get(queue.waiting[number].host):
                    return queue.waiting.pop(number)
        # small ones help the other way too, but few of them: each holds a large buffer
        if lane is self.small and lane.running - lane.pausing < self.large.places:
            for number, task in enumerate(self.large.waiting):
                if task.size_bytes > MIDDLING_BYTES:
                    break
                if not self.quiet.get(task.host):
                    return self.large.waiting.pop(number)
        return None


def fetch_all(
    tasks: Iterable[FetchTask],
    workers: int,
    on_event: OnEvent = ignore_events,
    *,
    small_workers: int = 0,
    stop: Stop | None = None,
    task_name: str = "fetch",
) -> int:
    """Runs every task, ``workers`` at once; gives back how many there were after joining equals.

    Beside them run ``small_workers`` that take small tasks alone. ``stop`` is the flag the tasks'
    own transport watches, so that they end at once. Raises the first final error, with how much
    else failed or was left; KeyboardInterrupt passes through after the running transfers ended.
    """
    unique = join_equal(tasks)
    flag = stop or Stop()

    def waiting(*, small: bool) -> list[FetchTask]:
        found = reversed(unique)  # taken from the end
        return [t for t in found if (small_workers > 0 and t.size_bytes <= SMALL_BYTES) is small]

    work = _Work(
        _Lane(max(1, workers), waiting(small=False)), _Lane(small_workers, waiting(small=True))
    )
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

    def fill() -> None:
        """Starts a thread for each free place that has something to do."""
        with work.lock:
            for lane in (work.large, work.small):
                while not flag.requested and (task := work.next_for(lane)):
                    lane.running += 1
                    thread = threading.Thread(
                        target=labour, args=(lane, task), name=task_name, daemon=True
                    )
                    work.threads.append(thread)
                    thread.start()

    def labour(lane: _Lane, first: FetchTask) -> None:
        task: FetchTask | None = first
        while task:
            with work.lock:
                work.workers[threading.get_ident()] = _Worker(lane, task)
            error = _run(task)
            with work.lock:
                del work.workers[threading.get_ident()]
                lane.running -= 1
                if error is None:
                    work.done_items += 1
                    work.done_bytes += task.size_bytes
                elif not isinstance(error, StoppedError):
                    work.errors.append(error)
            if error is not None:
                flag.request()
                break
            report(EventKind.PROGRESS)
            with work.lock:
                task = None if flag.requested else work.next_for(lane)
                lane.running += task is not None
        fill()  # what waited for a host that goes on again has no thread yet
        with work.lock:
            work.threads.remove(threading.current_thread())
            work.lock.notify_all()

    def pauses(begins: bool) -> None:
        with work.lock:
            worker = work.workers.get(threading.get_ident())
            if worker is None:
                return
            change = 1 if begins else -1
            worker.lane.pausing += change
            host = worker.task.host
            work.quiet[host] = work.quiet.get(host, 0) + (change if host else 0)
        fill()

    report(EventKind.START)
    try:
        with flag.watching(pauses):
            fill()
            with work.lock:
                while work.threads and not flag.requested:
                    work.lock.wait(_POLL_S)
    except BaseException:
        flag.request()
        _wait_for(_threads(work))
        raise
    if flag.requested:
        _wait_for(_threads(work))
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


def _run(task: FetchTask) -> BaseException | None:
    """What the task ended with; whatever it is, the main thread must hear of it."""
    try:
        task.run()
    except BaseException as error:
        return error
    return None


def _threads(work: _Work) -> Sequence[threading.Thread]:
    with work.lock:
        return tuple(work.threads)


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    end_s = time.monotonic() + STOP_GRACE_S
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, end_s - time.monotonic()))


def _raise_first(work: _Work, flag: Stop) -> None:
    with work.lock:
        errors, left = list(work.errors), work.waiting
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
