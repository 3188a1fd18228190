"""Progress as plain lines, for logs and pipes: pure functions of what is under way."""

from __future__ import annotations

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.running import Running, Tasks
from perimeter_bundle.terminal.text import human_bytes, human_duration, human_share

NEWS_EVERY_S = 2.0  # a task that has something new to say, at most this often
NEWS_AFTER_S = 0.5  # by then every host has begun the task, or it was too short to be told
LIFE_EVERY_S = 10.0  # one that has not, so that nobody takes a slow disc for a hang
CROWD = 4  # of more tasks than this, only the one that changed last speaks
SMALL_BYTES = 1024**2  # files below it get no line of their own

_ENDINGS = {EventKind.FINISH: "done", EventKind.SKIP: "have", EventKind.FAIL: "failed"}


def due_lines(tasks: Tasks, now_s: float) -> list[str]:
    """The lines to write now; notes in the tasks that they were."""
    speakers = tasks.speakers()
    if not speakers:
        return []
    if len(speakers) <= CROWD:
        due = [running for running in speakers if _is_due(running, now_s)]
        more = ""
    else:
        quiet_s = now_s - max(running.said_s for running in speakers)
        due = [max(speakers, key=lambda running: running.changed_s)]
        due = due if quiet_s >= LIFE_EVERY_S else []
        more = f" (and {len(speakers) - 1} more)"
    more += stalls(tasks, now_s)
    for running in due:
        running.said, running.said_s = running.event.message, now_s
    return [f"  {line(running, now_s)}{more}" for running in due]


def stalls(tasks: Tasks, now_s: float) -> str:
    """``; stalled: quay.io for 32 s``: who is silent while others go on; empty when nobody is."""
    named = [f"{host} for {human_duration(for_s)}" for host, for_s in tasks.stalled(now_s)]
    return f"; stalled: {', '.join(named)}" if named else ""


def line(running: Running, now_s: float) -> str:
    """One task: ``kubernetes: Node has joined (n2), 1 min 12 s``."""
    parts = [state(running), pace(running, now_s)]
    text = ", ".join(part for part in parts if part)
    return f"{running.task}{': ' if parts[0] else ', '}{text}"


def state(running: Running) -> str:
    """How far it is: bytes and files when known, else what it says and on which hosts."""
    event, done_bytes = running.event, running.done_bytes
    if done_bytes is not None:
        files = f", {event.done_items or 0} of {event.total_items} files"
        return human_share(done_bytes, event.total_bytes) + (files if event.total_items else "")
    where = f" ({', '.join(event.where)})" if event.where else ""
    return f"{event.message}{where}"


def pace(running: Running, now_s: float) -> str:
    """Speed and time left; without bytes the time since it began."""
    since = human_duration(now_s - running.since_s)
    speed = running.bytes_per_s(now_s)
    if speed is None or running.done_bytes is None:
        return since
    silent_s = running.silent_s(now_s)
    if silent_s >= LIFE_EVERY_S:
        return f"nothing for {human_duration(silent_s)}"
    if running.event.total_bytes is None or speed <= 0:
        return since
    left_s = running.left_s(now_s)
    left = "" if left_s is None else f", about {human_duration(left_s)} left"
    return f"{human_bytes(round(speed))}/s{left}"


def is_folded(event: Event, speaker: Running | None) -> bool:
    """Whether the end of this file is counted with the others instead of told."""
    size = event.total_bytes if event.total_bytes is not None else event.done_bytes
    told = event.kind not in (EventKind.FINISH, EventKind.SKIP)
    return not (told or size is None or speaker is None or size >= SMALL_BYTES)


def last_line(event: Event, running: Running | None, now_s: float) -> str:
    """What is said of a task that ended."""
    size = event.total_bytes if event.total_bytes is not None else event.done_bytes
    parts = [about(event), human_bytes(size) if size and event.kind is not EventKind.FAIL else ""]
    if event.total_items:
        parts.append(f"{event.total_items} files")
    if running and running.small_ones:
        parts.append(f"{running.small_ones} of them small and not listed")
    took_s = now_s - running.since_s if running else 0.0
    took = f" ({human_duration(took_s)})" if took_s >= 1 else ""
    return f"  {_ENDINGS[event.kind]} {', '.join(part for part in parts if part)}{took}"


def about(event: Event) -> str:
    """Task and message, without saying the same thing twice."""
    if not event.message:
        return event.task
    names_it = event.kind in (EventKind.NOTE, EventKind.WARNING) and event.task in event.message
    return event.message if names_it or not event.task else f"{event.task}: {event.message}"


def _is_due(running: Running, now_s: float) -> bool:
    quiet_s = now_s - running.said_s
    has_news = running.done_bytes is None and running.event.message != running.said
    if has_news and quiet_s >= NEWS_EVERY_S:
        return now_s - running.message_since_s >= NEWS_AFTER_S
    return quiet_s >= LIFE_EVERY_S
