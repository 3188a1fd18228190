"""What the rules give back: findings, each with a name that stays, and where it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How bad a finding is; an error that nobody accepted stops ``lock`` and ``build``."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return _RANKS[self]

    def lower(self) -> Severity:
        """One step less bad."""
        return Severity.WARNING if self is Severity.ERROR else Severity.NOTE


_RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """Where something was seen: a component, an object of it, and what stands there."""

    component: str
    object_name: str  # such as Deployment/kubeflow/ml-pipeline; empty: the component itself
    path: str
    seen: str

    def __str__(self) -> str:
        parts = [part for part in (self.component, self.object_name, self.path) if part]
        return f"{self.seen} ({' '.join(parts)})" if self.seen else " ".join(parts)

    def to_dict(self) -> dict[str, object]:
        """As coherence.json holds it."""
        return {
            "component": self.component,
            "object": self.object_name,
            "path": self.path,
            "seen": self.seen,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit, or that a reviewer should know.

    ``id`` is ``rule:subject``. It holds no version, so that it stays the same from one upstream
    release to the next and a release file can name it.
    """

    rule: str
    subject: str
    severity: Severity
    title: str
    why: str  # why it matters at a site
    spots: tuple[Spot, ...]
    what_to_do: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "spots", tuple(sorted(set(self.spots))))

    @property
    def id(self) -> str:
        """What a release's ``accept`` names."""
        return f"{self.rule}:{self.subject}"

    def to_dict(self) -> dict[str, object]:
        """As coherence.json holds it."""
        return {
            "id": self.id,
            "rule": self.rule,
            "severity": self.severity.value,
            "title": self.title,
            "why": self.why,
            "places": [spot.to_dict() for spot in self.spots],
            "what_to_do": self.what_to_do,
        }


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by id."""
    return tuple(sorted(findings, key=lambda one: (one.severity.rank, one.id)))
