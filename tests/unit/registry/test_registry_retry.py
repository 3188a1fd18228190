"""The retry table and the loop that obeys it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.transfers import Recorder

from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.registry.retry import (
    PROGRESS_THAT_COUNTS_BYTES,
    RETRY_TABLE,
    Clock,
    Failure,
    FailureKind,
    Retrier,
    retry_after_s,
)
from perimeter_bundle.registry.stop import Stop, StoppedError


def retrier(recorder: Recorder) -> Retrier:
    return Retrier(recorder.clock(), Stop(), recorder.on_event)


def failing(kinds: list[FailureKind], calls: list[int]) -> Callable[[], str]:
    def action() -> str:
        calls.append(len(calls))
        if len(calls) <= len(kinds):
            raise Failure(kinds[len(calls) - 1], "a mishap")
        return "done"

    return action


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_of_failure_has_a_rule_and_ends_as_an_error_of_that_name(
    kind: FailureKind,
) -> None:
    recorder, calls = Recorder(), list[int]()
    with pytest.raises(NetworkError) as caught:
        retrier(recorder).run("fetching a thing", failing([kind] * 100, calls))
    assert caught.value.code == kind.value
    assert caught.value.message == f"fetching a thing failed after {len(calls)} attempts"
    assert caught.value.context == {"found": "a mishap"}
    assert caught.value.hint == RETRY_TABLE[kind].hint
    assert len(calls) == RETRY_TABLE[kind].attempts
    assert len(recorder.pauses) == len(calls) - 1
    assert max(recorder.pauses) <= RETRY_TABLE[kind].cap_s
    assert recorder.pauses == sorted(recorder.pauses)


def test_a_failure_that_passes_is_forgotten_but_told_as_a_note() -> None:
    recorder, calls = Recorder(), list[int]()
    action = failing([FailureKind.SERVER, FailureKind.TIMEOUT], calls)
    assert retrier(recorder).run("fetching", action) == "done"
    assert [event.message for event in recorder.events] == [
        "fetching: a mishap; trying again in 1.0 s",
        "fetching: a mishap; trying again in 1.0 s",
    ]


def test_kinds_that_alternate_do_not_multiply_the_attempts() -> None:
    calls: list[int] = []
    kinds = list(FailureKind) * 10
    with pytest.raises(NetworkError, match="failed after"):
        retrier(Recorder()).run("fetching", failing(kinds, calls))
    assert len(calls) <= 8


def test_waits_as_long_as_the_server_asks() -> None:
    recorder, calls = Recorder(), list[int]()

    def action() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise Failure(FailureKind.THROTTLED, "429", retry_after_s=42)
        return "done"

    assert retrier(recorder).run("fetching", action) == "done"
    assert recorder.pauses == [42]


def test_does_not_wait_an_hour_because_a_server_asks_for_it() -> None:
    recorder = Recorder()

    def action() -> str:
        raise Failure(FailureKind.THROTTLED, "429", retry_after_s=3600)

    with pytest.raises(NetworkError, match=r"failed after 1 attempt\n") as caught:
        retrier(recorder).run("fetching", action)
    hint = caught.value.hint or ""
    assert hint.startswith("the server asks to come back in 3600 s; log in (docker login)")
    assert recorder.pauses == []


def test_a_transfer_that_moves_on_is_not_given_up() -> None:
    done = 0
    calls = 0

    def action() -> str:
        nonlocal done, calls
        calls += 1
        done += PROGRESS_THAT_COUNTS_BYTES
        if calls == 50:
            return "done"
        raise Failure(FailureKind.TRUNCATED, "cut")

    assert retrier(Recorder()).run("fetching", action, done_bytes=lambda: done) == "done"


def test_a_transfer_that_crawls_is_given_up() -> None:
    done = 0

    def action() -> str:
        nonlocal done
        done += 1
        raise Failure(FailureKind.TRUNCATED, "cut")

    with pytest.raises(NetworkError, match="failed after 6 attempts"):
        retrier(Recorder()).run("fetching", action, done_bytes=lambda: done)


def test_other_errors_are_final_at_once() -> None:
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        raise NetworkError("not-found", "no such thing")

    with pytest.raises(NetworkError, match="no such thing"):
        retrier(Recorder()).run("fetching", action)
    assert calls == [1]


def test_nothing_is_tried_again_once_work_should_end() -> None:
    stop = Stop()
    subject = Retrier(Recorder().clock(), stop)

    def action() -> str:
        stop.request()
        raise Failure(FailureKind.TRUNCATED, "cut")

    with pytest.raises(StoppedError):
        subject.run("fetching", action)


def test_stop_ends_a_real_pause_at_once() -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(StoppedError):
        stop.wait(3600)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("٣", None),
    ],
)
def test_reads_retry_after_as_seconds_or_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, 1_800_000_000.0) == seconds


def test_the_user_guide_shows_the_table_as_it_is() -> None:
    text = (Path(__file__).parents[3] / "docs" / "upstream.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| ([\d.]+) s\D+(\d+) s", text, re.MULTILINE)
    shown = [(int(attempts), float(first), float(cap)) for attempts, first, cap in rows]
    assert shown == [(rule.attempts, rule.first_s, rule.cap_s) for rule in RETRY_TABLE.values()]


def test_who_watches_hears_when_a_pause_begins_and_ends() -> None:
    stop, heard = Stop(), list[str]()
    answers = iter([Failure(FailureKind.THROTTLED, "429"), None])

    def action() -> None:
        failure = next(answers)
        heard.append("asked")
        if failure:
            raise failure

    clock = Clock(sleep=lambda _stop, _seconds: heard.append("sleeps"))
    with stop.watching(lambda begins: heard.append("pauses" if begins else "goes on")):
        Retrier(clock, stop).run("fetching", action)
    assert heard == ["asked", "pauses", "sleeps", "goes on", "asked"]


@pytest.mark.parametrize(
    ("failures", "heard"),
    [
        ([Failure(FailureKind.SERVER, "503")], 0),
        ([Failure(FailureKind.TRUNCATED, "cut")], 0),
        ([Failure(FailureKind.SERVER, "503"), Failure(FailureKind.SERVER, "503")], 1),
        ([Failure(FailureKind.BROKEN, "cut"), Failure(FailureKind.TIMEOUT, "silence")], 1),
        ([Failure(FailureKind.SERVER, "503", retry_after_s=3)], 1),
        ([Failure(FailureKind.CONNECT, "refused")], 1),
    ],
    ids=["one 503", "one cut", "503 again", "another mishap", "asked to wait", "not there"],
)
def test_a_first_mishap_is_the_transfers_own_and_what_comes_again_is_the_hosts(
    failures: list[Failure], heard: int
) -> None:
    stop, pauses = Stop(), list[bool]()
    answers = iter([*failures, None])

    def action() -> None:
        failure = next(answers)
        if failure:
            raise failure

    clock = Clock(sleep=lambda _stop, _seconds: None)
    with stop.watching(pauses.append):
        Retrier(clock, stop).run("fetching", action)
    assert pauses == [True, False] * heard
