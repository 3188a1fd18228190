"""Where output goes: one stderr console for people, stdout for results alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from rich.console import Console

from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.terminal.text import printable


def stderr_console() -> Console:
    """A console on stderr that never guesses at markup in what it is given."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_text(text: str) -> None:
    """``text`` on stdout as it is; for results people read."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def print_json(value: Mapping[str, object]) -> None:
    """``value`` on stdout as indented JSON with sorted keys; for results programs read."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(error: PerimeterError, console: Console) -> None:
    """``error`` on ``console``, its first line standing out on a terminal."""
    head, _, rest = printable(str(error)).partition("\n")
    console.print(head, style="bold red")
    if rest:
        console.print(rest)
