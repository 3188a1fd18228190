"""The one place where either program exits: every error becomes a message and a status."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from perimeter_bundle.model.errors import ExitStatus, InputError, PerimeterError
from perimeter_bundle.terminal.console import print_error, print_json, stderr_console


class InternalError(PerimeterError):
    """A defect in perimeter: an exception nobody expected."""

    exit_status = ExitStatus.INTERNAL


def run_guarded(command: click.Command, argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``command`` on ``argv`` (default: the process's) and exit.

    A command returns nothing (0) or an ExitStatus. --json and --debug are looked for in the
    arguments themselves, so that an error while parsing them is shown in the right form too.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    sys.exit(int(_run(command, arguments, json="--json" in options, debug="--debug" in options)))


def _run(command: click.Command, arguments: list[str], *, json: bool, debug: bool) -> int:
    # a service manager's stop is an interruption like any other: leave the journal in order
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = command.main(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        stderr_console().print("\ninterrupted; run the same command again to go on")
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # the reader of stdout left, as `head` does; Python would complain again while closing it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _show(_from_click(error), json=json)
    except PerimeterError as error:
        if debug:
            traceback.print_exc()
        return _show(error, json=json)
    except Exception as error:  # the rim: whatever it is, the user gets a message and a status
        if debug:
            traceback.print_exc()
        return _show(_from_unexpected(error), json=json)
    return int(status) if isinstance(status, int) else ExitStatus.OK


def _show(error: PerimeterError, *, json: bool) -> int:
    if json:
        print_json({"error": error.to_dict()})
    else:
        print_error(error, stderr_console())
    return error.exit_status


def _from_click(error: click.ClickException) -> PerimeterError:
    usage = getattr(error, "ctx", None)
    hint = f"{usage.command_path} --help shows the options" if usage else None
    return InputError("bad-option", error.format_message(), hint=hint)


def _from_unexpected(error: Exception) -> PerimeterError:
    return InternalError(
        "internal",
        f"unexpected {type(error).__name__}: {str(error)[:500]}",
        hint="this is a defect in perimeter; run again with --debug and report what it prints",
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
