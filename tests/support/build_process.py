"""`perimeter-bundle build` with requirement files of a test: the program's own name packages that
an index far away has."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from perimeter_bundle.cli import build_command
from perimeter_bundle.cli.main import cli
from perimeter_bundle.collect.build import BuildRequest
from perimeter_bundle.terminal.guard import run_guarded

_REQUEST = "BuildRequest"  # what the command calls to describe its work


def build(requirements: Path, words: list[str]) -> None:
    """``perimeter-bundle build WORDS``."""
    setattr(build_command, _REQUEST, partial(BuildRequest, requirements=requirements))
    run_guarded(cli, ["build", *words])


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:])
