"""Who signed a bundle, and whether that is enough; step 3 of ``verify``.

a. signatures/ is a plain folder that holds nothing but files named after keys.
b. A trusted key's raw signature is there and holds over the exact bytes of SHA256SUMS; its Sigstore
   form, where there is one, is the very same signature. A bad one refuses, whatever others say.
c. Enough distinct keys of each role signed. Signatures by unknown keys are counted, never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import Tree, list_tree, read_file
from perimeter_bundle.format.layout import SIGNATURES, SUMS, signature_path, sigstore_path
from perimeter_bundle.format.signature import MAX_SIGNATURE_BYTES, sigstore_bundle
from perimeter_bundle.format.sums import some
from perimeter_bundle.format.trust import Role, Trust, TrustedKey
from perimeter_bundle.model.errors import IntegrityError, TrustError

_NAME = re.compile(r"([0-9a-f]{64})\.(sig|sigstore\.json)")


@dataclass(frozen=True, slots=True)
class Signers:
    """Trusted keys whose signatures hold, and the ids of others that are there."""

    trusted: tuple[TrustedKey, ...]
    unknown: tuple[str, ...]


def check_signers(root: Path, sums_bytes: bytes, trust: Trust) -> Signers:
    """Who signed ``sums_bytes``, the exact bytes of SHA256SUMS.

    Raises IntegrityError[unlisted-file], TrustError[bad-signature] or TrustError[not-trusted].
    """
    return judge_signers(read_signatures(root), sums_bytes, trust)


def judge_signers(signatures: Mapping[str, bytes], sums_bytes: bytes, trust: Trust) -> Signers:
    """Like check_signers, for files that lie elsewhere: bytes by path."""
    present = _present(signatures, ())  # a
    trusted = [key for key in trust.keys if key.key.key_id in present]
    for key in trusted:
        _check(signatures, key, present[key.key.key_id], sums_bytes)  # b
    for role in Role:
        _check_threshold(role, trust, trusted, present)  # c
    known = {key.key.key_id for key in trusted}
    return Signers(tuple(trusted), tuple(sorted(set(present) - known)))


def read_signatures(root: Path) -> dict[str, bytes]:
    """Every file of signatures/ by its path; raises IntegrityError[unlisted-file]."""
    folder = root / SIGNATURES
    odd = ["a symbolic link"] if folder.is_symlink() else []
    tree = Tree({}, ()) if odd else list_tree(folder, missing_ok=True)
    paths = [f"{SIGNATURES}/{name}" for name in tree.files]
    _present(paths, [*odd, *tree.odd])
    return {path: read_file(root / path, MAX_SIGNATURE_BYTES) for path in paths}


def _present(paths: Iterable[str], odd: Sequence[str]) -> dict[str, set[str]]:
    """Suffixes of the files there are for each key id."""
    present: dict[str, set[str]] = {}
    problems = []
    for path in paths:
        name = path.removeprefix(f"{SIGNATURES}/")
        match = _NAME.fullmatch(name)
        if match:
            present.setdefault(match[1], set()).add(match[2])
        else:
            problems.append(name)
    problems += odd
    if problems:
        raise IntegrityError(
            "unlisted-file",
            f"{SIGNATURES}/ holds something that is not a signature",
            problems=some([f"{SIGNATURES}/{line}" for line in problems]),
        )
    return present


def _check(
    signatures: Mapping[str, bytes], trusted: TrustedKey, suffixes: set[str], sums_bytes: bytes
) -> None:
    path = signature_path(trusted.key.key_id)
    if "sig" not in suffixes:
        raise _bad_signature(trusted, f"{path} is missing beside its Sigstore bundle")
    if not trusted.key.verifies(signatures[path], sums_bytes):
        raise _bad_signature(trusted, f"{path} is not this key's signature over {SUMS}")
    if "sigstore.json" in suffixes:
        raw, path = signatures[path], sigstore_path(trusted.key.key_id)
        if signatures[path] != sigstore_bundle(trusted.key, sums_bytes, raw):
            problem = f"{path} does not hold the same signature as the .sig beside it"
            raise _bad_signature(trusted, problem)


def _check_threshold(
    role: Role, trust: Trust, trusted: list[TrustedKey], present: dict[str, set[str]]
) -> None:
    needed = trust.threshold.get(role, 0)
    signed = [key for key in trusted if role in key.roles]
    if len(signed) >= needed:
        return
    raise TrustError(
        "not-trusted",
        f"{len(signed)} trusted {role.value} keys signed this bundle; {needed} must",
        context={
            "trusted": ", ".join(key.key.key_id[:16] for key in trust.of_role(role)),
            "signed by": ", ".join(key_id[:16] for key_id in sorted(present)) or "nobody",
        },
        hint="get the key from its owner by a way you trust, or ask for the signature",
    )


def _bad_signature(trusted: TrustedKey, problem: str) -> TrustError:
    return TrustError(
        "bad-signature",
        problem,
        context={"key": trusted.name},
        hint="the bundle was changed after it was signed, or the signature is another's",
    )
