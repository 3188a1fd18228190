"""Content digests, as the OCI image specification writes them (``sha256:<hex>``).

https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from perimeter_bundle.model.errors import InputError

if TYPE_CHECKING:
    from hashlib import _Hash


class Algorithm(Enum):
    """Registered digest algorithms."""

    SHA256 = "sha256"
    SHA512 = "sha512"


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Algorithm and lower-case hexadecimal value; sorts by its text."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest written in ``text``; raises InputError[bad-digest]."""
        if not is_digest(text):
            raise InputError(
                "bad-digest",
                f"not a digest: {text[:100]!r}",
                hint="a digest reads sha256: and 64 lower-case hexadecimal digits",
            )
        return cls(text)

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        """The SHA-256 digest of ``data``."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}")

    @classmethod
    def of_hasher(cls, hasher: _Hash) -> Digest:
        """The digest a finished hashlib object holds."""
        return cls.parse(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> Algorithm:
        """Which algorithm made it."""
        return Algorithm(self.text.partition(":")[0])

    @property
    def hex(self) -> str:
        """The hexadecimal value alone."""
        return self.text.partition(":")[2]

    def of_same_kind(self, data: bytes) -> Digest:
        """The digest of ``data`` by the same algorithm."""
        hasher = self.new_hasher()
        hasher.update(data)
        return Digest.of_hasher(hasher)

    def new_hasher(self) -> _Hash:
        """A fresh hashlib object of the same algorithm."""
        return hashlib.new(self.algorithm.value)

    def __str__(self) -> str:
        return self.text


def is_digest(text: str) -> bool:
    """Whether ``Digest.parse`` would take it."""
    return _DIGEST.fullmatch(text) is not None
