"""Pinned SSH host keys: the site's known_hosts file, in OpenSSH's own format.

``init`` writes it, once for each host; paramiko here and ssh under Ansible read the same file.
A key that changed is never replaced silently: the line is removed by a person who knows why.
https://man.openbsd.org/sshd#SSH_KNOWN_HOSTS_FILE_FORMAT
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import HostError, InputError

SSH_PORT = 22
HEADER = (
    "# SSH host keys of this site, pinned by perimeter-install init; ssh and perimeter read it.\n"
)


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """Public key of a host: its type (``ssh-ed25519``) and its bytes."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


def host_pattern(address: str, port: int) -> str:
    """How known_hosts names a host: the address, with the port in brackets unless it is 22."""
    return address if port == SSH_PORT else f"[{address}]:{port}"


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """All pinned keys; pairs of ``host_pattern`` and key, in the order of the file."""

    entries: tuple[tuple[str, HostKey], ...] = ()

    def keys_of(self, address: str, port: int) -> tuple[HostKey, ...]:
        """The keys pinned for one host; empty when none is."""
        pattern = host_pattern(address, port)
        return tuple(key for name, key in self.entries if name == pattern)

    def with_key(self, address: str, port: int, key: HostKey) -> KnownHosts:
        """The same with one more key."""
        return KnownHosts((*self.entries, (host_pattern(address, port), key)))

    @classmethod
    def load(cls, path: Path) -> KnownHosts:
        """What ``path`` pins; a missing file pins nothing.

        Raises InputError[bad-known-hosts] naming every line that cannot be used: a hashed name or
        a marker would be believed by ssh and overlooked here.
        """
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("bad-known-hosts", f"cannot read {path}: {error}") from error
        entries: list[tuple[str, HostKey]] = []
        problems = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                entries += _parse_line(line)
            except ValueError as error:
                problems.append(f"line {number}: {error}")
        if problems:
            raise InputError(
                "bad-known-hosts",
                f"{path} cannot be used",
                problems=problems,
                hint="remove these lines and pin the hosts again with perimeter-install init",
            )
        return cls(tuple(entries))

    def save(self, path: Path) -> None:
        """Replaces ``path`` in one step, mode 0644; raises HostError[cannot-write]."""
        lines = [f"{name} {key.kind} {_base64(key.blob)}\n" for name, key in self.entries]
        write_whole(path, HEADER + "".join(lines), 0o644)


def _parse_line(line: str) -> Iterable[tuple[str, HostKey]]:
    fields = line.split()
    if fields[0].startswith(("@", "|")):
        raise ValueError("hashed names and markers are not read here; write the address plainly")
    if len(fields) < 3:
        raise ValueError("expected an address, a key type and a key")
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error as error:
        raise ValueError("the key is not base64") from error
    # RFC 4253 6.6: the key's bytes begin with its type, length first
    kind = fields[1].encode()
    if blob[:4] != len(kind).to_bytes(4, "big") or blob[4 : 4 + len(kind)] != kind:
        raise ValueError(f"the key is not of the type {fields[1]}")
    return [(name, HostKey(fields[1], blob)) for name in fields[0].split(",")]


def _base64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def write_whole(path: Path, text: str, mode: int) -> None:
    """``text`` in ``path``, all or nothing; raises HostError[cannot-write]."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostError("cannot-write", f"cannot write {path}: {error.strerror}") from error
