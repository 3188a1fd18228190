"""What Ansible reports, read into errors people can use."""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.model.errors import ClusterError, HostError
from perimeter_bundle.model.events import Event
from perimeter_installer.run.playbook_events import EventReader, HostStats

LOG = Path("/state/logs/step.log")


def reader(events: list[Event] | None = None) -> EventReader:
    seen = events if events is not None else []
    return EventReader("node", seen.append, lambda line: None, lambda line: line)


def failed(host: str, result: dict[str, object], **more: object) -> dict[str, object]:
    data = {"host": host, "task": "A task", "role": "node", "res": result, **more}
    return {"event": "runner_on_failed", "event_data": data}


def test_a_message_a_loop_and_an_output_are_all_shown() -> None:
    found = reader()
    found.on_runner_event(failed("n1", {"msg": "it broke"}))
    items = [{"failed": True, "msg": "second item"}, {"msg": "fine"}]
    found.on_runner_event(failed("n2", {"msg": "One or more items failed", "results": items}))
    found.on_runner_event(failed("n3", {"msg": "non-zero return code", "stderr": "a\nno such"}))
    error = found.failure(LOG, "failed")
    assert isinstance(error, HostError)
    assert error.message == "step node failed on n1, n2, n3: node: A task"
    assert error.problems == (
        "n1: node: A task: it broke",
        "n2: node: A task: second item",
        "n3: node: A task: non-zero return code; a\nno such",
    )
    assert error.context == {"log": str(LOG)}


def test_a_result_that_was_censored_says_so() -> None:
    found = reader()
    found.on_runner_event(failed("n1", {"censored": "the output has been hidden", "stderr": "x"}))
    assert "its output holds secrets" in found.failure(LOG, "failed").problems[0]


def test_an_ignored_failure_is_none() -> None:
    found = reader()
    found.on_runner_event(failed("n1", {"msg": "never mind"}, ignore_errors=True))
    found.on_runner_event({"event": "verbose", "stdout": "ERROR! no such role"})
    error = found.failure(LOG, "failed")
    assert isinstance(error, ClusterError)
    assert error.problems == ("ERROR! no such role",)


def test_unreachable_hosts_are_told_from_failed_ones() -> None:
    found = reader()
    data = {"host": "n1", "task": "A task", "res": {"msg": "No route to host"}}
    found.on_runner_event({"event": "runner_on_unreachable", "event_data": data})
    error = found.failure(LOG, "failed")
    assert error.code == "host-unreachable"
    assert error.problems == ("n1: No route to host",)


def test_a_step_without_end_is_named() -> None:
    error = reader().failure(LOG, "timeout")
    assert error.code == "step-timeout"
    assert "came to no end" in error.message


def test_counts_are_ansibles_own() -> None:
    found = reader()
    data = {"ok": {"n1": 5, "n2": 1}, "changed": {"n1": 2}, "dark": {"n2": 1}, "failures": {}}
    found.on_runner_event({"event": "playbook_on_stats", "event_data": data})
    assert found.stats == {"n1": HostStats(ok=5, changed=2), "n2": HostStats(ok=1, unreachable=1)}


def test_progress_counts_finished_tasks_of_each_host() -> None:
    events: list[Event] = []
    found = reader(events)
    for kind in ("runner_on_start", "runner_on_ok", "runner_on_start", "runner_retry"):
        data = {"host": "n1", "task": "A task", "role": "node"}
        found.on_runner_event({"event": kind, "event_data": data})
    assert [(event.task, event.message, event.done_items) for event in events] == [
        ("node/n1", "node: A task", 0),
        ("node/n1", "node: A task", 1),
        ("node/n1", "node: A task (again)", 1),
    ]
