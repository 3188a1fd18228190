"""Where output goes: one stderr console for people, stdout for results alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO, TypeAlias

from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.terminal.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    AnyConsole: TypeAlias = "Console | Lines"


class Lines:
    """stderr where nobody looks on: a log, a pipe. Lines as they are."""

    @property
    def file(self) -> TextIO:
        """Where lines go."""
        return sys.stderr

    def print(self, text: str, style: str | None = None) -> None:
        """Writes ``text`` and ends the line; ``style`` is for terminals.

        Ends the program with status 1 when nobody reads any more: work that stops in the middle
        must not look done.
        """
        try:
            self.file.write(text + "\n")
            self.file.flush()
        except BrokenPipeError:
            # Python would complain again while closing it
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
            raise SystemExit(1) from None


def stderr_console() -> AnyConsole:
    """A console on stderr that never guesses at markup in what it is given."""
    if not sys.stderr.isatty() and not os.environ.get("FORCE_COLOR"):
        return Lines()
    from rich.console import Console  # takes as long as verifying many a bundle's signature

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_text(text: str) -> None:
    """``text`` on stdout as it is; for results people read."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def print_json(value: Mapping[str, object]) -> None:
    """``value`` on stdout as indented JSON with sorted keys; for results programs read."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(error: PerimeterError, console: AnyConsole) -> None:
    """``error`` on ``console``, its first line standing out on a terminal."""
    head, _, rest = printable(str(error)).partition("\n")
    console.print(head, style="bold red")
    if rest:
        console.print(rest)
