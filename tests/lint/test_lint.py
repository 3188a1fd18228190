"""Linters and types, in the same command as the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CODE = ["bundle", "installer", "playbooks", "tests", "benchmarks"]


def run(*argv: str, **environment: str) -> None:
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environment,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(argv)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", *CODE)


def test_code_is_formatted() -> None:
    run("ruff", "format", "--check", *CODE)


def test_types_hold_in_both_programs() -> None:
    run("mypy")


def test_types_hold_in_the_lab() -> None:
    run("mypy", "-p", "tests.lab", MYPYPATH="bundle:installer")


def test_types_hold_in_the_benchmarks() -> None:
    run("mypy", "-p", "benchmarks", MYPYPATH="bundle:installer")


def test_imports_point_where_they_may() -> None:
    run("lint-imports", PYTHONPATH="bundle:installer")
