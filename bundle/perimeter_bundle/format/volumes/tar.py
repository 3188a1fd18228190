"""The tar headers of a volume: one way to write each, so that a reader compares instead of parsing.

A header depends on nothing but name and size, so two packs give the same bytes, and a volume whose
headers are not exactly these holds something that its list does not name. Format: ustar, with a
pax header before a name or a size that ustar cannot hold.
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
_MTIME = 315532800  # 1980: the earliest that FAT can hold, and nothing that tar warns of
_MAX_NAME_BYTES = 100
_MAX_USTAR_BYTES = 8**11


def member_header(name: str, size_bytes: int) -> bytes:
    """Everything that stands before the bytes of a member."""
    encoded = name.encode()
    records = b""
    if len(encoded) > _MAX_NAME_BYTES or not name.isascii():
        records += _record("path", name)
    if size_bytes >= _MAX_USTAR_BYTES:
        records += _record("size", str(size_bytes))
    plain = _block(encoded[:_MAX_NAME_BYTES], size_bytes if size_bytes < _MAX_USTAR_BYTES else 0)
    if not records:
        return plain
    extended = _block(b"././@PaxHeader", len(records), kind=b"x")
    return extended + records + bytes(padding_bytes(len(records))) + plain


def padding_bytes(size_bytes: int) -> int:
    """Zeros that follow so many bytes of a member."""
    return -size_bytes % BLOCK_BYTES


def member_bytes(name: str, size_bytes: int) -> int:
    """What a member takes up in a volume."""
    return len(member_header(name, size_bytes)) + size_bytes + padding_bytes(size_bytes)


def first_member_size(block: bytes, name: str) -> int | None:
    """Size of the member whose header ``block`` is; None when it is no header for ``name``."""
    try:
        size_bytes = int(block[124:135], 8)
    except ValueError:
        return None
    return size_bytes if size_bytes >= 0 and block == member_header(name, size_bytes) else None


def _block(name: bytes, size_bytes: int, kind: bytes = b"0") -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0" * 2,  # owner and group
        b"%011o\0" % size_bytes,
        b"%011o\0" % _MTIME,
        b" " * 8,  # the checksum counts as spaces in its own sum
        kind,
        bytes(100),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest
