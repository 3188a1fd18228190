"""A file that a site writes for the builder and signs: FILE, and its signature in FILE.sig.

The signature is raw DER, ECDSA P-256 with SHA-256 over the exact bytes of FILE, by a key that the
reader trusts already; a key that travels along is never looked at. Nothing of FILE is read before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import read_file, write_file
from perimeter_bundle.format.signature import (
    MAX_SIGNATURE_BYTES,
    load_private_key,
    public_key_of,
    sign_bytes,
)
from perimeter_bundle.format.trust import Trust, TrustedKey
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import TrustError

SIGNATURE_SUFFIX = ".sig"


@dataclass(frozen=True, slots=True)
class SignedFile:
    """Bytes that a trusted key signed."""

    data: bytes
    digest: Digest
    signer: TrustedKey


def signature_file(path: Path) -> Path:
    """Where the signature lies: beside the file."""
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def write_signed(
    path: Path,
    data: bytes,
    parse: Callable[[bytes], object],
    key_path: Path,
    password: str | None = None,
) -> tuple[Path, str]:
    """Writes ``path`` and its signature; the signature's path and the id of the key.

    What ``parse`` refuses is not signed. Raises that, and what load_private_key raises, before
    anything is written, and OSError.
    """
    private_key = load_private_key(key_path, password)
    parse(data)
    signature = signature_file(path)
    signature.unlink(missing_ok=True)  # an old signature beside a new file would confuse people
    write_file(path, data)
    write_file(signature, sign_bytes(private_key, data))
    return signature, public_key_of(private_key).key_id


def read_signed(path: Path, trust: Trust, max_bytes: int) -> SignedFile:
    """The bytes of ``path`` if a key in ``trust`` signed them; one is enough, in whatever role.

    Raises TrustError[not-signed], TrustError[not-trusted], IntegrityError.
    """
    data = read_file(path, max_bytes)
    beside = signature_file(path)
    if not beside.exists():
        raise TrustError(
            "not-signed",
            f"there is no signature {beside}",
            hint="carry both files, FILE and FILE.sig",
        )
    signature = read_file(beside, MAX_SIGNATURE_BYTES)
    signer = next((key for key in trust.keys if key.key.verifies(signature, data)), None)
    if signer is None:
        raise TrustError(
            "not-trusted",
            f"no trusted key signed {path.name}",
            context={"trusted": ", ".join(key.key.key_id[:16] for key in trust.keys)},
            hint="get the site's .pub file by a way you trust; if you have it, the file was changed"
            " after it was signed",
        )
    return SignedFile(data, Digest.of_bytes(data), signer)
