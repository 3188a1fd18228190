"""ECDSA P-256 keys, and signatures over the exact bytes of SHA256SUMS.

One signature in two files: raw DER, which ``openssl dgst -sha256 -verify`` checks, and the same
inside a Sigstore bundle v0.3, which ``cosign verify-blob --key`` checks.
A key's id is the SHA-256 of its DER SubjectPublicKeyInfo, in hexadecimal.
https://github.com/sigstore/protobuf-specs/blob/v0.4.0/protos/sigstore_bundle.proto

Half of the program knows what a key is, and few commands use one: cryptography, 15 MB in memory, is
imported by the functions here that do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perimeter_bundle.format.files import list_tree, read_file, write_file
from perimeter_bundle.format.layout import SUMS, signature_path, sigstore_path
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, check_hashes, check_tree
from perimeter_bundle.model.errors import InputError, TrustError
from perimeter_bundle.model.events import OnEvent, ignore_events

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

MAX_KEY_BYTES = 16 * 1024
MAX_SIGNATURE_BYTES = 16 * 1024
SIGSTORE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PEM_PUBLIC = b"-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An ECDSA P-256 key as DER SubjectPublicKeyInfo."""

    der: bytes

    @property
    def key_id(self) -> str:
        """64 hexadecimal digits; file names of signatures come from it."""
        return hashlib.sha256(self.der).hexdigest()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` (DER) over ``data`` was made by this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_der_public_key(self.der)
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - parse() saw to it
        try:
            key.verify(signature, data, _scheme())
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """The key as openssl and cosign read it."""
        text = base64.b64encode(self.der).decode()
        lines = [text[start : start + 64] for start in range(0, len(text), 64)]
        return "\n".join([_PEM_PUBLIC.decode(), *lines, "-----END PUBLIC KEY-----", ""]).encode()

    @classmethod
    def parse(cls, pem: bytes, name: str) -> PublicKey:
        """The key in a PEM file; ``name`` names it in errors.

        Raises TrustError[private-key] or TrustError[bad-key]. Only the uncompressed, named-curve
        form is taken: one key has one id.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        if b"PRIVATE KEY" in pem:
            raise TrustError(
                "private-key",
                f"{name} holds a private key where a public one belongs",
                hint="put the .pub file there, and make a new key if this one was carried about",
            )
        if len(pem) > MAX_KEY_BYTES or pem.count(b"-----BEGIN") != 1 or _PEM_PUBLIC not in pem:
            raise _bad_key(name, "it is not one PEM public key")
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _bad_key(name, "it cannot be read as a PEM public key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise _bad_key(name, "it is not an ECDSA P-256 key")
        parsed = cls(_public_der(key))
        if b"".join(pem.split(b"-----")[2].split()) != base64.b64encode(parsed.der):
            raise _bad_key(name, "it is not in the usual form (uncompressed point, named curve)")
        return parsed


def key_id(public_key: PublicKey) -> str:
    """The id of a key: SHA-256 of its DER form, 64 hexadecimal digits."""
    return public_key.key_id


def public_key_path(private_key: Path) -> Path:
    """Where the public half is written: ``site.key`` → ``site.pub``."""
    return private_key.with_suffix(".pub")


def generate_key(path: Path, password: str | None = None) -> PublicKey:
    """Makes a key pair: ``path`` (PKCS#8 PEM, mode 0600) and its ``.pub``; the public half.

    Raises InputError[key-exists], InputError[empty-password], InputError[bad-key-name] or
    InputError[cannot-write]. Nothing is overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = public_key_path(path)
    if path == public:
        raise InputError("bad-key-name", f"{path} is the name of a public key", hint="use .key")
    if password == "":
        raise InputError(
            "empty-password", "the password is empty", hint="leave it out for a key without one"
        )
    for existing in (path, public):
        if os.path.lexists(existing):
            raise InputError(
                "key-exists",
                f"{existing} is there already",
                hint="keys are never overwritten; choose another name",
            )
    private_key = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    key = public_key_of(private_key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(path, pem, 0o600)
        _create(public, key.to_pem(), 0o644)
    except OSError as error:
        raise InputError(
            "cannot-write", f"cannot write {error.filename or path}: {error.strerror}"
        ) from error
    return key


def load_private_key(path: Path, password: str | None = None) -> ec.EllipticCurvePrivateKey:
    """The key at ``path``; raises InputError[unreadable-key], or TrustError[password-needed],
    [wrong-password] or [bad-key].
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        pem = path.read_bytes()
    except OSError as error:
        raise InputError(
            "unreadable-key", f"cannot read the key {path}: {error.strerror}"
        ) from error
    secret = password.encode() if password and b"ENCRYPTED" in pem else None
    try:
        key = serialization.load_pem_private_key(pem, secret)
    except TypeError as error:  # cryptography's way to say that it is encrypted
        raise TrustError(
            "password-needed", f"{path.name} is protected by a password", hint="give its password"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if secret:
            raise TrustError(
                "wrong-password", f"this is not the password of {path.name}"
            ) from error
        raise _bad_key(path.name, "it cannot be read as a PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key(path.name, "it is not an ECDSA P-256 key")
    return key


def public_key_of(private_key: ec.EllipticCurvePrivateKey) -> PublicKey:
    """The public half."""
    return PublicKey(_public_der(private_key.public_key()))


def sign_bytes(private_key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """A raw DER signature over the exact bytes of ``data``; ``PublicKey.verifies`` checks it."""
    return private_key.sign(data, _scheme())


def sign_bundle(
    root: Path,
    key_path: Path,
    password: str | None = None,
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> str:
    """Signs the bundle at ``root`` as it lies there; the id of the key.

    Every file is checked against SHA256SUMS first: a signature says that they belong together.
    Raises IntegrityError when they do not, and what load_private_key raises.
    """
    private_key = load_private_key(key_path, password)
    key = public_key_of(private_key)
    data = read_file(root / SUMS, MAX_SUMS_BYTES)
    sums, tree = Sums.parse(data), list_tree(root)
    check_tree(tree, sums)
    check_hashes(root, tree.files, sums, on_event=on_event, workers=workers)
    signature = sign_bytes(private_key, data)
    write_file(root / signature_path(key.key_id), signature)
    write_file(root / sigstore_path(key.key_id), sigstore_bundle(key, data, signature))
    return key.key_id


def sigstore_bundle(key: PublicKey, data: bytes, signature: bytes) -> bytes:
    """The signature as a Sigstore bundle v0.3; always the same bytes for the same signature.

    One line with fixed order: verify.sh writes the same line to compare it.
    """
    document = {
        "mediaType": SIGSTORE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.key_id}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            },
            "signature": base64.b64encode(signature).decode(),
        },
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _scheme() -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256())


def _public_der(key: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _create(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that must not be there yet; it is never readable to more than ``mode``."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _bad_key(name: str, reason: str) -> TrustError:
    return TrustError(
        "bad-key",
        f"{name} cannot be used: {reason}",
        hint="perimeter-bundle keygen makes keys of the right kind (ECDSA P-256, PEM)",
    )
