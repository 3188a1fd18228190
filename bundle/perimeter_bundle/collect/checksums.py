"""The SHA-256 files that projects publish beside their downloads. Pure."""

from __future__ import annotations

import re

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import NetworkError

MAX_CHECKSUM_BYTES = 1024 * 1024

_GNU = re.compile(r"([0-9a-fA-F]{64})(?:\s+\*?(\S.*))?")
_BSD = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})")


def find_checksum(text: bytes, file_name: str, url: str) -> Digest:
    """The digest of ``file_name`` in ``text``: a bare digest, GNU lines or BSD lines.

    Raises NetworkError[bad-checksum-file]; ``url`` names the file in it.
    """
    bare: list[str] = []
    named: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        gnu, bsd = _GNU.fullmatch(line.strip()), _BSD.fullmatch(line.strip())
        if bsd:
            named[_last_part(bsd[1])] = bsd[2].lower()
        elif gnu and gnu[2]:
            named[_last_part(gnu[2])] = gnu[1].lower()
        elif gnu:
            bare.append(gnu[1].lower())
    if file_name in named:
        return Digest.parse(f"sha256:{named[file_name]}")
    if len(bare) == 1 and not named:
        return Digest.parse(f"sha256:{bare[0]}")
    raise NetworkError(
        "bad-checksum-file",
        f"{url} holds no SHA-256 of {file_name}",
        context={"names in it": ", ".join(sorted(named)[:10]) or "none"},
        hint="the project may publish its sums elsewhere now: correct checksum_url",
    )


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]
