"""One SSH connection to one host: pinned keys only, every wait bounded, every failure with a name.

Used by init (to see a key), preflight and check. Ansible uses OpenSSH with the same known_hosts.
"""

from __future__ import annotations

import logging
import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import paramiko

from perimeter_installer.site.host_keys import HostKey, KnownHosts, host_pattern
from perimeter_installer.site.model import Host, Ssh
from perimeter_installer.site.ssh_errors import SshError, SshProblem
from perimeter_installer.site.ssh_keys import login_keys

CONNECT_TIMEOUT_S = 10.0  # TCP; also each step of the SSH handshake
RUN_TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
POLL_S = 0.01

# paramiko logs every failure with a traceback; here they become SshError
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: ``name`` is for messages."""

    name: str
    address: str
    port: int = 22

    @classmethod
    def of(cls, host: Host) -> Target:
        """The target a host of the site is."""
        return cls(host.name, str(host.address), host.ssh_port)

    def __str__(self) -> str:
        return f"{self.name} ({host_pattern(self.address, self.port)})"


@dataclass(frozen=True, slots=True)
class Completed:
    """What a remote command answered, and when (seconds of the local clock)."""

    status: int
    stdout: bytes
    stderr: bytes
    sent_at: float
    received_at: float


class Connection:
    """An authenticated connection; use as a context manager."""

    def __init__(self, target: Target, transport: paramiko.Transport, *, become: bool) -> None:
        self.target = target
        self._transport = transport
        self._become = become

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._transport.close()

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        root: bool = False,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> Completed:
        """Runs one command and waits for its end; the exit status is the caller's to judge.

        ``root`` puts ``sudo -n`` before it where the site says become. ``stdin`` is at most a few
        hundred KiB. Raises SshError when sudo refuses, the command does not end in time or answers
        more than MAX_OUTPUT_BYTES.
        """
        words = ["env", "LC_ALL=C", *arguments]
        if root and self._become:
            words = ["env", "LC_ALL=C", "sudo", "-n", "--", *words]
        deadline = time.monotonic() + timeout_s
        sent_at = time.time()
        try:
            channel = self._transport.open_session(timeout=min(timeout_s, CONNECT_TIMEOUT_S))
            try:
                channel.settimeout(timeout_s)
                channel.exec_command(shlex.join(words))
                if stdin:
                    channel.sendall(stdin)
                channel.shutdown_write()
                stdout, stderr = self._drain(channel, deadline, timeout_s)
                status = channel.recv_exit_status()
            finally:
                channel.close()
        except TimeoutError as error:
            raise self._timed_out(timeout_s) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise SshError(
                SshProblem.BROKEN,
                f"the connection to {self.target} broke: {error or type(error).__name__}",
                hint="look at the host and its sshd, then run the command again",
            ) from error
        result = Completed(status, stdout, stderr, sent_at, time.time())
        if root and self._become:
            _check_sudo(self.target, result)
        return result

    def _drain(
        self, channel: paramiko.Channel, deadline: float, timeout_s: float
    ) -> tuple[bytes, bytes]:
        """Both streams until the command has ended; reading one alone could block the other."""
        stdout, stderr = bytearray(), bytearray()
        while True:
            idle = True
            if channel.recv_ready():
                stdout += channel.recv(65536)
                idle = False
            if channel.recv_stderr_ready():
                stderr += channel.recv_stderr(65536)
                idle = False
            if len(stdout) + len(stderr) > MAX_OUTPUT_BYTES:
                raise SshError(
                    SshProblem.BROKEN,
                    f"{self.target} answers more than {MAX_OUTPUT_BYTES} bytes",
                    hint="a login script may be printing; it must be silent for commands",
                )
            if time.monotonic() > deadline:
                raise self._timed_out(timeout_s)
            if idle:
                if channel.exit_status_ready() and (channel.eof_received or channel.closed):
                    return bytes(stdout), bytes(stderr)
                if channel.closed or not self._transport.is_active():
                    raise EOFError("closed before the command ended")
                time.sleep(POLL_S)

    def _timed_out(self, timeout_s: float) -> SshError:
        return SshError(
            SshProblem.COMMAND_TIMEOUT,
            f"a command on {self.target} did not end within {timeout_s:g} s",
            hint="the host may hang on a disc or a name server; log in and look",
        )


def connect(
    target: Target, ssh: Ssh, known_hosts: KnownHosts, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> Connection:
    """An authenticated connection to a host whose key is pinned; raises SshError otherwise."""
    pinned = known_hosts.keys_of(target.address, target.port)
    if not pinned:
        raise SshError(
            SshProblem.KEY_UNKNOWN,
            f"no host key is pinned for {target}",
            hint="pin it with perimeter-install init --pin, and compare the fingerprint",
        )
    transport = _handshake(target, [key.kind for key in pinned], timeout_s)
    try:
        check_offered_key(target, pinned, _offered_key(transport))
        _authenticate(target, ssh, transport, timeout_s)
    except BaseException:
        transport.close()
        raise
    return Connection(target, transport, become=ssh.become)


def scan_host_key(
    target: Target, preferred: Sequence[str] = (), *, timeout_s: float = CONNECT_TIMEOUT_S
) -> HostKey:
    """The key a host offers now, of a preferred kind if it can, without logging in.

    Raises SshError.
    """
    transport = _handshake(target, preferred, timeout_s)
    try:
        return _offered_key(transport)
    finally:
        transport.close()


def check_offered_key(target: Target, pinned: Sequence[HostKey], offered: HostKey) -> None:
    """Raises SshError[ssh-host-key-changed], naming both fingerprints, unless it is pinned."""
    if offered not in pinned:
        raise SshError(
            SshProblem.KEY_CHANGED,
            f"the host key of {target} is not the pinned one",
            context={"pinned": ", ".join(map(str, pinned)), "offered": offered},
            hint="somebody may stand between, or the host was installed anew: ask whoever runs it;"
            " only then remove its line from known_hosts and pin it again with init --pin",
        )


def _handshake(target: Target, wanted_kinds: Sequence[str], timeout_s: float) -> paramiko.Transport:
    """A transport after key exchange, before any credential is sent."""
    stream = _dial(target, timeout_s)
    started = time.monotonic()
    try:
        transport = paramiko.Transport(stream)
        transport.banner_timeout = timeout_s
        transport.handshake_timeout = timeout_s
        transport.daemon = True
        _prefer(transport, wanted_kinds)
        transport.start_client(timeout=timeout_s)
    except (paramiko.SSHException, OSError, EOFError) as error:
        stream.close()
        if time.monotonic() - started >= timeout_s * 0.9:
            raise _silent(target, timeout_s) from error
        raise SshError(
            SshProblem.NOT_SSH,
            f"{target} does not speak SSH: {error or 'it hung up'}",
            hint="is ssh_port right? sshd also hangs up when too many connect (MaxStartups)",
        ) from error
    if not transport.initial_kex_done or not transport.is_active():
        # start_client returns without a word when its timeout is over
        transport.close()
        raise _silent(target, timeout_s)
    return transport


def _dial(target: Target, timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection((target.address, target.port), timeout=timeout_s)
    except ConnectionRefusedError as error:
        raise SshError(
            SshProblem.REFUSED,
            f"{target} refuses the connection",
            hint="is sshd running, and is ssh_port right?",
        ) from error
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        raise SshError(
            SshProblem.UNREACHABLE,
            f"{target} cannot be reached: {reason}",
            hint="is the host up, the address right, and is there a way from here to it?",
        ) from error


def _silent(target: Target, timeout_s: float) -> SshError:
    return SshError(
        SshProblem.SILENT,
        f"{target} takes the connection and then answers nothing for {timeout_s:g} s",
        hint="the host hangs or a firewall swallows data; look at its console",
    )


def _prefer(transport: paramiko.Transport, kinds: Sequence[str]) -> None:
    """Asks for the pinned kinds of key first, as ssh does; else a host with two keys may offer
    the one that is not pinned."""
    options = transport.get_security_options()
    wanted: list[str] = []
    for kind in kinds:
        wanted += ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
    known = list(options.key_types)
    options.key_types = [kind for kind in wanted if kind in known] + [
        kind for kind in known if kind not in wanted
    ]


def _offered_key(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())


def _authenticate(
    target: Target, ssh: Ssh, transport: paramiko.Transport, timeout_s: float
) -> None:
    transport.auth_timeout = timeout_s
    tried = 0
    for key in login_keys(ssh):
        tried += 1
        try:
            transport.auth_publickey(ssh.user, key)
        except paramiko.AuthenticationException:
            continue
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise SshError(
                SshProblem.BROKEN,
                f"{target} broke off while {ssh.user} logged in: {error or type(error).__name__}",
                hint="the host's own log (journalctl -u ssh) says why",
            ) from error
        if transport.is_authenticated():
            return
    key_text = str(ssh.key_file) if ssh.key_file else f"the SSH agent ({tried} keys)"
    raise SshError(
        SshProblem.AUTH_FAILED,
        f"{target} does not let {ssh.user} in with {key_text}",
        hint=f"put the public key into ~{ssh.user}/.ssh/authorized_keys on the host",
    )


def _check_sudo(target: Target, result: Completed) -> None:
    """Tells sudo's own refusal from a command that failed."""
    text = result.stderr.decode("utf-8", "replace")
    if result.status == 127 and "sudo" in text:
        raise SshError(
            SshProblem.SUDO_MISSING,
            f"{target} has no sudo",
            hint="install sudo, or log in as root (ssh.user: root)",
        )
    if result.status == 1 and any(line.startswith("sudo: ") for line in text.splitlines()):
        raise SshError(
            SshProblem.SUDO_PASSWORD,
            f"sudo on {target} does not work without a password: {text.strip()[:200]}",
            hint="give the user NOPASSWD in /etc/sudoers.d, as root: USER ALL=(ALL) NOPASSWD: ALL",
        )
