"""The table of findings."""

from __future__ import annotations

from perimeter_installer.preflight.findings import Finding, Severity, findings_text, sort_findings
from perimeter_installer.preflight.run import Preflight

FINDINGS = (
    Finding("n2", "swap", Severity.ERROR, "swap is on", "no start", "swapoff -a"),
    Finding("n1", "clock", Severity.OK, "in order"),
    Finding("n1", "default route", Severity.INFO, "no default route", "normal"),
    Finding("n1", "swap", Severity.ERROR, "swap is on", "no start", "swapoff -a"),
    Finding("n1", "cgroups", Severity.WARNING, "cgroup v1", "kept alive only"),
)


def test_the_worst_come_first() -> None:
    found = sort_findings(FINDINGS)
    assert [each.severity for each in found] == sorted(each.severity for each in found)


def test_the_table_joins_hosts_and_explains_below() -> None:
    assert findings_text(FINDINGS) == (
        "severity  host   check          found             see\n"
        "error     n1,n2  swap           swap is on        [1]\n"
        "warning   n1     cgroups        cgroup v1         [2]\n"
        "info      n1     default route  no default route  [3]\n"
        "\n"
        "[1] swap: no start\n"
        "    mend: swapoff -a\n"
        "[2] cgroups: kept alive only\n"
        "[3] default route: normal\n"
        "\n"
        "2 errors, 1 warning, 1 remark, 1 check in order"
    )


def test_what_many_rows_have_in_common_is_explained_once() -> None:
    lacking = [Finding("n1", "base", Severity.ERROR, f"lacks {n}", "a delta", "load") for n in "ab"]
    text = findings_text(lacking)
    assert text.count("[1]") == 3 and "[2]" not in text
    assert text.count("[1] base: a delta\n    mend: load") == 1


def test_everything_shows_what_is_in_order_too() -> None:
    assert "in order" in findings_text(FINDINGS, everything=True).splitlines()[4]


def test_only_errors_end_with_status_1() -> None:
    assert Preflight(FINDINGS).status == 1
    assert Preflight(FINDINGS[1:3]).status == 0
    assert Preflight(FINDINGS).to_dict()["counts"] == {
        "error": 2, "warning": 1, "info": 1, "ok": 1
    }  # fmt: skip
