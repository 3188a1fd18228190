"""Signatures of distributions: checked by gpgv against the keys that were given, nothing else."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import HostError, InputError, TrustError
from perimeter_bundle.tools.run import clean_environment, run_tool

GPGV_TIMEOUT_S = 60.0
MAX_KEYRING_BYTES = MIB
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)


def read_keyring(path: Path) -> bytes:
    """The keys in ``path`` as gpgv reads them, whether they are armoured or not.

    Raises InputError[bad-keyring].
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _bad_keyring(path, error.strerror or "cannot be read") from error
    if len(data) > MAX_KEYRING_BYTES:
        raise _bad_keyring(path, "is larger than any keyring")
    if b"-----BEGIN PGP" not in data:
        return data
    blocks = _ARMOR.findall(data)
    if not blocks:
        raise _bad_keyring(path, "has no public key between its armour")
    try:
        return b"".join(map(_dearmored, blocks))
    except (binascii.Error, ValueError) as error:
        raise _bad_keyring(path, f"has armour that cannot be read: {error}") from error


def read_armoured(path: Path) -> bytes:
    """The keys in ``path`` as rpm takes them; raises InputError[bad-keyring]."""
    keys = read_keyring(path)
    data = path.read_bytes()
    if data == keys:
        raise _bad_keyring(path, "is not armoured, and rpm takes no other keys")
    return data


def check_clearsigned(signed: bytes, keyring: Path, work: Path, what: str) -> bytes:
    """What was signed in ``signed``; raises as check_detached."""
    path, plain = work / "clearsigned", work / "clearsigned.plain"
    path.write_bytes(signed)
    plain.unlink(missing_ok=True)
    _gpgv(["--output", plain, path], keyring, work, what)
    return plain.read_bytes()


def check_detached(data: bytes, signature: bytes, keyring: Path, work: Path, what: str) -> None:
    """Raises TrustError[bad-signature] unless a key of ``keyring`` signed ``data``.

    Raises InputError[bad-keyring] and HostError[tool-missing] without gpgv.
    """
    path, beside = work / "signed", work / "signed.sig"
    path.write_bytes(data)
    beside.write_bytes(signature)
    _gpgv([beside, path], keyring, work, what)


def _gpgv(arguments: list[str | Path], keyring: Path, work: Path, what: str) -> None:
    keys = work / "keyring.gpg"
    keys.write_bytes(read_keyring(keyring))
    try:
        run_tool(
            ["gpgv", "--keyring", keys, *arguments],
            folder=work,
            environment=clean_environment(work),
            timeout_s=GPGV_TIMEOUT_S,
            what=f"checking the signature of {what}",
        )
    except HostError as error:
        if error.code == "tool-missing":
            error.hint = "install gpgv"
            raise
        raise TrustError(
            "bad-signature",
            f"{what} is not signed by a key in {keyring.name}",
            problems=error.problems,
            hint="is the keyring that of this distribution? its keys change from time to time",
        ) from error


def _dearmored(block: bytes) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc9580#section-6.2; the optional checksum proves nothing."""
    lines = block.replace(b"\r", b"").split(b"\n")
    start = next((n for n, line in enumerate(lines) if not line.strip()), len(lines))
    kept = (line.strip() for line in lines[start:] if not line.startswith(b"="))
    decoded = base64.b64decode(b"".join(kept), validate=True)
    if not decoded:
        raise ValueError("nothing follows an empty line after its headers")
    return decoded


def _bad_keyring(path: Path, reason: str) -> InputError:
    return InputError(
        "bad-keyring",
        f"{path.name} {reason}",
        hint="it holds public keys of the distribution, as gpg --export or --armor --export gives",
    )
