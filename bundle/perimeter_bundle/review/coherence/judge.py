"""Findings and what the release accepts of them → what a reviewer reads; refused or not."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.reader import Reader, Table
from perimeter_bundle.review.coherence.rules import Acceptance
from perimeter_bundle.review.coherence.values import Finding, Severity, Spot

COHERENCE_FORMAT = "perimeter-coherence/1"
MAX_COHERENCE_BYTES = 64 * MIB
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

    def to_list(self) -> list[dict[str, object]]:
        """Each finding, with the reason why it is accepted or None."""
        return [{**one.to_dict(), "accepted": self.reason(one)} for one in self.findings]

    def to_bytes(self) -> bytes:
        """coherence.json; the same findings, the same bytes. docs/formats/coherence.md"""
        return dump_object({"format": COHERENCE_FORMAT, "findings": self.to_list()})

    @classmethod
    def parse(cls, data: bytes) -> Judgement:
        """What ``to_bytes`` wrote; raises IntegrityError[bad-json] or [bad-coherence]."""
        document = parse_object(data, "coherence.json", max_bytes=MAX_COHERENCE_BYTES)
        if document.get("format") != COHERENCE_FORMAT:
            raise IntegrityError(
                "bad-coherence",
                f"coherence.json has the unknown format {document.get('format')!r}",
                context={"expected": COHERENCE_FORMAT},
            )
        reader = Reader()
        pairs = reader.tables(document, "findings", _read_finding)
        if reader.problems:
            raise IntegrityError(
                "bad-coherence", "coherence.json cannot be used", problems=reader.problems[:20]
            )
        return cls(
            tuple(finding for finding, _ in pairs),
            tuple(Acceptance(finding.id, reason) for finding, reason in pairs if reason),
        )

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


def _read_finding(reader: Reader, table: Table, where: str) -> tuple[Finding, str]:
    rule, colon, subject = reader.text(table, "id", where).partition(":")
    if not colon:
        reader.problems.append(f"{where}: id must be rule:subject")
    finding = Finding(
        rule=rule,
        subject=subject,
        severity=reader.value(table, "severity", where, Severity, Severity.NOTE),
        title=reader.text(table, "title", where),
        why=reader.text(table, "why", where),
        spots=tuple(reader.tables(table, "places", _read_spot)),
        what_to_do=reader.text(table, "what_to_do", where),
    )
    is_accepted = table.get("accepted") is not None
    return finding, reader.text(table, "accepted", where) if is_accepted else ""


def _read_spot(reader: Reader, table: Table, where: str) -> Spot:
    return Spot(
        component=reader.text(table, "component", where),
        object_name=reader.text(table, "object", where, empty=True),
        path=reader.text(table, "path", where, empty=True),
        seen=reader.text(table, "seen", where, empty=True),
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
