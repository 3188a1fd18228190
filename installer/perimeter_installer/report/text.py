"""A report as plain text for a terminal: failures in full, the rest one line each."""

from __future__ import annotations

from perimeter_installer.report.model import CheckResult, Outcome, Report

MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}
MAX_EVIDENCE_LINES = 12


def to_text(report: Report) -> str:
    """The report; the last line says how it ended."""
    lines = [
        f"Site {report.site} · release {report.release} · bundle {short_digest(report.bundle)}"
        f" · signed by {', '.join(one.name for one in report.signers) or 'nobody'}",
        "",
        *_table(
            ("NODE", "ADDRESS", "STATE", "KUBELET", "RUNTIME", "GROUPS"),
            *(
                (
                    node.name,
                    node.address,
                    node.state,
                    node.kubelet or "-",
                    node.runtime or "-",
                    " ".join(node.groups),
                )
                for node in report.nodes
            ),
        ),
    ]
    for area, checks in report.by_area().items():
        lines += ["", area.title]
        for check in checks:
            lines += _check_lines(check)
    return "\n".join([*lines, "", summary(report)])


def summary(report: Report) -> str:
    """How many checks passed, failed and were skipped, and how long it took."""
    counts = [f"{report.count(Outcome.PASSED)} passed"]
    for outcome in (Outcome.FAILED, Outcome.SKIPPED):
        if report.count(outcome):
            counts.append(f"{report.count(outcome)} {outcome.value}")
    verdict = "the site works" if report.ok else "the site does NOT work as it should"
    return f"{verdict}: {', '.join(counts)} in {report.seconds:.0f} s"


def short_digest(digest: str) -> str:
    """``sha256:0123456789ab``: enough to compare by eye."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"


def _check_lines(check: CheckResult) -> list[str]:
    where = f" [{check.host}]" if check.host else ""
    head = f"  {MARKS[check.outcome]:<8}{check.title}{where}  {check.seconds:.1f} s"
    if check.outcome is Outcome.PASSED:
        return [head]
    evidence = list(check.evidence[:MAX_EVIDENCE_LINES])
    left = len(check.evidence) - len(evidence)
    evidence += [f"… and {left} more lines in the report"] if left else []
    evidence += [f"hint: {check.hint}"] if check.hint and check.outcome is Outcome.FAILED else []
    return [head, *(f"            {line}" for line in evidence)]


def _table(*rows: tuple[str, ...]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
