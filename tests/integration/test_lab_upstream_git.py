"""The lab's upstream gives git repositories as a public host does: whole, shallow, by commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.lab.upstream import serve_layout

HOST = "127.0.0.1"


def git(folder: Path, *words: str) -> str:
    environment = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "HOME": str(folder),
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository with two commits, as the lab keeps one for a host."""
    work, bare = tmp_path / "work", tmp_path / "git" / HOST / "team" / "tree.git"
    work.mkdir()
    bare.parent.mkdir(parents=True)
    git(work, "init", "--quiet")
    for text in ("one", "two"):
        (work / "file").write_text(text)
        git(work, "add", "file")
        git(work, "commit", "--quiet", "--message", text)
    git(work, "clone", "--quiet", "--bare", str(work), str(bare))
    return bare


def test_a_commit_is_fetched_by_its_id_alone(repository: Path, tmp_path: Path) -> None:
    older = git(repository, "rev-parse", "HEAD~1")
    target = tmp_path / "target"
    target.mkdir()
    git(target, "init", "--quiet")
    with serve_layout(None, git=tmp_path / "git") as server:
        url = f"{server.url}/team/tree"
        git(target, "fetch", "--quiet", "--depth=1", url, older)
        listed = git(target, "ls-remote", f"{url}.git", "HEAD")
    assert git(target, "show", "FETCH_HEAD:file") == "one"
    assert listed.startswith(git(repository, "rev-parse", "HEAD"))


def test_nothing_else_is_read_or_written_through_it(repository: Path, tmp_path: Path) -> None:
    before = git(repository, "rev-parse", "HEAD")
    (tmp_path / "work" / "file").write_text("three")
    git(tmp_path / "work", "commit", "--quiet", "--all", "--message", "three")
    with serve_layout(None, git=tmp_path / "git") as server:
        for words in (
            ["push", f"{server.url}/team/tree", "HEAD:refs/heads/pushed"],
            ["ls-remote", f"{server.url}/team/../../work"],
            ["ls-remote", f"{server.url}/team/other"],
        ):
            done = subprocess.run(
                ["git", *words], cwd=tmp_path / "work", capture_output=True, text=True, timeout=60,
                env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0"},
            )  # fmt: skip
            assert done.returncode != 0, words
    assert git(repository, "rev-parse", "HEAD") == before
    assert git(repository, "branch", "--list", "pushed") == ""
