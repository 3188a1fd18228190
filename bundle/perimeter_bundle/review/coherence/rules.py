"""What the catalog says about coherence: products of a component, acceptances of a release."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Same(Enum):
    """How much of the version the parts of a product share."""

    VERSION = "version"
    MINOR = "minor"
    MAJOR = "major"


@dataclass(frozen=True, slots=True)
class Product:
    """Images that a component's author knows to belong together."""

    name: str
    images: tuple[str, ...]  # globs of host/repository
    same: Same
    evidence: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A finding that the release's author looked at, and why it may stay."""

    finding: str  # its id
    reason: str
