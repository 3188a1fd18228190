"""What the table says: a figure of ours, the best peer's, how they compare, and what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Run


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    ``ratio`` is better when it is larger; where a limit is asked for instead of a ratio, it is the
    limit divided by what was measured, so 1 is enough everywhere a goal says nothing else.
    """

    name: str
    ours: float
    unit: str
    goal: str
    ratio: float | None = None
    peer: str = ""
    best_peer: float | None = None
    holds: bool | None = None  # None: there is no goal, the figure is for the reader
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """For results.json."""
        return {
            "name": self.name,
            "ours": _rounded(self.ours),
            "best_peer": _rounded(self.best_peer),
            "peer": self.peer,
            "ratio": _rounded(self.ratio),
            "goal": self.goal,
            "holds": self.holds,
            "unit": self.unit,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """Ours beside one peer, pair by pair: the median of each, and of their ratios."""

    peer: str
    ours: float
    theirs: float
    ratio: float  # theirs divided by ours


def compare(rounds: Sequence[Sequence[Run]], ours: str, figure: str) -> tuple[Compared, ...]:
    """Ours beside every peer that counted in a round with ours; the best peer first."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for members in rounds:
        counted = {run.tool: float(getattr(run, figure)) for run in members if run.counts}
        mine = counted.pop(ours, None)
        for peer, value in counted.items():
            if mine:
                pairs.setdefault(peer, []).append((mine, value))
    found = [
        Compared(
            peer,
            median(mine for mine, _ in values),
            median(theirs for _, theirs in values),
            median(theirs / mine for mine, theirs in values),
        )
        for peer, values in pairs.items()
    ]
    return tuple(sorted(found, key=lambda one: one.ratio))


def at_least(
    name: str,
    compared: Sequence[Compared],
    unit: str,
    goal: float,
    *,
    note: str = "",
    per: float = 1.0,
) -> Row:
    """A row that asks for so many times the best peer; ``per`` divides both figures."""
    if not compared:
        return Row(name, 0.0, unit, f"≥ {goal} × the best peer", holds=False, note="no pair counts")
    best = compared[0]
    return Row(
        name,
        best.ours / per,
        unit,
        f"≥ {goal} × the best peer",
        ratio=best.ratio,
        peer=best.peer,
        best_peer=best.theirs / per,
        holds=best.ratio >= goal,
        note=note,
    )


def at_most(name: str, value: float, unit: str, limit: float, *, note: str = "") -> Row:
    """A row that asks for no more than a limit."""
    holds = 0 < value <= limit
    ratio = limit / value if value else None
    return Row(name, value, unit, f"≤ {limit:g} {unit}", ratio=ratio, holds=holds, note=note)


def share(name: str, value: float, whole: float, unit: str, goal: float, *, note: str = "") -> Row:
    """A row that asks for a share of what is possible at all, both as speeds."""
    ratio = value / whole if whole else 0.0
    return Row(
        name,
        value,
        unit,
        f"≥ {goal:.0%} of it",
        ratio=ratio,
        peer="possible",
        best_peer=whole,
        holds=ratio >= goal,
        note=note,
    )


def for_reader(name: str, best: Compared, unit: str) -> Row:
    """A row beside the best peer without a goal."""
    return Row(name, best.ours, unit, "", ratio=best.ratio, peer=best.peer, best_peer=best.theirs)


def refused(rounds: Sequence[Sequence[Run]]) -> Mapping[str, str]:
    """Why a tool's runs did not count, by its name."""
    return {
        run.tool: run.problem or f"exit status {run.status}: {run.said[-200:]}"
        for members in rounds
        for run in members
        if not run.counts
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
