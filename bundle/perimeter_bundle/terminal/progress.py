"""Shows events while long work runs: live lines on a terminal, few plain ones without one.

``ProgressReporter.on_event`` may be called from any thread. A task that says nothing for a while
is shown to live by a heartbeat, so nobody takes a slow disc for a hang.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, cast

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal import plain
from perimeter_bundle.terminal.running import Tasks
from perimeter_bundle.terminal.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from perimeter_bundle.terminal.console import AnyConsole
    from perimeter_bundle.terminal.live import LiveView

LINES_TICK_S = 1.0
LIVE_TICK_S = 0.2
_ENDS = frozenset({EventKind.FINISH, EventKind.SKIP, EventKind.FAIL})


class ProgressMode(Enum):
    """How progress is shown."""

    BARS = "bars"
    LINES = "lines"
    JSON = "json"
    QUIET = "quiet"  # warnings only


class ProgressReporter:
    """Use as a context manager around the work; pass ``reporter.on_event`` down."""

    def __init__(
        self,
        console: AnyConsole,
        mode: ProgressMode,
        *,
        clock: Callable[[], float] = time.monotonic,
        heartbeat: bool = True,
    ) -> None:
        self._console = console
        self._mode = mode
        self._clock = clock
        self._heartbeat = heartbeat and mode in (ProgressMode.BARS, ProgressMode.LINES)
        self._lock = threading.RLock()
        self._tasks = Tasks()
        self._live: LiveView | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ProgressReporter:
        if self._mode is ProgressMode.BARS:
            from perimeter_bundle.terminal.live import LiveView  # rich: on terminals only

            self._live = LiveView(cast("Console", self._console))
        if self._heartbeat:
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
            self._thread.join(timeout=2 * LINES_TICK_S)
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None

    def on_event(self, event: Event) -> None:
        """Show ``event``; never raises because of what an event says."""
        with self._lock:
            if self._mode is ProgressMode.JSON:
                self._console.file.write(json.dumps(event.to_dict(), sort_keys=True) + "\n")
                self._console.file.flush()
            elif event.kind is EventKind.WARNING:
                self._say(f"warning: {plain.about(event)}", style="yellow")
            elif self._mode is ProgressMode.QUIET:
                if event.kind is EventKind.FAIL and event.message:
                    self._say(f"failed {plain.about(event)}", style="yellow")
            elif event.kind is EventKind.NOTE:
                self._say(plain.about(event))
            elif event.kind in _ENDS:
                self._end(event)
            else:
                self._tasks.take(event, self._clock())
                if self._mode is ProgressMode.LINES:
                    self.tick()

    def tick(self) -> None:
        """Show how far the tasks under way are; the heartbeat calls this."""
        with self._lock:
            now_s = self._clock()
            self._tasks.measure(now_s)
            if self._mode is ProgressMode.LINES:
                for line in plain.due_lines(self._tasks, now_s):
                    self._say(line)
            else:
                self._draw()

    def _beat(self) -> None:
        every_s = LIVE_TICK_S if self._mode is ProgressMode.BARS else LINES_TICK_S
        while not self._stopped.wait(every_s):
            self.tick()

    def _end(self, event: Event) -> None:
        size = event.total_bytes if event.total_bytes is not None else event.done_bytes
        speaker = self._tasks.speaker_of(event.task, has_bytes=size is not None)
        running = self._tasks.end(event.task)
        if speaker is not None and plain.is_folded(event, speaker):
            speaker.small_ones += 1
            return
        self._draw()  # the line below would be printed above one that says the task still runs
        style = "yellow" if event.kind is EventKind.FAIL else None
        self._say(plain.last_line(event, running, self._clock()), style=style)

    def _draw(self) -> None:
        if self._live is not None:
            self._live.draw(self._tasks, self._clock())

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(printable(line), style=style)
