"""What both programs show, and the status they end with."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import click
import pytest

from perimeter_bundle.model.errors import ExitStatus, IntegrityError
from perimeter_bundle.terminal.guard import run_guarded
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import (
    human_bytes,
    human_duration,
    human_share,
    printable,
    text_table,
)


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


def test_control_characters_from_a_server_do_not_reach_the_terminal() -> None:
    assert printable("evil\x1b[2Jname\n") == "evil\\x1b[2Jname\n"


def test_sizes_durations_and_tables_read_well() -> None:
    assert [human_bytes(size) for size in (0, 1023, 1536, 5 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
    assert human_share(300 * 1024, 5 * 2**20) == "0.3 of 5.0 MiB"
    assert [human_share(7, 9), human_share(1024, None)] == ["7 of 9 B", "1.0 KiB"]
    assert [human_duration(s) for s in (7.9, 200, 7500)] == ["7 s", "3 min 20 s", "2 h 5 min"]
    assert (
        text_table(["a", "b"], [["long cell", "x"], ["y", ""]]) == "a          b\nlong cell  x\ny"
    )


@pytest.mark.parametrize("program", ["perimeter_bundle", "perimeter_installer"])
def test_every_command_is_found_under_its_own_name(program: str) -> None:
    group = importlib.import_module(f"{program}.cli.main").cli
    context = click.Context(group)
    for name in group.list_commands(context):
        assert group.get_command(context, name).name == name
    assert group.get_command(context, "fly") is None


def test_a_command_does_not_import_what_others_need() -> None:
    code = "import sys, perimeter_installer.cli.main, perimeter_bundle.cli.verify_command;"
    code += "print(sorted({'kubernetes', 'paramiko', 'pydantic'} & set(sys.modules)))"
    assert printed_by(code) == "[]\n"


def test_load_does_not_import_what_only_an_embedded_registry_needs() -> None:
    code = "import sys, perimeter_installer.cli.load_command;"
    code += "print(sorted({'kubernetes', 'paramiko'} & set(sys.modules)))"
    assert printed_by(code) == "[]\n"


def printed_by(code: str) -> str:
    """What a fresh Python prints that finds the same modules as this one."""
    paths = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    ).stdout
