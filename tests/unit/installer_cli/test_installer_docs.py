"""The documentation says what the program does. UPDATE_DOCS=1 writes the help texts anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from click.testing import CliRunner

from perimeter_installer.cli.main import cli
from perimeter_installer.preflight.findings import Severity
from perimeter_installer.preflight.judge import CHECKS, COMPARISONS

DOCS = Path(__file__).parents[3] / "docs"
HEADING = "## Help, as the program prints it\n"


def help_texts() -> str:
    parts = []
    for words in ([], *([name] for name in cli.places)):
        shown = CliRunner().invoke(
            cli, [*words, "--help"], prog_name="perimeter-install", terminal_width=100
        )
        title = " ".join(["perimeter-install", *words])
        lines = "\n".join(line.rstrip() for line in shown.output.rstrip().splitlines())
        parts.append(f"### {title}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def test_help_in_the_documentation_is_what_the_program_prints() -> None:
    path = DOCS / "perimeter-install.md"
    before, heading, shown = path.read_text().partition(HEADING)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(f"{before}{heading}\n{help_texts()}")
    else:
        assert shown.strip() == help_texts().strip()


def test_every_check_of_preflight_is_documented() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| (error|warning|info) \|", read_preflight(), re.MULTILINE)
    assert [name for name, _ in rows] == ["reachability", *CHECKS, *COMPARISONS]
    assert {severity for _, severity in rows} < {each.word for each in Severity}


def read_preflight() -> str:
    """From the first table of checks on; the table of severities looks alike."""
    return (DOCS / "preflight.md").read_text().partition("## Checks of each host")[2]
