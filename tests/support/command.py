"""A command in this process, as a user types it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from perimeter_bundle.cli.main import cli
from perimeter_bundle.terminal.guard import run_guarded


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended and what it printed."""

    status: int
    out: str
    err: str


def run_command(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path, program: click.Command = cli
) -> Ended:
    """``perimeter-bundle ARGUMENTS``, or those of another program."""
    with pytest.raises(SystemExit) as caught:
        run_guarded(program, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return Ended(caught.value.code, shown.out, shown.err)
