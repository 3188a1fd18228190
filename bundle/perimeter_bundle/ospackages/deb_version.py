"""Which of two versions of a Debian package is newer.

https://www.debian.org/doc/debian-policy/ch-controlfields.html#version
"""

from __future__ import annotations

import re
from functools import total_ordering

_VERSION = re.compile(r"(?:(\d{1,9}):)?([A-Za-z0-9][A-Za-z0-9.+~-]*?)(?:-([A-Za-z0-9.+~]+))?")
_PART = re.compile(r"([^0-9]*)([0-9]*)")


@total_ordering
class DebVersion:
    """A version as dpkg orders it; raises ValueError for a text that is none."""

    __slots__ = ("_key", "text")

    def __init__(self, text: str) -> None:
        match = _VERSION.fullmatch(text) if len(text) <= 200 else None
        if not match:
            raise ValueError(f"{text[:60]!r} is not a version of a package")
        self.text = text
        self._key = (int(match[1] or 0), _parts(match[2]), _parts(match[3] or ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DebVersion) and self._key == other._key

    def __lt__(self, other: DebVersion) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.text


def _parts(text: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Letters and numbers in turn. A tilde sorts before the end, the end before letters, letters
    before everything else."""
    found: list[tuple[tuple[int, ...], int]] = []
    for letters, digits in _PART.findall(text):
        if letters or digits:
            ranks = tuple(_rank(char) for char in letters)
            found.append(((*ranks, 0), int(digits or 0)))
    end = ((0,), 0)
    while found and found[-1] == end:  # 1.0 is 1.0-0
        found.pop()
    return (*found, end)  # the end itself: 1.0~rc < 1.0 < 1.0a


def _rank(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
