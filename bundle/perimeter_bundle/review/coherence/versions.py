"""What a tag says about a version, as far as tags can be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAG = re.compile(r"[vV]?(?P<numbers>\d+(?:\.\d+){1,3})(?P<rest>(?:[-_+].*|\.?[a-z].*)?)")
_PRERELEASE = re.compile(r"[-_.]?(?P<pre>(?:rc|alpha|beta|dev|pre|snapshot|milestone)[-.]?\d*)\b")


@dataclass(frozen=True, slots=True, order=True)
class TagVersion:
    """The version in a tag: ``v0.16.0-gpu`` is 0.16.0, and so is ``0.16.0``.

    What follows the numbers is a flavour of the same version (``-gpu``, ``-alpine``, ``-0``)
    unless it marks a version that comes before it (``-rc.1``).
    """

    numbers: tuple[int, ...]
    prerelease: str = ""

    def __str__(self) -> str:
        text = ".".join(str(number) for number in self.numbers)
        return f"{text}-{self.prerelease}" if self.prerelease else text

    def is_near(self, other: TagVersion) -> bool:
        """Whether both count alike and have the same first number: 1.28.0 and 1.29.0."""
        return self.numbers[0] == other.numbers[0] and len(self.numbers) == len(other.numbers)

    def differs_in_patch_only(self, other: TagVersion) -> bool:
        """1.28.0 and 1.28.3."""
        return self.numbers[:2] == other.numbers[:2]


def tag_version(tag: str) -> TagVersion | None:
    """The version ``tag`` holds; None for a date, a commit, a name, or a single number."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    before = _PRERELEASE.match(match["rest"])
    numbers = tuple(int(number[:18]) for number in match["numbers"].split("."))
    return TagVersion(numbers, before["pre"] if before else "")
