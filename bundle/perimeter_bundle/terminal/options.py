"""The options every command of both programs has, as one value."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import click

from perimeter_bundle.terminal.console import Lines, print_json, print_text, stderr_console
from perimeter_bundle.terminal.progress import ProgressMode, ProgressReporter

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Output:
    """How this run speaks: given to every command as its first argument."""

    json: bool = False
    debug: bool = False
    quiet: bool = False
    json_events: bool = False

    def reporter(self) -> ProgressReporter:
        """Progress on stderr, in the form the options and the terminal ask for."""
        console = stderr_console()
        if self.json_events:
            mode = ProgressMode.JSON
        elif self.quiet:
            mode = ProgressMode.QUIET
        else:
            can_draw = not isinstance(console, Lines) and not console.is_dumb_terminal
            mode = ProgressMode.BARS if can_draw else ProgressMode.LINES
        return ProgressReporter(console, mode)

    def result(self, value: Mapping[str, object], text: str) -> None:
        """The one result of a command on stdout: ``value`` with --json, else ``text``."""
        if self.json:
            print_json(value)
        elif text:
            print_text(text)

    def note(self, text: str) -> None:
        """One line for the operator, on stderr, unless --quiet."""
        if not self.quiet:
            stderr_console().print(f"note: {text}")

    def next_step(self, text: str) -> None:
        """What to do next, on stderr, unless --quiet."""
        if not self.quiet:
            stderr_console().print(f"next: {text}")


def common_options(command: Callable[Concatenate[Output, P], R]) -> Callable[P, R]:
    """Adds --json, --json-events, --quiet and --debug; the command receives one ``Output``."""

    @click.option("--json", "json_output", is_flag=True, help="Result as JSON on stdout.")
    @click.option("--json-events", is_flag=True, help="Progress as JSON lines on stderr.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress; warnings and errors only.")
    @click.option("--debug", is_flag=True, help="Log every step; show tracebacks.")
    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        output = Output(
            json=bool(kwargs.pop("json_output")),
            debug=bool(kwargs.pop("debug")),
            quiet=bool(kwargs.pop("quiet")),
            json_events=bool(kwargs.pop("json_events")),
        )
        set_up_logging(debug=output.debug)
        return command(output, *args, **kwargs)

    return wrapper


def set_up_logging(*, debug: bool) -> None:
    """Log records on stderr: everything of perimeter's own with ``debug``, else warnings.

    urllib3's debug lines hold query strings, and those of signed download addresses are
    credentials; so it stays at info.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("perimeter_bundle", "perimeter_installer"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.INFO if debug else logging.ERROR)
