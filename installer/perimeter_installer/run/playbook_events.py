"""What ansible-runner reports, read into events, statistics and one clear error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import ClusterError, HostError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent

LAST_LINES = 15  # of a task's output: what went wrong stands at its end
LINE_LENGTH = 500
_TASK_ENDS = frozenset(
    {"runner_on_ok", "runner_on_skipped", "runner_on_failed", "runner_on_unreachable"}
)
# what Ansible 2.19 puts before each message and tells nobody anything
_NOISE = re.compile(r"^((Task|Action|Module) failed: )+")


@dataclass(frozen=True, slots=True)
class HostStats:
    """Ansible's own counts of tasks for one host."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {
            "ok": self.ok,
            "changed": self.changed,
            "failed": self.failed,
            "unreachable": self.unreachable,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """A task that failed on a host."""

    host: str
    task: str
    message: str
    unreachable: bool


class EventReader:
    """Takes ansible-runner's events as they come; remembers what an error has to say."""

    def __init__(
        self,
        step: str,
        on_event: OnEvent,
        write_log: Callable[[str], None],
        scrub: Callable[[str], str],
    ) -> None:
        self.stats: dict[str, HostStats] = {}
        self._step = step
        self._on_event = on_event
        self._write_log = write_log
        self._scrub = scrub
        self._failures: dict[str, TaskFailure] = {}
        self._tasks_done: dict[str, int] = {}
        self._at_work: dict[str, str] = {}  # host to task, in the order they began
        self._last_lines: list[str] = []

    def on_runner_event(self, event: Mapping[str, object]) -> bool:
        """ansible-runner's event handler; False keeps it from writing the event to a file."""
        text = str(event.get("stdout") or "")
        if text:
            self._write_log(text)
            self._last_lines = [*self._last_lines, *text.splitlines()][-LAST_LINES:]
        data = event.get("event_data")
        if isinstance(data, dict):
            self._read(str(event.get("event")), data)
        return False

    def failure(self, log: Path, status: str) -> PerimeterError:
        """The error for a playbook that did not end well."""
        if status == "timeout":
            return HostError(
                "step-timeout",
                f"step {self._step} came to no end and was stopped",
                context={"log": log},
                hint="the last lines of the log say where; then apply again: it goes on there",
            )
        failures = list(self._failures.values())
        if not failures:
            return ClusterError(
                "step-failed",
                f"step {self._step} could not run",
                problems=[self._scrub(line) for line in self._last_lines],
                context={"log": log},
                hint="the log has the whole output",
            )
        first = failures[0]
        where = ", ".join(failure.host for failure in failures)
        context = {"log": log}
        hint = "mend it and run the same command again: it goes on at this step"
        if all(failure.unreachable for failure in failures):
            return HostError(
                "host-unreachable",
                f"step {self._step}: {where} did not answer",
                problems=[f"{one.host}: {one.message}" for one in failures],
                context=context,
                hint=hint,
            )
        kind = ClusterError if first.host == "localhost" else HostError
        return kind(
            "step-failed",
            f"step {self._step} failed on {where}: {first.task}",
            problems=[f"{one.host}: {one.task}: {one.message}" for one in failures],
            context=context,
            hint=hint,
        )

    def _read(self, kind: str, data: Mapping[str, object]) -> None:
        host, task = str(data.get("host") or ""), _task_name(data)
        if kind == "runner_on_start" and host:
            self._begins(host, task)
        elif kind == "runner_retry" and host:
            self._begins(host, f"{task} (again)")
        elif kind in _TASK_ENDS and host:
            self._ends(host)
        elif kind == "playbook_on_stats":
            self.stats = _read_stats(data)
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            self._failed(host, task, data, unreachable=False)
        elif kind == "runner_on_unreachable":
            self._failed(host, task, data, unreachable=True)

    def _begins(self, host: str, task: str) -> None:
        task = self._scrub(task)
        self._at_work.pop(host, None)
        self._at_work[host] = task
        self._on_event(
            Event(
                EventKind.PROGRESS,
                f"{self._step}/{host}",
                task,
                done_items=self._tasks_done.get(host, 0),
            )
        )
        self._say_where()

    def _ends(self, host: str) -> None:
        self._tasks_done[host] = self._tasks_done.get(host, 0) + 1
        if self._at_work.pop(host, None) and self._at_work:
            self._say_where()

    def _say_where(self) -> None:
        """The task that began last and still runs, and the hosts it runs on."""
        task = next(reversed(self._at_work.values()))
        where = sorted(host for host, at in self._at_work.items() if at == task)
        said = task.removeprefix(f"{self._step}: ")  # the role of the step goes without saying
        self._on_event(Event(EventKind.PROGRESS, self._step, said, where=tuple(where)))

    def _failed(
        self, host: str, task: str, data: Mapping[str, object], *, unreachable: bool
    ) -> None:
        result = data.get("res")
        message = _message(result) if isinstance(result, dict) else ""
        text = _last_lines(self._scrub(message)) or "no message"
        self._failures[host] = TaskFailure(host, self._scrub(task), text, unreachable)


def _task_name(data: Mapping[str, object]) -> str:
    role, task = str(data.get("role") or ""), str(data.get("task") or "")
    return f"{role}: {task}" if role and not task.startswith(role) else task


def _message(result: Mapping[str, object]) -> str:
    """What a failed task says, and its loop's items that failed."""
    parts = [_said_by(result)]
    items = result.get("results")
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict) and (item.get("failed") or item.get("unreachable")):
                parts.append(_said_by(item))
    return "; ".join(dict.fromkeys(part for part in parts if part))


def _said_by(result: Mapping[str, object]) -> str:
    """Message and output; the output last, for its end is what an error keeps."""
    if "censored" in result:
        return "its output holds secrets and is not shown"
    found = result.get("msg") or ""
    message = "; ".join(map(str, found)) if isinstance(found, list) else str(found)
    message = _NOISE.sub("", message.strip())
    if message in ("All items completed", "One or more items failed"):
        message = ""
    for name in ("stderr", "module_stderr", "stdout"):
        output = str(result.get(name) or "").strip()
        if output and (output in message or (name == "stdout" and "\n" in message)):
            return message  # it says more than its output does
        if output:
            return f"{message.partition(chr(10))[0]}; {output}" if message else output
    return message


def _last_lines(text: str) -> str:
    """The end of ``text``, and what was left out before it."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    left_out = len(lines) - LAST_LINES
    kept = [_line_end(line) for line in lines[-LAST_LINES:]]
    if left_out > 0:
        kept.insert(0, f"(the log has {left_out} more line{'' if left_out == 1 else 's'} before)")
    return "\n".join(kept)


def _line_end(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else "…" + line[-LINE_LENGTH:]


def _read_stats(data: Mapping[str, object]) -> dict[str, HostStats]:
    def counts(key: str) -> dict[str, int]:
        table = data.get(key)
        return dict(table) if isinstance(table, dict) else {}

    ok, changed = counts("ok"), counts("changed")
    failed, unreachable, skipped = counts("failures"), counts("dark"), counts("skipped")
    return {
        host: HostStats(
            ok=ok.get(host, 0),
            changed=changed.get(host, 0),
            failed=failed.get(host, 0),
            unreachable=unreachable.get(host, 0),
            skipped=skipped.get(host, 0),
        )
        for host in sorted({*ok, *changed, *failed, *unreachable, *skipped})
    }
