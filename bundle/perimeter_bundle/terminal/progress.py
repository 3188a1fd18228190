"""Shows events while long work runs: bars on a terminal, few plain lines without one.

``ProgressReporter.on_event`` may be called from any thread. A task that says nothing for a while
is shown to live by a heartbeat, so nobody takes a slow disc for a hang.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.text import human_bytes, human_duration, printable

LINE_EVERY_S = 5.0  # plain lines about tasks under way, at most this often
HEARTBEAT_TICK_S = 1.0


class ProgressMode(Enum):
    """How progress is shown."""

    BARS = "bars"
    LINES = "lines"
    JSON = "json"
    QUIET = "quiet"  # warnings only


@dataclass(frozen=True, slots=True)
class _Running:
    """A task under way: its last event, merged, and when it began."""

    event: Event
    since_s: float


class ProgressReporter:
    """Use as a context manager around the work; pass ``reporter.on_event`` down."""

    def __init__(
        self,
        console: Console,
        mode: ProgressMode,
        *,
        clock: Callable[[], float] = time.monotonic,
        heartbeat: bool = True,
    ) -> None:
        self._console = console
        self._mode = mode
        self._clock = clock
        self._heartbeat = heartbeat
        self._lock = threading.RLock()
        self._running: dict[str, _Running] = {}
        self._last_line_s = clock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._bars: Progress | None = None
        self._bar_ids: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressReporter:
        if self._mode is ProgressMode.BARS:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=5,
            )
            self._bars.start()
        elif self._mode is ProgressMode.LINES and self._heartbeat:
            self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * HEARTBEAT_TICK_S)
        if self._bars is not None:
            self._bars.stop()

    def on_event(self, event: Event) -> None:
        """Show ``event``; never raises because of what an event says."""
        with self._lock:
            self._remember(event)
            if self._mode is ProgressMode.JSON:
                self._console.file.write(json.dumps(event.to_dict(), sort_keys=True) + "\n")
                self._console.file.flush()
            elif event.kind is EventKind.WARNING:
                self._say(f"warning: {_about(event)}", style="yellow")
            elif self._mode is ProgressMode.BARS:
                self._show_bar(event)
            elif self._mode is ProgressMode.LINES:
                self._show_line(event)

    def tick(self) -> None:
        """Say what is under way when no line was written lately; the heartbeat calls this."""
        with self._lock:
            now = self._clock()
            if not self._running or now - self._last_line_s < LINE_EVERY_S:
                return
            oldest = min(self._running.values(), key=lambda running: running.since_s)
            more = f" (and {len(self._running) - 1} more)" if len(self._running) > 1 else ""
            amount = _amount(oldest.event)
            parts = [oldest.event.task, amount, human_duration(now - oldest.since_s)]
            self._say("  … " + ", ".join(part for part in parts if part) + more)

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_TICK_S):
            self.tick()

    def _remember(self, event: Event) -> None:
        if event.kind in (EventKind.START, EventKind.PROGRESS):
            before = self._running.get(event.task)
            if before is None:
                self._running[event.task] = _Running(event, self._clock())
            else:
                merged = replace(
                    event,
                    total_bytes=event.total_bytes or before.event.total_bytes,
                    total_items=event.total_items or before.event.total_items,
                    message=event.message or before.event.message,
                )
                self._running[event.task] = replace(before, event=merged)

    def _show_line(self, event: Event) -> None:
        if event.kind is EventKind.FINISH:
            running = self._running.pop(event.task, None)
            took = self._clock() - running.since_s if running else 0.0
            took_text = f" ({human_duration(took)})" if took >= 1 else ""
            self._say(f"  done {_about(event)}{_size_after(event)}{took_text}")
        elif event.kind is EventKind.SKIP:
            self._running.pop(event.task, None)
            self._say(f"  have {_about(event)}")
        elif event.kind is EventKind.NOTE:
            self._say(_about(event))
        elif event.kind is EventKind.PROGRESS:
            self.tick()

    def _show_bar(self, event: Event) -> None:
        assert self._bars is not None  # noqa: S101 - __enter__ made it
        if event.kind in (EventKind.FINISH, EventKind.SKIP):
            self._running.pop(event.task, None)
            bar = self._bar_ids.pop(event.task, None)
            if bar is not None:
                self._bars.remove_task(bar)
            word = "done" if event.kind is EventKind.FINISH else "have"
            self._say(f"  {word} {_about(event)}{_size_after(event)}")
        elif event.kind is EventKind.NOTE:
            self._say(_about(event))
        else:
            state = self._running[event.task].event
            if event.task not in self._bar_ids:
                self._bar_ids[event.task] = self._bars.add_task(
                    _short(printable(event.task)), total=None, amount=""
                )
            total = state.total_bytes if state.total_bytes is not None else state.total_items
            done = state.done_bytes if state.done_bytes is not None else state.done_items
            self._bars.update(
                self._bar_ids[event.task], total=total, completed=done or 0, amount=_amount(state)
            )

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(printable(line), style=style)
        self._last_line_s = self._clock()


def _about(event: Event) -> str:
    """Task and message, without saying the same thing twice."""
    if not event.message:
        return event.task
    names_it = event.kind in (EventKind.NOTE, EventKind.WARNING) and event.task in event.message
    return event.message if names_it else f"{event.task}: {event.message}"


def _size_after(event: Event) -> str:
    size = event.total_bytes if event.total_bytes is not None else event.done_bytes
    return f", {human_bytes(size)}" if size else ""


def _amount(event: Event) -> str:
    if event.done_bytes is not None:
        total = f" of {human_bytes(event.total_bytes)}" if event.total_bytes else ""
        return human_bytes(event.done_bytes) + total
    if event.done_items is not None:
        return f"{event.done_items}" + (f" of {event.total_items}" if event.total_items else "")
    return event.message


def _short(task: str, limit: int = 60) -> str:
    return task if len(task) <= limit else "…" + task[-(limit - 1) :]
