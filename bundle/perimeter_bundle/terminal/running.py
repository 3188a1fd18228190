"""What is under way: tasks, how far they are and how fast; kept from events, shown elsewhere.

Some tasks speak for others. One with a name above theirs does (``node`` for ``node/n1``), and one
that counts files does for the files that are fetched meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.estimate import Estimator

SPEED_OVER_S = 15.0  # speeds are means over this long, so that they stand still enough to be read
SAMPLE_EVERY_S = 0.9
STALLED_AFTER_S = 10.0
GOES_ON_S = 5.0  # who has sent something within that goes on


@dataclass(slots=True)
class Running:
    """A task under way. ``event`` is its last one, merged with what earlier ones said."""

    event: Event
    since_s: float
    message_since_s: float
    changed_s: float
    said: str = ""  # the message of the last line about it, and when that was
    said_s: float = 0.0
    small_ones: int = 0  # files it speaks for that ended without a line of their own
    done_bytes: int | None = None
    moved_s: float = 0.0  # when a byte came last
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    estimator: Estimator = field(default_factory=Estimator)

    @property
    def task(self) -> str:
        """Its name."""
        return self.event.task

    @property
    def counts_files(self) -> bool:
        """Whether it is about many files, each of which may be a task too."""
        return self.event.total_items is not None

    def take(self, event: Event, now_s: float) -> None:
        """Takes what ``event`` says anew; what it leaves out stays as it was."""
        before = self.event
        if event.message and event.message != before.message:
            self.message_since_s = now_s
        self.changed_s = now_s
        self.event = replace(
            event,
            message=event.message or before.message,
            where=event.where if event.message else before.where,
            host=event.host or before.host,
            done_bytes=_known(event.done_bytes, before.done_bytes),
            total_bytes=_known(event.total_bytes, before.total_bytes),
            done_items=_known(event.done_items, before.done_items),
            total_items=_known(event.total_items, before.total_items),
        )

    def measure(self, done_bytes: int | None, now_s: float) -> None:
        """Notes how far it is."""
        if done_bytes is None:
            return
        if done_bytes < (self.done_bytes or 0):
            self.samples.clear()  # it started over
        if done_bytes != self.done_bytes:
            self.done_bytes, self.moved_s = done_bytes, now_s
        self.estimator.take(now_s, self.done_bytes, self.event.done_items or 0)
        if not self.samples or now_s - self.samples[-1][0] >= SAMPLE_EVERY_S:
            self.samples.append((now_s, self.done_bytes))
        while len(self.samples) > 2 and now_s - self.samples[0][0] > SPEED_OVER_S:
            self.samples.popleft()

    def bytes_per_s(self, now_s: float) -> float | None:
        """Mean speed of late; None while nothing can be said."""
        if self.done_bytes is None or not self.samples:
            return None
        began_s, began_bytes = self.samples[0]
        return (self.done_bytes - began_bytes) / (now_s - began_s) if now_s > began_s else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds until all its bytes are there; None while nothing can be said."""
        event = self.event
        if self.done_bytes is None or event.total_bytes is None:
            return None
        items = (event.done_items or 0, event.total_items or 0)
        return self.estimator.left_s(now_s, self.done_bytes, event.total_bytes, *items)

    def silent_s(self, now_s: float) -> float:
        """How long not one byte has come."""
        return now_s - self.moved_s


class Tasks:
    """The tasks under way, in the order they began."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}
        self._host_moved_s: dict[str, float] = {}  # when a byte came from a host last

    def __iter__(self) -> Iterator[Running]:
        return iter(self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    def take(self, event: Event, now_s: float) -> None:
        """A START or a PROGRESS."""
        running = self._running.get(event.task)
        self._take_host(event, running, now_s)
        if running is None:
            running = Running(event, now_s, now_s, now_s, said_s=now_s)
            self._running[event.task] = running
        elif event.kind in (EventKind.START, EventKind.PROGRESS):
            running.take(event, now_s)
        self.measure(now_s)

    def end(self, task: str) -> Running | None:
        """The task that ended, if it was under way; what is below it is gone as well."""
        for name in [name for name in self._running if name.startswith(f"{task}/")]:
            del self._running[name]
        return self._running.pop(task, None)

    def speaker_of(self, task: str, *, has_bytes: bool) -> Running | None:
        """Who speaks for a task of that name: one above it, or one that counts files."""
        above = task
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in self._running:
                return self._running[above]
        own = self._running.get(task)
        if not has_bytes or (own is not None and own.counts_files):
            return None
        return next((running for running in self if running.counts_files), None)

    def speakers(self) -> list[Running]:
        """The tasks that speak for themselves."""
        return [running for running in self if self._speaker(running) is None]

    def spoken_for(self, speaker: Running) -> list[Running]:
        """The tasks that ``speaker`` speaks for."""
        return [running for running in self if self._speaker(running) is speaker]

    def stalled(self, now_s: float) -> list[tuple[str, float]]:
        """Hosts silent for so many seconds while others go on, the longest first."""
        waiting = {running.event.host for running in self if running.event.host}
        silent = {host: now_s - self._host_moved_s[host] for host in waiting}
        late = [(host, for_s) for host, for_s in silent.items() if for_s >= STALLED_AFTER_S]
        goes_on = any(for_s < GOES_ON_S for for_s in silent.values())
        return sorted(late, key=lambda one: -one[1]) if goes_on else []

    def _take_host(self, event: Event, running: Running | None, now_s: float) -> None:
        host = event.host or (running.event.host if running else "")
        if not host:
            return
        before = running.event.done_bytes if running else None
        begins = host not in {one.event.host for one in self}
        moved = event.kind is EventKind.PROGRESS and (event.done_bytes or 0) > (before or 0)
        if begins or moved:
            self._host_moved_s[host] = now_s

    def measure(self, now_s: float) -> None:
        """Notes how far every task is, that of many files with the files under way."""
        for running in self:
            done = running.event.done_bytes
            if done is not None and running.counts_files:
                done += _sum_bytes(self.spoken_for(running))
                total = running.event.total_bytes
                done = done if total is None else min(done, total)
                # a file that just ended is not counted yet, which is no step back
                done = max(done, running.done_bytes or 0)
            running.measure(done, now_s)

    def _speaker(self, running: Running) -> Running | None:
        has_bytes = running.event.done_bytes is not None or running.event.total_bytes is not None
        return self.speaker_of(running.task, has_bytes=has_bytes)


def _sum_bytes(tasks: Iterable[Running]) -> int:
    return sum(running.event.done_bytes or 0 for running in tasks)


def _known(new: int | None, old: int | None) -> int | None:
    return old if new is None else new
