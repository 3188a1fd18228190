"""A real sshd on loopback with its own keys, configuration, users and sudo rules.

It runs in a mount namespace of its own, where /etc/passwd and /etc/sudoers are replaced by files
with three users more; the machine's own files are not touched. Needs root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
ADMIN, PLAIN = "perimeter-admin", "perimeter-plain"

need_sshd = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SSHD).exists() or not shutil.which("unshare"),
    reason="needs root, openssh-server and unshare",
)
need_sudo = pytest.mark.skipif(not shutil.which("sudo"), reason="needs sudo")

_START = """\
set -e
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/sshd
install -m 0644 "$1/user_key.pub" /run/authorized_keys  # sshd reads it as the user
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
if [ -e /etc/sudoers ]; then mount --bind "$1/sudoers" /etc/sudoers; fi
folder=$1
shift
if [ $# -gt 0 ]; then ip link set lo up; fi
for address in "$@"; do ip address add "$address/32" dev lo; done
exec /usr/sbin/sshd -D -e -f "$folder/sshd_config"
"""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """One server; users: root, ADMIN (sudo without password), PLAIN (no sudo)."""

    folder: Path
    port: int = field(default_factory=free_port)
    addresses: tuple[str, ...] = ()  # with addresses: in a network of its own, where it has these
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.user_key = self._keygen("user_key")
        self.new_host_key()
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\n"
            f"ListenAddress {'0.0.0.0' if self.addresses else '127.0.0.1'}\n"
            f"HostKey {self.folder}/host_key\n"
            "AuthorizedKeysFile /run/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            "PidFile none\nLogLevel ERROR\n"
        )
        users = "".join(
            f"{name}:x:{number}:{number}::/:/bin/sh\n"
            for number, name in ((64001, ADMIN), (64002, PLAIN))
        )
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + users)
        shadow = self.folder / "shadow"
        shadow.write_text(
            Path("/etc/shadow").read_text()
            + "".join(f"{name}:*:19000:0:99999:7:::\n" for name in (ADMIN, PLAIN))
        )
        shadow.chmod(0o640)
        sudoers = self.folder / "sudoers"
        sudoers.write_text(f"root ALL=(ALL) ALL\n{ADMIN} ALL=(ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)

    def _keygen(self, name: str) -> Path:
        path = self.folder / name
        for old in (path, path.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
        )
        return path

    def new_host_key(self) -> None:
        """Another host key, as after a new installation; takes effect at the next start."""
        self._keygen("host_key")

    @property
    def fingerprint(self) -> str:
        """Of the host key, as ssh-keygen says it."""
        done = subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / "host_key.pub")],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[1]

    def start(self) -> None:
        """Returns when the port answers."""
        own = ["--net"] if self.addresses else []
        self.process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                *own,
                "sh",
                "-c",
                _START,
                "sshd",
                str(self.folder),
                *self.addresses,
            ],
            stdin=subprocess.DEVNULL,
        )
        listening = f":{self.port:04X} 00000000:0000 0A"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "sshd did not start"
            if listening in Path(f"/proc/{self.process.pid}/net/tcp").read_text():
                return
            time.sleep(0.05)
        raise AssertionError("sshd does not listen")

    def inside(self) -> list[str]:
        """Words to put before a command that is to run in the server's network."""
        assert self.process is not None
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def stop(self) -> None:
        """Ends it; the port is free afterwards."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None
