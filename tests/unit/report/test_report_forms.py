"""One report, four forms: none loses a failure, none can be broken by what hosts say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from perimeter_bundle.model.errors import HostError
from perimeter_installer.report.html import to_html
from perimeter_installer.report.junit import to_junit
from perimeter_installer.report.model import (
    Area,
    CheckResult,
    NodeLine,
    Outcome,
    Report,
    Signer,
)
from perimeter_installer.report.text import to_text
from perimeter_installer.report.write import write_report

HOSTILE = "<script>alert('x')</script> \x1b[31m]]> & \x00"
PASSED = CheckResult(
    "cluster/nodes-ready",
    "Every host is a Ready node",
    Area.CLUSTER,
    Outcome.PASSED,
    0.4,
    ("n1 is Ready",),
)
FAILED = CheckResult(
    "hosts/swap-is-off",
    "Swap is off",
    Area.HOSTS,
    Outcome.FAILED,
    61.0,
    (HOSTILE, *(f"line {number}" for number in range(30))),
    "n2",
    "swapoff --all",
)
SKIPPED = CheckResult(
    "network/names-outside", "Names outside", Area.NETWORK, Outcome.SKIPPED, 0.0, ("not here",)
)
REPORT = Report(
    site="plant",
    release="2026.11",
    number=1,
    bundle="sha256:" + "ab" * 32,
    signers=(Signer("builder.pub", "cd" * 32, ("builder",)),),
    components=(("kubernetes", "v1.34.4"), ("minio", "R1")),
    started=datetime(2026, 11, 22, 18, 0, tzinfo=UTC),
    seconds=125.0,
    nodes=(
        NodeLine("n1", "10.99.0.11", ("control_plane",), "Ready", "v1.34.4", "containerd 2.3.7"),
        NodeLine("r1", "10.99.0.20", ("registry",), "no node"),
    ),
    checks=(FAILED, PASSED, SKIPPED),
    program="perimeter-install 0.1.0",
)
GOOD = replace(REPORT, checks=(PASSED,))


def test_report_is_good_only_when_something_passed_and_nothing_failed() -> None:
    assert GOOD.ok
    assert not REPORT.ok
    assert not replace(REPORT, checks=()).ok
    assert not replace(REPORT, checks=(SKIPPED,)).ok


def test_json_counts_and_lists_every_check() -> None:
    document = json.loads(json.dumps(REPORT.to_dict()))
    assert (document["passed"], document["failed"], document["skipped"]) == (1, 1, 1)
    assert document["ok"] is False
    assert [one["name"] for one in document["checks"]] == [one.name for one in REPORT.checks]
    assert document["started"] == "2026-11-22T18:00:00+00:00"


def test_text_shows_failures_in_full_and_ends_with_the_verdict() -> None:
    text = to_text(REPORT)
    assert "FAILED  Swap is off [n2]" in text
    assert "… and 19 more lines in the report" in text
    assert "hint: swapoff --all" in text
    assert "n1 is Ready" not in text  # what passed takes one line
    assert text.splitlines()[-1] == (
        "the site does NOT work as it should: 1 passed, 1 failed, 1 skipped in 125 s"
    )
    assert to_text(GOOD).splitlines()[-1] == "the site works: 1 passed in 125 s"


def test_junit_is_xml_whatever_hosts_say() -> None:
    root = Xml.fromstring(to_junit(REPORT))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "1", "1")
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["hosts", "cluster", "network"]
    failure = suites["hosts"].find("testcase/failure")
    assert failure is not None and failure.text is not None
    assert "<script>alert('x')</script>" in failure.text
    assert "swapoff --all" in failure.text
    assert "\x1b" not in failure.text and "\x00" not in failure.text


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_page_needs_nothing_else() -> None:
    text = to_html(REPORT)
    page = Page(text)
    assert page.links == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_page_escapes_what_hosts_say_and_shows_the_hint() -> None:
    text = to_html(REPORT)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "What failed" in text and "swapoff --all" in text
    assert "What failed" not in to_html(GOOD)


def test_page_names_release_bundle_and_signers() -> None:
    text = to_html(REPORT)
    for word in ("plant", "2026.11", REPORT.bundle, "builder.pub", "kubernetes v1.34.4"):
        assert word in text


def test_page_is_the_same_for_the_same_report() -> None:
    assert to_html(REPORT) == to_html(REPORT)


def test_files_are_written_whole_and_replace_the_last_ones(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "reports")
    files = write_report(GOOD, tmp_path / "reports")
    names = sorted(path.name for path in (tmp_path / "reports").iterdir())
    assert names == ["junit.xml", "report.html", "report.json"]
    assert json.loads(files.json.read_text())["failed"] == 0
    assert files.html.read_text().startswith("<!doctype html>")


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file, not a folder")
    with pytest.raises(HostError) as caught:
        write_report(REPORT, tmp_path / "reports")
    assert caught.value.code == "cannot-write"
    assert "the report was not written" in caught.value.message
