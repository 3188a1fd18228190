"""Ansible Vault files: the format every Ansible tool reads (``ansible-vault edit``).

https://docs.ansible.com/ansible-core/2.19/vault_guide/vault_using_encrypted_content.html
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from perimeter_bundle.model.errors import InputError, TrustError

PASSWORD_FILE_VARIABLE = "PERIMETER_VAULT_PASSWORD_FILE"  # noqa: S105 - a variable's name
MAX_PASSWORD_BYTES = 4096


def password_file(
    site_key: Path, option: Path | None, environment: Mapping[str, str] | None = None
) -> Path:
    """Where the vault's password is: the option, the environment, else the site's own key."""
    named = (os.environ if environment is None else environment).get(PASSWORD_FILE_VARIABLE)
    return option or (Path(named) if named else site_key)


def read_password(path: Path) -> bytes:
    """The vault's password; raises InputError when it is not there, empty or open to others."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()[: MAX_PASSWORD_BYTES + 1].strip()
    except OSError as error:
        raise InputError(
            "no-vault-key",
            f"cannot read the vault's password: {path}: {error.strerror}",
            hint="perimeter-install init makes it; or give --vault-password-file",
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise InputError(
            "open-vault-key",
            f"others can read the vault's password {path}",
            context={"mode": f"{stat.S_IMODE(mode):04o}"},
            hint=f"chmod 600 {path}",
        )
    if not data or len(data) > MAX_PASSWORD_BYTES:
        raise InputError(
            "no-vault-key",
            f"{path} holds no usable password",
            hint="one line of text; scripts are not run",
        )
    return data


def encrypt(data: bytes, password: bytes) -> bytes:
    """``data`` as an Ansible Vault file."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    return bytes(VaultLib([("default", VaultSecret(password))]).encrypt(data))


def decrypt(data: bytes, password: bytes, path: Path) -> bytes:
    """What an Ansible Vault file holds; raises TrustError[vault-locked]."""
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import VaultLib, VaultSecret

    try:
        return bytes(VaultLib([("default", VaultSecret(password))]).decrypt(data))
    except AnsibleError as error:
        raise TrustError(
            "vault-locked",
            f"cannot open {path}: wrong password, or the file is damaged",
            hint="give the password it was made with: --vault-password-file",
        ) from error
