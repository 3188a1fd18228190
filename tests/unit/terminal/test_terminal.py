"""What both programs show, and the status they end with."""

from __future__ import annotations

import io
import json
import threading

import click
import pytest
from rich.console import Console

from perimeter_bundle.model.errors import ExitStatus, IntegrityError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.guard import run_guarded
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.progress import LINE_EVERY_S, ProgressMode, ProgressReporter
from perimeter_bundle.terminal.text import human_bytes, human_duration, printable, text_table


@click.command()
@click.option("--how", default="well")
@common_options
def sample(output: Output, how: str) -> ExitStatus | None:
    """A command that ends in every way a command can."""
    if how == "refused":
        raise IntegrityError(
            "digest-mismatch",
            "refused quay.io/a/b:1",
            context={"expected": "sha256:1", "got": "sha256:2"},
            hint="fetch from the mirror",
        )
    if how == "defect":
        raise KeyError("never-shown-raw")
    if how == "stopped":
        raise KeyboardInterrupt
    if how == "findings":
        return ExitStatus.FINDINGS
    output.result({"answer": 42}, "the answer is 42")
    return None


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        run_guarded(sample, arguments)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_result_is_text_on_stdout_and_status_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended() == 0
    assert capsys.readouterr().out == "the answer is 42\n"


def test_result_with_json_is_json_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--json") == 0
    assert json.loads(capsys.readouterr().out) == {"answer": 42}


def test_a_returned_status_becomes_the_exit_status() -> None:
    assert ended("--how", "findings") == 1


def test_a_perimeter_error_is_shown_on_stderr_with_its_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended("--how", "refused") == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "error[digest-mismatch]: refused quay.io/a/b:1\n"
        "  expected: sha256:1\n  got: sha256:2\n  hint: fetch from the mirror\n"
    )


def test_a_perimeter_error_with_json_is_an_object_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended("--json", "--how", "refused") == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["exit_status"]) == ("digest-mismatch", 4)


def test_an_unknown_option_is_an_input_error_that_names_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended("--sideways") == 2
    shown = capsys.readouterr().err
    assert "error[bad-option]: No such option" in shown
    assert "--help" in shown


def test_a_foreign_exception_is_status_70_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended("--how", "defect") == 70
    shown = capsys.readouterr().err
    assert "error[internal]: unexpected KeyError" in shown
    assert "Traceback" not in shown


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--how", "defect", "--debug") == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_status_130_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended("--how", "stopped") == 130
    assert "run the same command again to go on" in capsys.readouterr().err


def test_help_ends_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--help") == 0
    assert "--json-events" in capsys.readouterr().out


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reporter(mode: ProgressMode) -> tuple[ProgressReporter, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=200, highlight=False, markup=False)
    return ProgressReporter(console, mode, clock=clock, heartbeat=False), stream, clock


def test_plain_progress_is_throttled_and_shows_life_during_a_silent_step() -> None:
    shown, stream, clock = reporter(ProgressMode.LINES)
    with shown:
        shown.on_event(Event(EventKind.START, "quay.io/a/b:1", total_bytes=2**21))
        for _ in range(1000):
            shown.on_event(Event(EventKind.PROGRESS, "quay.io/a/b:1", done_bytes=2**20))
        assert stream.getvalue() == ""
        clock.now_s += LINE_EVERY_S + 1
        shown.tick()
        shown.tick()
    assert stream.getvalue() == "  … quay.io/a/b:1, 1.0 MiB of 2.0 MiB, 6 s\n"


def test_plain_progress_says_what_finished_and_what_was_there() -> None:
    shown, stream, clock = reporter(ProgressMode.LINES)
    with shown:
        shown.on_event(Event(EventKind.START, "a"))
        clock.now_s += 3
        shown.on_event(Event(EventKind.FINISH, "a", total_bytes=1024))
        shown.on_event(Event(EventKind.SKIP, "b", message="finished by an earlier run"))
    assert stream.getvalue() == "  done a, 1.0 KiB (3 s)\n  have b: finished by an earlier run\n"


def test_a_note_that_names_its_task_does_not_say_it_twice() -> None:
    shown, stream, _ = reporter(ProgressMode.LINES)
    with shown:
        shown.on_event(Event(EventKind.NOTE, "quay.io/a/b:1", message="asking for quay.io/a/b:1"))
        shown.on_event(Event(EventKind.NOTE, "", message="listing"))
    assert stream.getvalue() == "asking for quay.io/a/b:1\nlisting\n"


def test_json_progress_is_one_object_a_line() -> None:
    shown, stream, _ = reporter(ProgressMode.JSON)
    with shown:
        shown.on_event(Event(EventKind.START, "a", total_items=2))
        shown.on_event(Event(EventKind.FINISH, "a"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines == [
        {"kind": "start", "task": "a", "total_items": 2},
        {"kind": "finish", "task": "a"},
    ]


def test_quiet_shows_warnings_only() -> None:
    shown, stream, _ = reporter(ProgressMode.QUIET)
    with shown:
        shown.on_event(Event(EventKind.NOTE, "", message="nothing"))
        shown.on_event(Event(EventKind.WARNING, "lock", message="a tag moved"))
    assert stream.getvalue() == "warning: lock: a tag moved\n"


def test_bars_take_events_from_many_threads() -> None:
    shown, stream, _ = reporter(ProgressMode.BARS)

    def work(name: str) -> None:
        shown.on_event(Event(EventKind.START, name, total_bytes=10))
        for done in range(10):
            shown.on_event(Event(EventKind.PROGRESS, name, done_bytes=done))
        shown.on_event(Event(EventKind.FINISH, name))

    with shown:
        threads = [threading.Thread(target=work, args=(f"blob-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(f"done blob-{n}" in stream.getvalue() for n in range(8))


def test_control_characters_from_a_server_do_not_reach_the_terminal() -> None:
    assert printable("evil\x1b[2Jname\n") == "evil\\x1b[2Jname\n"


def test_sizes_durations_and_tables_read_well() -> None:
    assert [human_bytes(size) for size in (0, 1023, 1536, 5 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
    assert [human_duration(s) for s in (7.9, 200, 7500)] == ["7 s", "3 min 20 s", "2 h 5 min"]
    assert (
        text_table(["a", "b"], [["long cell", "x"], ["y", ""]]) == "a          b\nlong cell  x\ny"
    )
