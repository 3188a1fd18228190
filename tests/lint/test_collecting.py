"""What is left out of a run stays out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree like this one: both folders of tests are named in testpaths."""
    settings = '[tool.pytest.ini_options]\ntestpaths = ["tests/quick", "tests/slow"]\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    for folder in ("quick", "slow"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        test = tmp_path / "tests" / folder / f"test_{folder}.py"
        test.write_text(f"def test_{folder}():\n    pass\n")
    shutil.copy(CONFTEST, tmp_path / "tests" / "conftest.py")
    return tmp_path


def collected(folder: Path, *words: str) -> list[str]:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*argv, *words], cwd=folder, capture_output=True, text=True, check=False)
    return [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]


def test_a_folder_of_testpaths_is_left_out_when_it_is_to_be_ignored(tree: Path) -> None:
    assert collected(tree) == ["test_quick", "test_slow"]
    assert collected(tree, "--ignore=tests/slow") == ["test_quick"]
    assert collected(tree, f"--ignore={tree}/tests/slow") == ["test_quick"]
    assert collected(tree / "tests", "--ignore=slow", "quick", "slow") == ["test_quick"]


def test_a_file_that_is_asked_for_is_taken_all_the_same(tree: Path) -> None:
    assert collected(tree, "--ignore=tests/slow", "tests/slow/test_slow.py") == ["test_slow"]


def test_a_folder_whose_name_begins_alike_is_not_left_out(tree: Path) -> None:
    assert collected(tree, "--ignore=tests/slo") == ["test_quick", "test_slow"]
