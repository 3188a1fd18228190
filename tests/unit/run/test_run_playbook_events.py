"""What Ansible reports, read into errors people can use."""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.model.errors import ClusterError, HostError
from perimeter_bundle.model.events import Event
from perimeter_installer.run.playbook_events import EventReader, HostStats
from perimeter_installer.run.scrub import Scrubber

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


def play(found: EventReader, *reports: tuple[str, str, str]) -> None:
    for kind, host, task in reports:
        data = {"host": host, "task": task, "role": "node"}
        found.on_runner_event({"event": f"runner_{kind}", "event_data": data})


def test_progress_counts_finished_tasks_of_each_host() -> None:
    events: list[Event] = []
    steps = [("on_start", "n1", "A task"), ("on_ok", "n1", "A task")]
    play(reader(events), *steps, ("on_start", "n1", "A task"), ("retry", "n1", "A task"))
    hosts = [event for event in events if event.task == "node/n1"]
    assert [(event.message, event.done_items) for event in hosts] == [
        ("node: A task", 0),
        ("node: A task", 1),
        ("node: A task (again)", 1),
    ]


def test_the_step_says_which_task_runs_and_on_which_hosts_it_still_does() -> None:
    events: list[Event] = []
    play(
        reader(events),
        ("on_start", "n2", "Swap is off"),
        ("on_start", "n1", "Swap is off"),
        ("on_ok", "n2", "Swap is off"),
        ("on_failed", "n1", "Swap is off"),
        ("on_start", "n2", "Route is there"),
    )
    steps = [(event.message, event.where) for event in events if event.task == "node"]
    assert steps == [
        ("Swap is off", ("n2",)),
        ("Swap is off", ("n1", "n2")),
        ("Swap is off", ("n1",)),
        ("Route is there", ("n2",)),
    ]


def test_the_end_of_a_long_output_is_shown_and_the_log_has_the_rest() -> None:
    found = reader()
    stderr = "\n".join(f"line {number}" for number in range(1, 101)) + "\nthe real error\n"
    message = "Task failed: Module failed: kubeadm init ended with status 1\nand much more"
    found.on_runner_event(failed("n1", {"msg": message, "stderr": stderr, "stdout": "chatter"}))
    lines = found.failure(LOG, "failed").problems[0].splitlines()
    assert lines[0] == "n1: node: A task: (the log has 86 more lines before)"
    assert lines[1:3] == ["line 87", "line 88"]
    assert lines[-1] == "the real error"
    assert len(lines) == 16
    assert found.failure(LOG, "failed").context == {"log": str(LOG)}


def test_a_message_that_says_more_than_its_output_is_kept_to_its_end() -> None:
    found = reader()
    message = "helm ended with status 1\n" + "x" * 2000 + " timed out waiting"
    found.on_runner_event(failed("n1", {"msg": message, "stdout": "Pulled"}))
    text = found.failure(LOG, "failed").problems[0]
    assert text.startswith("n1: node: A task: helm ended with status 1\n…xxx")
    assert text.endswith("timed out waiting")
    assert len(text) < 600


def test_a_secret_at_the_cut_of_a_long_line_stays_hidden() -> None:
    found = EventReader("node", lambda _: None, lambda _: None, Scrubber(["very-secret"]))
    found.on_runner_event(failed("n1", {"stderr": "very-secret" + "x" * 495}))
    text = found.failure(LOG, "failed").problems[0]
    assert "secret" not in text and text.endswith("x" * 495)


def test_what_ansible_puts_before_every_message_is_left_out() -> None:
    found = reader()
    found.on_runner_event(failed("n1", {"msg": "Task failed: Action failed: no such file"}))
    assert found.failure(LOG, "failed").problems == ("n1: node: A task: no such file",)
