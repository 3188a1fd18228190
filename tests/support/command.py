"""A command of perimeter-bundle in this process, as a user types it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from perimeter_bundle.cli.main import cli
from perimeter_bundle.terminal.guard import run_guarded


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended and what it printed."""

    status: int
    out: str
    err: str


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    """``perimeter-bundle ARGUMENTS``."""
    with pytest.raises(SystemExit) as caught:
        run_guarded(cli, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return Ended(caught.value.code, shown.out, shown.err)
