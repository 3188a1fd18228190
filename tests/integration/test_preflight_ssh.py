"""Our SSH against a real sshd, and against servers that are none."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.preflight_sshd import (
    ADMIN,
    PLAIN,
    Sshd,
    free_port,
    need_sshd,
    need_sudo,
)

from perimeter_bundle.model.errors import ExitStatus, InputError
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.model import Ssh
from perimeter_installer.site.ssh import (
    Connection,
    Target,
    connect,
    scan_host_key,
)
from perimeter_installer.site.ssh_errors import SshError, SshProblem

pytestmark = need_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def target(sshd: Sshd) -> Target:
    return Target("n1", "127.0.0.1", sshd.port)


@pytest.fixture
def pinned(target: Target) -> KnownHosts:
    return KnownHosts().with_key(target.address, target.port, scan_host_key(target))


def ssh_as(sshd: Sshd, user: str, *, become: bool = False) -> Ssh:
    return Ssh(user, sshd.user_key, become)


@pytest.fixture
def root(sshd: Sshd, target: Target, pinned: KnownHosts) -> Iterator[Connection]:
    with connect(target, ssh_as(sshd, "root"), pinned) as connection:
        yield connection


def test_scanned_fingerprint_is_what_ssh_keygen_says(sshd: Sshd, target: Target) -> None:
    assert scan_host_key(target).fingerprint == sshd.fingerprint


def test_known_hosts_that_we_write_is_believed_by_ssh(
    sshd: Sshd, target: Target, pinned: KnownHosts, tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    pinned.save(path)
    assert KnownHosts.load(path) == pinned
    options = ["-F", "/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={path}", "-i", str(sshd.user_key)]
    done = subprocess.run(
        ["ssh", *options, "-p", str(target.port), "root@127.0.0.1", "echo hello"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "hello\n"


def test_runs_a_command_with_input_and_both_outputs(root: Connection) -> None:
    done = root.run(["sh", "-c", "cat; echo wrong >&2; exit 3"], stdin=b"in" * 50000)
    assert (done.status, done.stdout, done.stderr) == (3, b"in" * 50000, b"wrong\n")
    assert done.sent_at <= done.received_at


def test_words_are_not_read_by_a_shell_again(root: Connection) -> None:
    assert root.run(["echo", "a  b;$(id)'\""]).stdout == b"a  b;$(id)'\"\n"


def test_a_lot_of_output_on_both_streams_does_not_block(root: Connection) -> None:
    done = root.run(["sh", "-c", "head -c 900000 /dev/zero >&2; head -c 900000 /dev/zero"])
    assert (len(done.stdout), len(done.stderr)) == (900000, 900000)


def test_endless_output_is_cut_off(root: Connection) -> None:
    with pytest.raises(SshError) as caught:
        root.run(["cat", "/dev/zero"])
    assert caught.value.problem is SshProblem.BROKEN
    assert "answers more than 4194304 bytes" in caught.value.message


def test_a_command_that_does_not_end_is_given_up(root: Connection) -> None:
    started = time.monotonic()
    with pytest.raises(SshError) as caught:
        root.run(["sleep", "60"], timeout_s=1)
    assert caught.value.problem is SshProblem.COMMAND_TIMEOUT
    assert time.monotonic() - started < 10


def test_a_host_that_is_not_pinned_is_not_asked(sshd: Sshd, target: Target) -> None:
    with pytest.raises(SshError) as caught:
        connect(target, ssh_as(sshd, "root"), KnownHosts())
    assert caught.value.code == "ssh-host-key-unknown"
    assert "no host key is pinned for n1" in caught.value.message
    assert caught.value.exit_status is ExitStatus.HOST


def test_a_changed_host_key_is_refused_with_both_fingerprints(
    target: Target, tmp_path: Path
) -> None:
    server = Sshd(tmp_path / "other")
    server.start()
    other = Target("n1", "127.0.0.1", server.port)
    try:
        pinned = KnownHosts().with_key("127.0.0.1", server.port, scan_host_key(other))
        before = server.fingerprint
        server.stop()
        server.new_host_key()
        server.start()
        with pytest.raises(SshError) as caught:
            connect(other, ssh_as(server, "root"), pinned)
    finally:
        server.stop()
    assert caught.value.problem is SshProblem.KEY_CHANGED
    assert before in caught.value.context["pinned"]
    assert server.fingerprint in caught.value.context["offered"]
    assert before != server.fingerprint


def test_a_stranger_is_not_let_in(
    sshd: Sshd, target: Target, pinned: KnownHosts, tmp_path: Path
) -> None:
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with pytest.raises(SshError) as caught:
        connect(target, Ssh("root", key, False), pinned)
    assert caught.value.code == "ssh-auth-failed"
    assert f"does not let root in with {key}" in caught.value.message


def test_a_key_with_a_passphrase_is_asked_of_the_agent(
    target: Target, pinned: KnownHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = tmp_path / "locked"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True
    )
    with pytest.raises(InputError) as caught:
        connect(target, Ssh("root", key, False), pinned)
    assert caught.value.code == "bad-ssh-key"
    assert "has a passphrase, and the SSH agent does not hold it" in caught.value.message


def test_a_file_that_is_no_key_is_named(target: Target, pinned: KnownHosts, tmp_path: Path) -> None:
    key = tmp_path / "nonsense"
    key.write_text("nonsense\n")
    with pytest.raises(InputError) as caught:
        connect(target, Ssh("root", key, False), pinned)
    assert "is not a private key ssh can use" in caught.value.message


@need_sudo
def test_sudo_without_a_password_makes_root(sshd: Sshd, target: Target, pinned: KnownHosts) -> None:
    with connect(target, ssh_as(sshd, ADMIN, become=True), pinned) as connection:
        assert connection.run(["id", "-u"], root=True).stdout == b"0\n"
        assert connection.run(["id", "-u"]).stdout == b"64001\n"


@need_sudo
def test_sudo_that_wants_a_password_is_named(
    sshd: Sshd, target: Target, pinned: KnownHosts
) -> None:
    with (
        connect(target, ssh_as(sshd, PLAIN, become=True), pinned) as connection,
        pytest.raises(SshError) as caught,
    ):
        connection.run(["id", "-u"], root=True)
    assert caught.value.problem is SshProblem.SUDO_PASSWORD
    assert "NOPASSWD" in (caught.value.hint or "")


def test_a_port_nobody_listens_on_is_refused() -> None:
    with pytest.raises(SshError) as caught:
        scan_host_key(Target("n9", "127.0.0.1", free_port()))
    assert caught.value.problem is SshProblem.REFUSED
    assert "n9 ([127.0.0.1]" in caught.value.message


class Oddity:
    """A TCP server that says ``greeting`` and then nothing, or hangs up."""

    def __init__(self, greeting: bytes, *, hang_up: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = Target("odd", "127.0.0.1", self._listener.getsockname()[1])
        self._kept: list[socket.socket] = []
        self._greeting, self._hang_up = greeting, hang_up
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.sendall(self._greeting)
            if self._hang_up:
                peer.close()
            else:
                self._kept.append(peer)

    def close(self) -> None:
        self._listener.close()
        for peer in self._kept:
            peer.close()


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.9\r\n"])
def test_a_server_that_takes_the_connection_and_says_no_more_ends_by_timeout(
    greeting: bytes,
) -> None:
    server = Oddity(greeting, hang_up=False)
    started = time.monotonic()
    try:
        with pytest.raises(SshError) as caught:
            scan_host_key(server.target, timeout_s=1)
    finally:
        server.close()
    assert caught.value.problem is SshProblem.SILENT
    assert "answers nothing for 1 s" in caught.value.message
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_speaks_something_else_is_named(greeting: bytes) -> None:
    server = Oddity(greeting, hang_up=True)
    try:
        with pytest.raises(SshError) as caught:
            scan_host_key(server.target, timeout_s=5)
    finally:
        server.close()
    assert caught.value.problem is SshProblem.NOT_SSH
    assert "does not speak SSH" in caught.value.message
