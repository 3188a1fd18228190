"""Findings and what the release accepts of them → what a reviewer reads; refused or not."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.review.coherence.rules import Acceptance
from perimeter_bundle.review.coherence.values import Finding, Severity

COHERENCE_FORMAT = "perimeter-coherence/1"
SHOWN_SPOTS = 4  # in errors and on the terminal; coherence.json has all


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every finding, and the reason for those that are accepted."""

    findings: tuple[Finding, ...]
    acceptances: tuple[Acceptance, ...]

    def reason(self, finding: Finding) -> str | None:
        """Why it is accepted; None when it is not."""
        for one in self.acceptances:
            if one.finding == finding.id:
                return one.reason
        return None

    def open(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of this severity that nobody accepted."""
        return tuple(
            one for one in self.findings if one.severity is severity and self.reason(one) is None
        )

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Acceptances of what was not found."""
        there = {one.id for one in self.findings}
        return tuple(sorted(a.finding for a in self.acceptances if a.finding not in there))

    def to_dict(self) -> dict[str, object]:
        """What coherence.json holds; docs/formats/coherence.md."""
        return {
            "format": COHERENCE_FORMAT,
            "findings": [{**one.to_dict(), "accepted": self.reason(one)} for one in self.findings],
        }

    def to_bytes(self) -> bytes:
        """coherence.json; the same findings, the same bytes."""
        return dump_object(self.to_dict())

    def summary(self) -> str:
        """One line: how many of each, and how many are accepted."""
        if not self.findings:
            return "coherence: nothing found"
        counts = Counter(one.severity for one in self.findings)
        parts = [
            f"{counts[s]} {s.value}{'s' if counts[s] > 1 else ''}" for s in Severity if counts[s]
        ]
        accepted = sum(self.reason(one) is not None for one in self.findings)
        return f"coherence: {', '.join(parts)}; {accepted} accepted"

    def lines(self) -> tuple[str, ...]:
        """For a terminal: the summary, then errors and warnings with the reasons for accepting."""
        lines = [self.summary()]
        for one in self.findings:
            if one.severity is Severity.NOTE:
                continue
            reason = self.reason(one)
            lines.append(f"  {one.severity.value}: {one.title}")
            lines.append(f"    accepted: {reason}" if reason else f"    {one.id}")
        return tuple(lines)


def refuse_incoherent(judgement: Judgement, release: str, *, is_complete: bool = True) -> None:
    """Raises InputError[incoherent] when an error is not accepted, or an acceptance fits nothing.

    Acceptances are looked at only when every rule has run (``is_complete``).
    """
    problems = [_problem(one) for one in judgement.open(Severity.ERROR)]
    if is_complete:
        known = [one.id for one in judgement.findings]
        problems += [_stale(name, known) for name in judgement.unmatched]
    if problems:
        raise InputError(
            "incoherent",
            f"release {release} does not belong together: {len(problems)} "
            f"problem{'s' if len(problems) > 1 else ''}",
            problems=problems,
            hint=f"mend it, or accept a finding in releases/{release}.yaml with accept: "
            "[{finding: ID, reason: …}]; docs/coherence.md explains each rule",
        )


def _problem(finding: Finding) -> str:
    lines = [f"{finding.id}: {finding.title}"]
    lines += [str(spot) for spot in finding.spots[:SHOWN_SPOTS]]
    more = len(finding.spots) - SHOWN_SPOTS
    if more > 0:
        lines.append(f"and {more} more place{'s' if more > 1 else ''}")
    lines.append(f"what to do: {finding.what_to_do}")
    return "\n".join(lines)


def _stale(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    text = f"{name}: is accepted, and was not found; take the acceptance out"
    return f"{text}, or did you mean {near[0]}?" if near else text
