"""A report as JUnit XML, the form that CI systems read."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from perimeter_installer.report.model import CheckResult, Outcome, Report

# XML 1.0 has no way to write most control characters; output of programs may hold them
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> bytes:
    """One test suite for each area; a check is a test case with its evidence as output."""
    root = Xml.Element(
        "testsuites",
        name=f"perimeter check {report.site}",
        tests=str(len(report.checks)),
        failures=str(report.count(Outcome.FAILED)),
        skipped=str(report.count(Outcome.SKIPPED)),
        time=f"{report.seconds:.3f}",
    )
    for area, checks in report.by_area().items():
        suite = Xml.SubElement(
            root,
            "testsuite",
            name=area.value,
            tests=str(len(checks)),
            failures=str(sum(one.outcome is Outcome.FAILED for one in checks)),
            errors="0",
            skipped=str(sum(one.outcome is Outcome.SKIPPED for one in checks)),
            time=f"{sum(one.seconds for one in checks):.3f}",
            timestamp=report.started.strftime("%Y-%m-%dT%H:%M:%S"),
        )
        properties = Xml.SubElement(suite, "properties")
        for name in ("site", "release", "bundle"):
            Xml.SubElement(properties, "property", name=name, value=str(getattr(report, name)))
        for check in checks:
            _add_case(suite, check)
    Xml.indent(root)
    text: str = Xml.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _add_case(suite: Xml.Element, check: CheckResult) -> None:
    case = Xml.SubElement(
        suite,
        "testcase",
        classname=f"{check.area.value}.{check.host}" if check.host else check.area.value,
        name=_text(check.title),
        time=f"{check.seconds:.3f}",
    )
    evidence = _text("\n".join(check.evidence))
    if check.outcome is Outcome.FAILED:
        first = evidence.partition("\n")[0] or "failed"
        failure = Xml.SubElement(case, "failure", message=first, type=check.name)
        failure.text = "\n".join(filter(None, [evidence, _text(check.hint)]))
    elif check.outcome is Outcome.SKIPPED:
        Xml.SubElement(case, "skipped", message=evidence.partition("\n")[0])
    elif evidence:
        Xml.SubElement(case, "system-out").text = evidence


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
