"""What a repository gives for an image that compiles at the site, whatever its family is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from perimeter_bundle.model.digest import Digest

SHOWN_NAMES = 6
_BEFORE_NUMBER = re.compile(r"[^0-9]*")


class Family(Enum):
    """How packages of a system are made and served; the value begins names in a bundle."""

    DEB = "deb"
    RPM = "rpm"


# ID of os-release → what its repositories hold
FAMILIES = {
    **dict.fromkeys(("debian", "ubuntu"), Family.DEB),
    **dict.fromkeys(
        (
            *("rhel", "rocky", "almalinux", "centos", "ol", "fedora"),
            *("sles", "opensuse-leap"),
        ),
        Family.RPM,
    ),
}


@dataclass(frozen=True, slots=True)
class FoundPackage:
    """A package to carry."""

    family: Family
    name: str
    version: str
    architecture: str  # as the distribution calls it
    processor: str  # amd64; empty: for every one
    url: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class MissingPackage:
    """What no repository has, who needs it, and what there is that looks like it."""

    name: str
    needed_by: str = ""
    there: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Packages to carry, sorted, and what is missing."""

    packages: tuple[FoundPackage, ...]
    missing: tuple[MissingPackage, ...]


class PackageIndex(Protocol):
    """The repositories of one system, read and checked."""

    def select(
        self, install: Sequence[str], download: Sequence[str], if_there: Sequence[str]
    ) -> Selection:
        """``install`` with all they depend on, ``download`` and ``if_there`` alone."""


def nearest(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that are like ``name``: the same up to its first number."""
    match = _BEFORE_NUMBER.match(name)
    beginning = match[0] if match else ""
    likely = sorted({one for one in names if one.startswith(beginning)}) if beginning else []
    return tuple(difflib.get_close_matches(name, likely[-500:], SHOWN_NAMES, 0.0))
