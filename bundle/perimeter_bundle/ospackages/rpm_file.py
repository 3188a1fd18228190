"""An rpm file taken apart: its header, what is signed, and the digest of what follows.

https://rpm-software-management.github.io/rpm/manual/format.html (version 4)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

MAX_HEADER_BYTES = 64 * MIB
MAX_TAGS = 10_000
_LEAD = struct.Struct(">4sBB")
_LEAD_BYTES = 96
_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_HEADER_MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
_SIGNATURE_TAGS = (268, 267)  # over the header alone: RSA; DSA and EdDSA
_PAYLOAD_DIGEST, _PAYLOAD_ALGORITHM = 5092, 5093
_SHA256 = 8
_CHUNK_BYTES = 1024 * 1024

Value = tuple[int, ...] | tuple[str, ...] | bytes


@dataclass(frozen=True, slots=True)
class RpmFile:
    """``tags`` of the header by number; ``signed`` is the header as it was signed."""

    tags: Mapping[int, Value]
    signed: bytes = field(repr=False)
    signature: bytes  # OpenPGP, binary; empty: not signed
    header_start: int
    header_end: int
    payload: Digest

    def text(self, tag: int) -> str:
        """The first text of a tag; empty when there is none."""
        found = self.texts(tag)
        return found[0] if found else ""

    def texts(self, tag: int) -> tuple[str, ...]:
        """Every text of a tag."""
        value = self.tags.get(tag, ())
        return tuple(str(one) for one in value) if isinstance(value, tuple) else ()

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Every number of a tag."""
        value = self.tags.get(tag, ())
        found = value if isinstance(value, tuple) else ()
        return tuple(one for one in found if isinstance(one, int))

    def number(self, tag: int) -> int:
        """The first number of a tag; 0 when there is none."""
        found = self.numbers(tag)
        return found[0] if found else 0

    @property
    def payload_problem(self) -> str | None:
        """Why the payload is not what the header, and so its signature, speaks of."""
        promised = self.text(_PAYLOAD_DIGEST)
        if not promised or self.number(_PAYLOAD_ALGORITHM) != _SHA256:
            return "its header has no SHA-256 of the payload: the signature does not cover it"
        if promised != self.payload.hex:
            return "its payload is not the one that its header was signed with"
        return None


def read_rpm(path: Path, what: str) -> RpmFile:
    """Raises IntegrityError[bad-rpm]."""
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except (ValueError, struct.error, OSError) as error:
        raise IntegrityError("bad-rpm", f"{what} is not a usable rpm package: {error}") from error


def _read(stream: BinaryIO) -> RpmFile:
    lead = stream.read(_LEAD_BYTES)
    magic, major, _ = _LEAD.unpack_from(lead)
    if magic != _LEAD_MAGIC or len(lead) != _LEAD_BYTES or major not in (3, 4):
        raise ValueError("it does not begin like one")
    signatures, _ = _header(stream)
    stream.seek(-stream.tell() % 8, 1)
    start = stream.tell()
    tags, signed = _header(stream)
    end = stream.tell()
    hasher = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        hasher.update(chunk)
    found = [signatures.get(tag) for tag in _SIGNATURE_TAGS]
    signature = next((one for one in found if isinstance(one, bytes)), b"")
    return RpmFile(tags, signed, signature, start, end, Digest.of_hasher(hasher))


def _header(stream: BinaryIO) -> tuple[Mapping[int, Value], bytes]:
    intro = stream.read(16)
    if intro[:8] != _HEADER_MAGIC:
        raise ValueError("it has no header where one must be")
    count, size = struct.unpack(">II", intro[8:])
    if count > MAX_TAGS or size > MAX_HEADER_BYTES:
        raise ValueError("its header is larger than any honest one")
    index, store = stream.read(16 * count), stream.read(size)
    if len(index) != 16 * count or len(store) != size:
        raise ValueError("it ends within its header")
    tags: dict[int, Value] = {}
    for tag, kind, offset, length in struct.iter_unpack(">IIII", index):
        if tag in tags:
            raise ValueError(f"its header has tag {tag} twice")
        tags[tag] = _value(store, kind, offset, length)
    return tags, intro + index + store


def _value(store: bytes, kind: int, offset: int, length: int) -> Value:
    if offset > len(store) or length > len(store):
        raise ValueError("a tag of its header lies outside")
    if kind in (6, 8, 9):  # text, several, translated
        pieces = _texts(store, offset, length)
        if len(pieces) != length:
            raise ValueError("a tag of its header lies outside")
        return tuple(piece.decode("utf-8", "replace") for piece in pieces)
    sizes = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q"}
    if kind in sizes:
        return struct.unpack_from(f">{length}{sizes[kind]}", store, offset)
    if kind == 7:
        if offset + length > len(store):
            raise ValueError("a tag of its header lies outside")
        return store[offset : offset + length]
    return ()


def _texts(store: bytes, offset: int, length: int) -> list[bytes]:
    pieces = []
    for _ in range(length):
        end = store.find(b"\0", offset)
        if end < 0:
            break
        pieces.append(store[offset:end])
        offset = end + 1
    return pieces
