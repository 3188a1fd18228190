"""What can happen to a signed bundle on its way, each with the refusal it must meet.

verify.sh and open_bundle must both refuse every one of them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.bundles import (
    WHEEL,
    SmallBundle,
    make_bundle,
    make_key,
)

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.signature import PublicKey
from perimeter_bundle.model.errors import IntegrityError, PerimeterError, TrustError


@dataclass(frozen=True)
class Damage:
    """What happens to a good bundle, and how both programs refuse it."""

    name: str
    do: Callable[[SmallBundle], object]
    error: type[PerimeterError]
    code: str
    message: str
    script_code: str = ""  # when verify.sh sees it from another side


def flip(path: Path, at: int = 0) -> None:
    """Changes one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def a_blob(bundle: SmallBundle) -> Path:
    """The file a node gets first: kubeadm."""
    payload = bundle.manifest.items_of(ItemKind.FILE)[0].payload
    return bundle.file(layout.blob_path(payload))


def signature(bundle: SmallBundle) -> Path:
    """The builder's raw signature."""
    return bundle.file(layout.signature_path(_key_id(bundle)))


def sigstore(bundle: SmallBundle) -> Path:
    """The builder's Sigstore bundle."""
    return bundle.file(layout.sigstore_path(_key_id(bundle)))


def _key_id(bundle: SmallBundle) -> str:
    return PublicKey.parse(bundle.public_key.read_bytes(), "builder.pub").key_id


def _flipped(name: str, path: Callable[[SmallBundle], Path]) -> Damage:
    return Damage(
        f"a flipped byte in {name}",
        lambda bundle: flip(path(bundle)),
        IntegrityError,
        "digest-mismatch",
        "not the bytes that were signed",
    )


def _flipped_file(name: str) -> Damage:
    return _flipped(name, lambda bundle: bundle.file(name))


def _sums(bundle: SmallBundle, change: Callable[[list[str]], list[str]]) -> None:
    lines = bundle.file(layout.SUMS).read_text().splitlines()
    bundle.forge_sums("".join(f"{line}\n" for line in change(lines)).encode())


def _forged(name: str, message: str, change: Callable[[list[str]], list[str]]) -> Damage:
    return Damage(
        f"signed sums with {name}",
        lambda bundle: _sums(bundle, change),
        IntegrityError,
        "bad-sums",
        message,
    )


def _insert(line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: sorted([*lines, line], key=lambda text: text[66:].encode())


def _unknown_key(bundle: SmallBundle) -> None:
    shutil.rmtree(bundle.file(layout.SIGNATURES))
    other = make_key(bundle.root.parent / "others", "stranger")
    dataclasses.replace(bundle, key=other).forge_sums(bundle.file(layout.SUMS).read_bytes())


def _swapped_signature(bundle: SmallBundle) -> None:
    """The right key, but its signature over another bundle."""
    other = make_bundle(bundle.root.parent / "other", number=2, key=bundle.key)
    shutil.copy(signature(other), signature(bundle))
    shutil.copy(sigstore(other), sigstore(bundle))


def _link_to_itself(bundle: SmallBundle) -> None:
    blob = a_blob(bundle)
    moved = bundle.root.parent / "elsewhere"
    blob.rename(moved)
    blob.symlink_to(moved)


def _linked_folder(bundle: SmallBundle) -> None:
    moved = bundle.root.parent / "roles"
    bundle.file(layout.ROLES).rename(moved)
    bundle.file(layout.ROLES).symlink_to(moved)


def _linked_sums(bundle: SmallBundle) -> None:
    moved = bundle.root.parent / "sums"
    bundle.file(layout.SUMS).rename(moved)
    bundle.file(layout.SUMS).symlink_to(moved)


def _linked_signature(bundle: SmallBundle) -> None:
    moved = bundle.root.parent / "sig"
    signature(bundle).rename(moved)
    signature(bundle).symlink_to(moved)


def _truncated(bundle: SmallBundle) -> None:
    blob = a_blob(bundle)
    blob.write_bytes(blob.read_bytes()[:-1])


def _lengthened(bundle: SmallBundle) -> None:
    with a_blob(bundle).open("ab") as file:
        file.write(b"\0")


def _left_by_a_build(bundle: SmallBundle) -> None:
    bundle.file(layout.BUILD_FOLDER).mkdir()
    bundle.file(f"{layout.BUILD_FOLDER}/journal").write_text("x")


ZERO = "0" * 64

DAMAGED: tuple[Damage, ...] = (
    _flipped("a blob", a_blob),
    *(
        _flipped_file(name)
        for name in (
            layout.BUNDLE_MANIFEST,
            layout.LOCK,
            layout.INDEX,
            layout.OCI_LAYOUT,
            f"{layout.ROLES}/minio/tasks/main.yml",
            f"{layout.PLAYBOOKS}/site.yml",
            f"{layout.CATALOG}/minio/component.yaml",
            WHEEL,
            layout.INSTALL_REQUIREMENTS,
            f"{layout.RENDERED}/minio.yaml",
            layout.VERIFY_README,
            layout.BOOTSTRAP_SCRIPT,
        )
    ),
    Damage(
        "a flipped byte at the end of verify.sh",  # its first line still runs
        lambda bundle: flip(bundle.file(layout.VERIFY_SCRIPT), -3),
        IntegrityError,
        "digest-mismatch",
        "verify.sh: not the bytes that were signed",
    ),
    Damage(
        "a flipped byte in SHA256SUMS",
        lambda bundle: bundle.file(layout.SUMS).write_bytes(
            bundle.file(layout.SUMS).read_bytes().replace(b"oci-layout", b"oci-layouu")
        ),
        TrustError,
        "bad-signature",
        "is not this key's signature",
    ),
    Damage(
        "a flipped byte in the signature",
        lambda bundle: flip(signature(bundle), 20),
        TrustError,
        "bad-signature",
        "is not this key's signature",
    ),
    Damage(
        "an empty signature",
        lambda bundle: signature(bundle).write_bytes(b""),
        TrustError,
        "bad-signature",
        "is not this key's signature",
    ),
    Damage(
        "a byte after the signature",
        lambda bundle: signature(bundle).write_bytes(signature(bundle).read_bytes() + b"\0"),
        TrustError,
        "bad-signature",
        "is not this key's signature",
    ),
    Damage(
        "a flipped byte in the Sigstore bundle",
        lambda bundle: flip(sigstore(bundle), 60),
        TrustError,
        "bad-signature",
        "does not hold the same signature",
    ),
    Damage(
        "a signature over another bundle",
        _swapped_signature,
        TrustError,
        "bad-signature",
        "is not this key's signature",
    ),
    Damage(
        "a Sigstore bundle without its signature",
        lambda bundle: signature(bundle).unlink(),
        TrustError,
        "bad-signature",
        "beside its Sigstore bundle",
    ),
    Damage(
        "no signature at all",
        lambda bundle: shutil.rmtree(bundle.file(layout.SIGNATURES)),
        TrustError,
        "not-trusted",
        "0 trusted builder keys signed this bundle; 1 must",
    ),
    Damage(
        "only an unknown key's signature",
        _unknown_key,
        TrustError,
        "not-trusted",
        "0 trusted builder keys signed this bundle; 1 must",
    ),
    Damage(
        "a file in signatures/ that is none",
        lambda bundle: bundle.file("signatures/run.sh").write_text("true"),
        IntegrityError,
        "unlisted-file",
        "signatures/ holds something that is not a signature",
    ),
    Damage(
        "a link for a signature",
        _linked_signature,
        IntegrityError,
        "unlisted-file",
        "signatures/ holds something that is not a signature",
        script_code="odd-file",
    ),
    Damage(
        "no SHA256SUMS",
        lambda bundle: bundle.file(layout.SUMS).unlink(),
        IntegrityError,
        "missing-file",
        "SHA256SUMS is missing",
        script_code="bad-sums",
    ),
    Damage(
        "a link for SHA256SUMS",
        _linked_sums,
        IntegrityError,
        "unreadable",
        "cannot read",
        script_code="bad-sums",
    ),
    Damage(
        "an empty SHA256SUMS",
        lambda bundle: bundle.file(layout.SUMS).write_bytes(b""),
        IntegrityError,
        "bad-sums",
        "it is empty",
    ),
    Damage(
        "a missing blob",
        lambda bundle: a_blob(bundle).unlink(),
        IntegrityError,
        "missing-file",
        "1 of 32 listed files are missing",
    ),
    Damage(
        "a missing role",
        lambda bundle: bundle.file(f"{layout.ROLES}/minio/tasks/main.yml").unlink(),
        IntegrityError,
        "missing-file",
        "roles/minio/tasks/main.yml",
    ),
    Damage(
        "an added file",
        lambda bundle: bundle.file("content/roles/extra.yml").write_text("x"),
        IntegrityError,
        "unlisted-file",
        "content/roles/extra.yml",
    ),
    Damage(
        "an added hidden file",
        lambda bundle: bundle.file(".profile").write_text("x"),
        IntegrityError,
        "unlisted-file",
        ".profile",
    ),
    Damage(
        "an added blob",
        lambda bundle: bundle.file(f"blobs/sha256/{ZERO}").write_text("x"),
        IntegrityError,
        "unlisted-file",
        ZERO,
    ),
    Damage(
        "what a build leaves behind",
        _left_by_a_build,
        IntegrityError,
        "unlisted-file",
        ".perimeter-build/journal",
    ),
    Damage(
        "a symbolic link for a blob",
        _link_to_itself,
        IntegrityError,
        "odd-file",
        "a symbolic link",
    ),
    Damage(
        "a symbolic link for a folder",
        _linked_folder,
        IntegrityError,
        "odd-file",
        "content/roles",
    ),
    Damage(
        "an added symbolic link",
        lambda bundle: bundle.file("content/passwd").symlink_to("/etc/passwd"),
        IntegrityError,
        "odd-file",
        "content/passwd",
    ),
    Damage(
        "a named pipe",
        lambda bundle: os.mkfifo(bundle.file("content/pipe")),
        IntegrityError,
        "odd-file",
        "a named pipe",
    ),
    Damage(
        "a file name with a newline",
        lambda bundle: bundle.file("content/a\nb").write_text("x"),
        IntegrityError,
        "odd-file",
        "control character",
    ),
    Damage(
        "a file name with a backslash",
        lambda bundle: bundle.file("content/a\\b").write_text("x"),
        IntegrityError,
        "odd-file",
        "backslash",
    ),
    Damage("a truncated blob", _truncated, IntegrityError, "digest-mismatch", "not the bytes"),
    Damage(
        "a blob with a byte more", _lengthened, IntegrityError, "digest-mismatch", "not the bytes"
    ),
    _forged("a path that climbs out", "not a plain relative path", _insert(f"{ZERO}  ../shadow")),
    _forged("a hidden climb", "not a plain relative path", _insert(f"{ZERO}  content/../../x")),
    _forged("an absolute path", "not a plain relative path", _insert(f"{ZERO}  /etc/shadow")),
    _forged("an empty part", "not a plain relative path", _insert(f"{ZERO}  content//x")),
    _forged("a dot", "not a plain relative path", _insert(f"{ZERO}  ./x")),
    _forged("standard input", "standard input", _insert(f"{ZERO}  -")),
    _forged("itself", "does not hold itself", _insert(f"{ZERO}  SHA256SUMS")),
    _forged("a signature", "made after", _insert(f"{ZERO}  signatures/{ZERO}.sig")),
    _forged("a control character", "control character", _insert(f"{ZERO}  content/\x07")),
    _forged("a carriage return", "control character", lambda lines: [f"{x}\r" for x in lines]),
    _forged("an escaped name", "not a SHA-256", _insert(f"\\{ZERO}  content/x\\ny")),
    _forged("binary marks", "not a SHA-256", lambda lines: [x.replace("  ", " *") for x in lines]),
    _forged("upper case", "not a SHA-256", lambda lines: [lines[0].upper(), *lines[1:]]),
    _forged("a comment", "not a SHA-256", lambda lines: ["# sums", *lines]),
    _forged("a blank line", "not a SHA-256", lambda lines: [*lines, ""]),
    _forged("lines out of order", "not sorted", lambda lines: [*lines[1:], lines[0]]),
    _forged("a line twice", "stands there twice", lambda lines: [lines[0], *lines]),
    _forged(
        "two sums for one path",
        "stands there twice",
        lambda lines: [lines[0], ZERO + lines[0][64:], *lines[1:]],
    ),
    Damage(
        "signed sums whose last line does not end",
        lambda bundle: bundle.forge_sums(bundle.file(layout.SUMS).read_bytes()[:-1]),
        IntegrityError,
        "bad-sums",
        "its last line does not end",
    ),
    Damage(
        "signed sums for a file that is not there",
        lambda bundle: _sums(bundle, _insert(f"{ZERO}  content/ghost")),
        IntegrityError,
        "missing-file",
        "content/ghost",
    ),
    Damage(
        "signed sums that leave a file out",
        lambda bundle: _sums(bundle, lambda lines: lines[:-1]),
        IntegrityError,
        "unlisted-file",
        "verify.sh",
    ),
)
