"""Programs are started in one place: clean, bounded, and gone afterwards."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import HostError
from perimeter_bundle.tools.run import Completed, clean_environment, run_tool


def run(folder: Path, script: str, *, timeout_s: float = 20.0) -> Completed:
    return run_tool(
        [sys.executable, "-c", script],
        folder=folder,
        environment=clean_environment(folder),
        timeout_s=timeout_s,
        what="try it",
        hint="look closer",
    )


def test_nothing_of_the_user_reaches_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    done = run(tmp_path, "import os, sys; print(sorted(os.environ), sys.stdin.read(), os.getcwd())")
    assert b"SECRET" not in done.stdout
    assert str(tmp_path).encode() in done.stdout
    assert clean_environment(tmp_path)["LANG"] == "C.UTF-8"


def test_a_program_that_fails_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        run(tmp_path, "import sys; sys.stderr.write('line one\\nno such thing\\n'); sys.exit(3)")
    assert caught.value.code == "tool-failed"
    assert "try it" in caught.value.message
    assert "status 3" in caught.value.message
    assert caught.value.problems == ("line one", "no such thing")
    assert caught.value.hint == "look closer"


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        run_tool(
            ["/nowhere/tool"],
            folder=tmp_path,
            environment=clean_environment(tmp_path),
            timeout_s=1,
            what="try it",
        )
    assert caught.value.code == "tool-missing"


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    with pytest.raises(HostError) as caught:
        run(tmp_path, script, timeout_s=3.0)
    assert caught.value.code == "tool-timeout"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _lives(child):
            break
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
