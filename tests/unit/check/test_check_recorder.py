"""Every check becomes a result; waiting has a bound."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perimeter_bundle.model.errors import ClusterError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_installer.check.recorder import CheckFailed, CheckSkipped, Recorder, eventually
from perimeter_installer.report.model import Area, Outcome


def record(action: object) -> tuple[Recorder, list[Event]]:
    events: list[Event] = []
    recorder = Recorder(events.append)
    recorder.run("a/b", "Something holds", Area.CLUSTER, action)  # type: ignore[arg-type]
    return recorder, events


def test_check_that_holds_gives_its_evidence() -> None:
    recorder, events = record(lambda: ["seen"])
    result = recorder.results[0]
    assert (result.outcome, result.evidence) == (Outcome.PASSED, ("seen",))
    assert [event.kind for event in events] == [EventKind.START, EventKind.FINISH]


def test_check_that_fails_says_what_was_seen_and_what_to_do() -> None:
    def action() -> Sequence[str]:
        raise CheckFailed("n2 is not Ready", "n3 is absent", hint="look at the kubelet")

    recorder, events = record(action)
    result = recorder.results[0]
    assert (result.outcome, result.hint) == (Outcome.FAILED, "look at the kubelet")
    assert result.evidence == ("n2 is not Ready", "n3 is absent")
    assert events[-1].message == "Something holds: n2 is not Ready"


def test_check_that_does_not_apply_is_skipped() -> None:
    def action() -> Sequence[str]:
        raise CheckSkipped("there is one node only")

    recorder, events = record(action)
    assert recorder.results[0].outcome is Outcome.SKIPPED
    assert events[-1].kind is EventKind.SKIP


def test_error_of_the_cluster_is_a_result_with_its_hint() -> None:
    def action() -> Sequence[str]:
        raise ClusterError("api-silent", "no answer", context={"what": "pods"}, hint="is it up?")

    recorder, _ = record(action)
    assert recorder.results[0].evidence == ("no answer", "what: pods")
    assert recorder.results[0].hint == "is it up?"


def test_defect_in_one_check_does_not_hide_the_others() -> None:
    recorder, _ = record(lambda: {}["missing"])
    assert recorder.results[0].evidence == ("unexpected KeyError: 'missing'",)


def test_interruption_gets_out() -> None:
    def action() -> Sequence[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(action)


class Clock:
    """Time that passes only while something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(failures: int, timeout_s: float, error: Exception) -> tuple[Sequence[str], Clock]:
    clock, left = Clock(), [error] * failures

    def action() -> Sequence[str]:
        if left:
            raise left.pop()
        return ["there"]

    return eventually(action, timeout_s, sleep=clock.sleep, clock=clock), clock


def test_waiting_ends_as_soon_as_it_holds() -> None:
    evidence, clock = wait(0, 60, CheckFailed("no"))
    assert (evidence, clock.now) == (["there"], 0)


def test_evidence_says_how_long_it_took() -> None:
    evidence, _ = wait(10, 60, ClusterError("api-silent", "no"))
    assert evidence == ["there", "after 20 s"]


def test_waiting_has_a_bound() -> None:
    with pytest.raises(CheckFailed, match="no"):
        wait(1000, 60, CheckFailed("no"))


def test_check_that_does_not_apply_is_not_waited_for() -> None:
    with pytest.raises(CheckSkipped):
        wait(1, 60, CheckSkipped("never"))
