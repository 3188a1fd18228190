"""Ansible Vault files: the format every Ansible tool reads (``ansible-vault edit``).

Written and read here: every command opens the vault, and Ansible's modules take longer to load, and
more memory, than all else that a command like ``load`` needs.
https://docs.ansible.com/ansible-core/2.19/vault_guide/vault_using_encrypted_content.html#ansible-vault-payload-format-1-1-1-2
"""

from __future__ import annotations

import os
import re
import stat
from binascii import hexlify, unhexlify
from collections.abc import Mapping
from hashlib import pbkdf2_hmac
from pathlib import Path
from secrets import token_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from perimeter_bundle.model.errors import InputError, TrustError

PASSWORD_FILE_VARIABLE = "PERIMETER_VAULT_PASSWORD_FILE"  # noqa: S105 - a variable's name
MAX_PASSWORD_BYTES = 4096
_HEADER = re.compile(rb"\$ANSIBLE_VAULT;1\.[12];AES256(;[^;]*)?")
_ITERATIONS = 10_000
_SALT_BYTES, _KEY_BYTES, _COUNTER_BYTES = 32, 32, 16
_COLUMNS = 80


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
    salt = token_bytes(_SALT_BYTES)
    cipher_key, mac_key, counter = _keys(password, salt)
    padding = PKCS7(8 * _COUNTER_BYTES).padder()
    sealing = Cipher(AES(cipher_key), CTR(counter)).encryptor()
    sealed = sealing.update(padding.update(data) + padding.finalize()) + sealing.finalize()
    mac = HMAC(mac_key, SHA256())
    mac.update(sealed)
    packed = hexlify(b"\n".join(hexlify(part) for part in (salt, mac.finalize(), sealed)))
    lines = [packed[start : start + _COLUMNS] for start in range(0, len(packed), _COLUMNS)]
    return b"\n".join([b"$ANSIBLE_VAULT;1.1;AES256", *lines, b""])


def decrypt(data: bytes, password: bytes, path: Path) -> bytes:
    """What an Ansible Vault file holds; raises TrustError[vault-locked]."""
    try:
        return _open(data, password)
    except (ValueError, InvalidSignature) as error:
        raise TrustError(
            "vault-locked",
            f"cannot open {path}: wrong password, or the file is damaged",
            hint="give the password it was made with: --vault-password-file",
        ) from error


def _open(data: bytes, password: bytes) -> bytes:
    """Raises ValueError for another format, InvalidSignature for another password or bytes."""
    header, *lines = data.split(b"\n")
    if not _HEADER.fullmatch(header.strip()):
        raise ValueError("not an Ansible Vault of AES256")
    packed = unhexlify(b"".join(line.strip() for line in lines))
    salt, mac, sealed = (unhexlify(part) for part in packed.split(b"\n", 2))
    cipher_key, mac_key, counter = _keys(password, salt)
    check = HMAC(mac_key, SHA256())
    check.update(sealed)
    check.verify(mac)
    opening = Cipher(AES(cipher_key), CTR(counter)).decryptor()
    unpadding = PKCS7(8 * _COUNTER_BYTES).unpadder()
    padded = opening.update(sealed) + opening.finalize()
    return unpadding.update(padded) + unpadding.finalize()


def _keys(password: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """The cipher's key, the seal's key, and where the cipher's counter begins."""
    keys = pbkdf2_hmac("sha256", password, salt, _ITERATIONS, 2 * _KEY_BYTES + _COUNTER_BYTES)
    return keys[:_KEY_BYTES], keys[_KEY_BYTES : 2 * _KEY_BYTES], keys[2 * _KEY_BYTES :]
