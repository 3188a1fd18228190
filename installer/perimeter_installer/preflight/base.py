"""What a delta counts on, as findings: does each replica hold what the bundle leaves out?

Judged here, asked in load/: a replica is a registry and no host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perimeter_bundle.format.base import Base
from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.load.base import MEND, BaseAnswer, by_item, told
from perimeter_installer.preflight.findings import Finding, Severity

CHECK = "base"


def base_findings(base: Base, answers: Sequence[BaseAnswer]) -> Iterator[Finding]:
    """One finding for each replica that is in order, or for each blob it lacks."""
    count = f"{len(base.blobs)} blobs ({human_bytes(base.total_bytes)})"
    why = f"the bundle is a delta on {base.about}: {count} must be in the registry already"
    for answer in answers:
        if answer.error:
            found = "".join(f"; {name} {value}" for name, value in answer.error.context.items())
            yield Finding(
                answer.replica,
                CHECK,
                Severity.ERROR,
                answer.error.message + found,
                f"{why}; a site whose registry was never filled needs the whole release",
                answer.error.hint or "",
            )
            continue
        for blob in by_item(answer.missing):
            what = f"lacks {told(blob)}"
            yield Finding(answer.replica, CHECK, Severity.ERROR, what, why, MEND)
        if not answer.missing:
            what = f"holds the {count} that the bundle leaves out"
            yield Finding(answer.replica, CHECK, Severity.OK, what)
