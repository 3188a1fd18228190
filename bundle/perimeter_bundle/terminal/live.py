"""Progress on a terminal: one line for each task under way, redrawn in place."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from perimeter_bundle.terminal import plain
from perimeter_bundle.terminal.running import Running, Tasks
from perimeter_bundle.terminal.text import human_duration, printable

NAME_WIDTH = 44
BAR_WIDTH = 20


class LiveView:
    """Draws tasks. Keeps its spinner, whose turning depends on when it began."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        # drawn by the reporter's thread alone: with rich's, two locks were taken in either order
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def stop(self) -> None:
        """Clears what was drawn."""
        self._live.stop()

    def draw(self, tasks: Tasks, now_s: float) -> None:
        """The tasks in the lines there are; each one's own below who speaks for them."""
        width, height = self._console.width, max(2, self._console.height - 2)
        self._live.update(self._table(tasks, now_s, width, height), refresh=True)

    def _table(self, tasks: Tasks, now_s: float, width: int, height: int) -> RenderableType:
        name_width = min(NAME_WIDTH, width // 3)
        rows: list[tuple[RenderableType, RenderableType, RenderableType]] = []
        for running in tasks.speakers():
            under = tasks.spoken_for(running)
            rows.append(
                (
                    self._spinner,
                    _name(running.task, name_width),
                    _speaker_text(running, under, now_s),
                )
            )
            rows += [
                ("", _name_below(one, running, name_width), _text_below(one, running, now_s))
                for one in under
            ]
        stalled = plain.stalls(tasks, now_s).removeprefix("; ")
        if stalled:
            rows.insert(0, ("!", "", _text(stalled, style="yellow")))
        hidden = len(rows) - height
        if hidden > 0:
            rows = [*rows[: height - 1], ("", "", _text(f"… and {hidden + 1} more"))]
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=name_width)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows:
            grid.add_row(*row)
        return grid


def _speaker_text(running: Running, under: list[Running], now_s: float) -> RenderableType:
    if running.done_bytes is None and under:
        return _text(human_duration(now_s - running.since_s))  # its hosts say the rest
    return _with_bar(running, now_s)


def _text_below(running: Running, speaker: Running, now_s: float) -> RenderableType:
    if running.done_bytes is not None:
        return _with_bar(running, now_s)
    took = human_duration(now_s - running.message_since_s)
    host = running.task.rpartition("/")[2]
    if speaker.event.where and host not in speaker.event.where:
        return _text(f"{running.event.message}: done, waits for others", style="dim")
    return _text(f"{running.event.message}, {took}")


def _with_bar(running: Running, now_s: float) -> RenderableType:
    parts = [plain.state(running), plain.pace(running, now_s)]
    text = _text(", ".join(part for part in parts if part))
    total = running.event.total_bytes
    if running.done_bytes is None or not total:
        return text
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(width=BAR_WIDTH)
    row.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    row.add_row(ProgressBar(total=total, completed=running.done_bytes, width=BAR_WIDTH), text)
    return row


def _name(task: str, width: int) -> Text:
    # the end tells images and files apart, their registries seldom do
    return _text(task if len(task) <= width else "…" + task[1 - width :])


def _name_below(running: Running, speaker: Running, width: int) -> Text:
    return _name("  " + running.task.removeprefix(f"{speaker.task}/"), width)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text).replace("\n", " "), style=style)
