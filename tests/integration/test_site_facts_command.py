"""site-facts as a user types it, against a real sshd, and read by the connected side's own code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.preflight_sshd import Sshd, need_sshd
from tests.integration.test_preflight_command import ADDRESSES, Jump

from perimeter_bundle.format.site_facts import open_site_facts
from perimeter_bundle.format.trust import Trust

pytestmark = need_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"), addresses=ADDRESSES)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def jump(sshd: Sshd, tmp_path: Path) -> Jump:
    """A site of three hosts, all of them this machine, with pinned keys."""
    jump = Jump(sshd, tmp_path)
    jump.init("--no-pin", count=3)
    done = jump.run("init", "--pin", "--yes")
    assert done.returncode == 0, done.stderr
    return jump


def test_the_facts_are_signed_and_are_those_of_the_hosts(jump: Jump, tmp_path: Path) -> None:
    done = jump.run("site-facts", "--new-key", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["profiles"][0]["hosts"] == ["n1", "n2", "n3"]
    opened = open_site_facts(tmp_path / "site-facts.json", Trust.load(tmp_path / "site.pub"))
    assert opened.signer.key.key_id == shown["key_id"]
    private = (tmp_path / "site.key").read_text().splitlines()
    left = [path.read_text() for path in tmp_path.glob("site-facts.json*") if path.suffix != ".sig"]
    told = "".join([done.stdout, done.stderr, (tmp_path / "site.pub").read_text(), *left])
    assert not [line for line in private[1:-1] if line in told]
    assert opened.facts.site == "lab"
    machine = opened.facts.profiles[0].machine
    assert machine.kernel == os.uname().release
    assert machine.os_id == platform.freedesktop_os_release()["ID"]
    assert machine.architecture in ("amd64", "arm64")
    assert machine.groups == ("control_plane", "registry", "worker")
    assert all(host.discs for host in opened.facts.profiles[0].hosts)
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", "site.pub",
         "-signature", "site-facts.json.sig", "site-facts.json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "Verified OK\n"


def test_no_address_leaves_the_site_and_a_second_run_uses_the_same_key(
    jump: Jump, tmp_path: Path
) -> None:
    first = jump.run("site-facts", "--new-key")
    assert first.returncode == 0, first.stderr
    assert "10.98.0" not in (tmp_path / "site-facts.json").read_text()
    assert "--trust site.pub" in first.stderr
    again = jump.run("site-facts", "--new-key")
    assert again.returncode == 2
    assert "error[key-exists]" in again.stderr
    assert jump.run("site-facts").returncode == 0
    open_site_facts(tmp_path / "site-facts.json", Trust.load(tmp_path / "site.pub"))


def test_without_a_key_nothing_is_asked_or_written(jump: Jump, tmp_path: Path) -> None:
    done = jump.run("site-facts")
    assert done.returncode == 2
    assert "error[no-site-key]" in done.stderr
    assert "--new-key makes one" in done.stderr
    assert not (tmp_path / "site-facts.json").exists()


def test_one_silent_host_is_enough_to_write_nothing(jump: Jump, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    lines = [line for line in known.read_text().splitlines() if ADDRESSES[1] not in line]
    known.write_text("\n".join(lines) + "\n")
    done = jump.run("site-facts", "--new-key")
    assert done.returncode == 6
    assert "error[hosts-not-asked]" in done.stderr
    assert "n2: no host key is pinned" in done.stderr
    assert not (tmp_path / "site-facts.json").exists()
    assert not (tmp_path / "site.key").exists()
