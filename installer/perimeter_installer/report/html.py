"""A report as one HTML page that needs nothing else: no script, no font, no picture from outside.

It is kept as evidence and printed; so it must look the same on a machine without any network.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined

from perimeter_installer.report.model import Outcome, Report
from perimeter_installer.report.text import short_digest


def to_html(report: Report) -> str:
    """The page; everything that came from hosts or the cluster is escaped."""
    areas = [
        {
            "title": area.title,
            "checks": checks,
            "passed": sum(one.outcome is Outcome.PASSED for one in checks),
            "failed": sum(one.outcome is Outcome.FAILED for one in checks),
        }
        for area, checks in report.by_area().items()
    ]
    return (
        _environment()
        .from_string(_template())
        .render(
            report=report,
            areas=areas,
            passed=report.count(Outcome.PASSED),
            failed=report.count(Outcome.FAILED),
            skipped=report.count(Outcome.SKIPPED),
            failures=[one for one in report.checks if one.outcome is Outcome.FAILED],
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short_digest"] = short_digest
    environment.filters["duration"] = _duration
    return environment


@cache
def _template() -> str:
    return resources.files(__package__).joinpath("templates/report.html.j2").read_text("utf-8")


def _duration(seconds: float) -> str:
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
