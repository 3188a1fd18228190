"""What must stay in memory, and what must not leave it."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import HostError
from perimeter_installer.run.private import (
    PREFIX,
    end_processes_of,
    private_folder,
    remove_leftovers,
    write_private,
)
from perimeter_installer.run.scrub import Scrubber

MEMORY = Path("/dev/shm")


def dead_process() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_the_folder_is_in_memory_for_its_owner_alone_and_goes_away() -> None:
    with private_folder() as folder:
        assert folder.parent == MEMORY
        assert folder.name.startswith(f"{PREFIX}{os.getpid()}-")
        assert folder.stat().st_mode & 0o777 == 0o700
        write_private(folder / "a" / "secret", b"x")
        assert (folder / "a" / "secret").stat().st_mode & 0o777 == 0o600
    assert not folder.exists()


def test_refuses_to_keep_secrets_on_a_disc(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="no file system in memory") as raised,
        private_folder([tmp_path]),
    ):
        pass
    assert raised.value.code == "no-memory-folder"
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}{dead_process()}-abc"
    alive = tmp_path / f"{PREFIX}{os.getpid()}-abc"
    other = tmp_path / f"{PREFIX}notes"
    link = tmp_path / f"{PREFIX}{dead_process()}-link"
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "file").touch()
    link.symlink_to(other)
    assert remove_leftovers(tmp_path) == (dead,)
    assert alive.exists()
    assert (other / "file").exists()


def test_only_processes_of_that_folder_are_ended(tmp_path: Path) -> None:
    mine, other = (
        subprocess.Popen(
            ["sleep", "60"], env={"PERIMETER_PRIVATE_FOLDER": f"{tmp_path}{end}", "PATH": "/bin"}
        )
        for end in ("", "-other")
    )
    try:
        while b"sleep" not in Path(f"/proc/{mine.pid}/cmdline").read_bytes():
            pass
        assert end_processes_of(tmp_path) == (mine.pid,)
        assert mine.wait() == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_secrets_become_stars_also_in_base64() -> None:
    scrub = Scrubber(["geheim-123", "geheim-123-longer", "short"])
    assert scrub("a geheim-123-longer b geheim-123 c") == "a *** b *** c"
    encoded = base64.b64encode(b"geheim-123").decode()
    assert scrub(f"password: {encoded}") == "password: ***"
    assert scrub("a short word stays") == "a short word stays"


def test_without_secrets_text_stays_as_it_is() -> None:
    assert Scrubber([])("anything") == "anything"
