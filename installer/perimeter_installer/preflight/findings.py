"""What preflight has to say: findings, and the table they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from perimeter_bundle.terminal.text import text_table

SITE_WIDE = "(site)"


class Severity(IntEnum):
    """How bad; sorts the worst first."""

    ERROR = 0  # the installation would fail or harm something
    WARNING = 1  # it works, with a drawback that somebody should know
    INFO = 2  # unusual, and meant to work
    OK = 3

    @property
    def word(self) -> str:
        """As tables and JSON say it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement: what was found, why it matters, how to mend it."""

    host: str
    check: str
    severity: Severity
    what: str
    why: str = ""
    how: str = ""

    def to_dict(self) -> dict[str, str]:
        """As ``--json`` prints it."""
        return {
            "host": self.host,
            "check": self.check,
            "severity": self.severity.word,
            "what": self.what,
            "why": self.why,
            "how": self.how,
        }


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then by check and host."""
    return sorted(findings, key=lambda finding: (finding.severity, finding.check, finding.host))


def count(findings: Iterable[Finding], severity: Severity) -> int:
    """How many have this severity."""
    return sum(1 for finding in findings if finding.severity is severity)


def findings_text(findings: Sequence[Finding], *, everything: bool = False) -> str:
    """The findings as a table, equal ones of several hosts in one row, explanations below.

    What is in order is counted only, unless ``everything``.
    """
    shown = [each for each in findings if everything or each.severity is not Severity.OK]
    groups: dict[tuple[Severity, str, str, str, str], list[str]] = {}
    for finding in sort_findings(shown):
        key = (finding.severity, finding.check, finding.what, finding.why, finding.how)
        groups.setdefault(key, []).append(finding.host)
    rows: list[tuple[str, ...]] = []
    explained: dict[str, str] = {}  # its mark by explanation
    for (severity, check, what, why, how), hosts in groups.items():
        mark = ""
        if why or how:
            text = f"{check}: {why}" + (f"\n    mend: {how}" if how else "")
            mark = explained.setdefault(text, f"[{len(explained) + 1}]")
        rows.append((severity.word, ",".join(hosts), check, what, mark))
    parts = []
    if rows:
        parts.append(text_table(("severity", "host", "check", "found", "see"), rows))
    if explained:
        parts.append("\n".join(f"{mark} {text}" for text, mark in explained.items()))
    parts.append(summary(findings))
    return "\n\n".join(parts)


def summary(findings: Sequence[Finding]) -> str:
    """One line: how many of each severity."""
    words = {
        Severity.ERROR: ("error", "errors"),
        Severity.WARNING: ("warning", "warnings"),
        Severity.INFO: ("remark", "remarks"),
        Severity.OK: ("check in order", "checks in order"),
    }
    parts = []
    for severity, (one, several) in words.items():
        number = count(findings, severity)
        parts.append(f"{number} {one if number == 1 else several}")
    return ", ".join(parts)
