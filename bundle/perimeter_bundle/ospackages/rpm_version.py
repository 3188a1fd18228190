"""Which of two versions of an rpm package is newer, and what a relation to one admits.

https://rpm-software-management.github.io/rpm/manual/dependencies.html
https://rpm-software-management.github.io/rpm/man/rpm-version.7
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 200
_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
_LESS, _EQUAL, _GREATER = "<", "=", ">"


@dataclass(frozen=True, slots=True)
class Evr:
    """Epoch, version and release; an empty release stands for any."""

    epoch: int
    version: str
    release: str

    @classmethod
    def make(cls, epoch: str, version: str, release: str) -> Evr:
        """Raises ValueError; a missing epoch is 0, and a dependency may hold odd characters."""
        if (epoch and not epoch.isdecimal()) or len(epoch) > 10 or not epoch.isascii():
            raise ValueError(f"{epoch[:30]!r} is not an epoch")
        for text in (version, release):
            if len(text) > MAX_TEXT or not text.isprintable() or " " in text:
                raise ValueError(f"{text[:60]!r} is not a version of a package")
        return cls(int(epoch or 0), version, release)

    @classmethod
    def parse(cls, text: str) -> Evr:
        """``[epoch:]version[-release]``; raises ValueError."""
        epoch, colon, rest = text.partition(":")
        whole = rest if colon else text
        before, dash, after = whole.rpartition("-")
        version, release = (before, after) if dash else (whole, "")
        if not version:
            raise ValueError(f"{text[:60]!r} is not a version of a package")
        return cls.make(epoch if colon else "", version, release)

    def compare(self, other: Evr) -> int:
        """-1, 0 or 1; a release that one of them lacks is not compared."""
        if self.epoch != other.epoch:
            return -1 if self.epoch < other.epoch else 1
        by_version = compare_versions(self.version, other.version)
        if by_version or not self.release or not other.release:
            return by_version
        return compare_versions(self.release, other.release)

    def __str__(self) -> str:
        epoch = f"{self.epoch}:" if self.epoch else ""
        return epoch + self.version + (f"-{self.release}" if self.release else "")


def compare_versions(one: str, other: str) -> int:
    """As rpmvercmp: -1, 0 or 1.

    Runs of digits and of letters are compared in turn, what lies between only separates. A number
    is newer than letters, ``~`` older than the end, ``^`` newer than the end and older than more.
    """
    ours, theirs = _SEGMENT.findall(one), _SEGMENT.findall(other)
    for index in range(max(len(ours), len(theirs))):
        left = ours[index] if index < len(ours) else ""
        right = theirs[index] if index < len(theirs) else ""
        if left == right:
            continue
        for mark, sign in (("~", -1), ("^", 0)):
            if mark in (left, right):
                if not sign:  # after the mark: newer than the end, older than anything else
                    sign = 1 if not (right if left == mark else left) else -1
                return sign if left == mark else -sign
        if not left or not right:
            return 1 if left else -1
        if left.isdigit() != right.isdigit():
            return 1 if left.isdigit() else -1
        ranks = _rank(left), _rank(right)
        if ranks[0] != ranks[1]:
            return -1 if ranks[0] < ranks[1] else 1
    return 0


def _rank(segment: str) -> tuple[int, str]:
    """Numbers by their value without converting them: an index may hold very long ones."""
    if not segment.isdigit():
        return 0, segment
    digits = segment.lstrip("0")
    return len(digits), digits


@dataclass(frozen=True, slots=True)
class Capability:
    """``name operator evr``: what a package provides, or requires of another.

    Without an operator every version is meant.
    """

    name: str
    operator: str = ""  # < <= = >= >
    evr: Evr | None = None

    def meets(self, other: Capability) -> bool:
        """Whether some version is admitted by both."""
        if self.name != other.name:
            return False
        if self.evr is None or other.evr is None:
            return True
        order = self.evr.compare(other.evr)
        if order < 0:
            return _GREATER in self.operator or _LESS in other.operator
        if order > 0:
            return _LESS in self.operator or _GREATER in other.operator
        return any(
            sign in self.operator and sign in other.operator for sign in (_LESS, _EQUAL, _GREATER)
        )

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.evr}" if self.evr else self.name
