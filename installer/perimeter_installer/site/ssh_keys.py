"""The private keys to log in with: a file, or the SSH agent."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path

import paramiko

from perimeter_bundle.model.errors import InputError
from perimeter_installer.site.model import Ssh


def login_keys(ssh: Ssh) -> list[paramiko.PKey]:
    """The keys to log in with: the key file alone, or whatever the agent holds.

    A key file with a passphrase is taken from the agent, which must hold it.
    Raises InputError[bad-ssh-key].
    """
    if ssh.key_file is None:
        return list(_agent_keys())
    try:
        return [paramiko.PKey.from_path(ssh.key_file)]
    except (paramiko.PasswordRequiredException, TypeError) as error:
        # cryptography says TypeError when a key in PEM form wants a passphrase
        public = _public_blob(ssh.key_file)
        held = [key for key in _agent_keys() if key.asbytes() == public]
        if held:
            return held
        raise InputError(
            "bad-ssh-key",
            f"{ssh.key_file} has a passphrase, and the SSH agent does not hold it",
            hint=f"ssh-add {shlex.quote(str(ssh.key_file))}",
        ) from error
    except (paramiko.SSHException, ValueError, OSError) as error:
        raise InputError(
            "bad-ssh-key", f"{ssh.key_file} is not a private key ssh can use: {error}"
        ) from error


def _agent_keys() -> Sequence[paramiko.PKey]:
    return paramiko.Agent().get_keys()


def _public_blob(key_file: Path) -> bytes:
    try:
        fields = Path(f"{key_file}.pub").read_text("utf-8").split()
        return base64.b64decode(fields[1])
    except (OSError, ValueError, IndexError):
        return b""
