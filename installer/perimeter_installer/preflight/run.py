"""Preflight: ask every host, judge, say what was found. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.model.events import OnEvent, ignore_events
from perimeter_installer.preflight.checks import RoomNeed
from perimeter_installer.preflight.findings import (
    Finding,
    Severity,
    count,
    findings_text,
    sort_findings,
)
from perimeter_installer.preflight.gather import gather
from perimeter_installer.preflight.judge import judge
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.model import Site


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found, the worst first."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> ExitStatus:
        """FINDINGS when there is an error; warnings alone do not stop anything."""
        return ExitStatus.FINDINGS if self.errors else ExitStatus.OK

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return count(self.findings, Severity.ERROR)

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        counts = {each.word: count(self.findings, each) for each in Severity}
        return {"findings": [each.to_dict() for each in self.findings], "counts": counts}

    def text(self, *, everything: bool = False) -> str:
        """As the terminal shows it."""
        return findings_text(self.findings, everything=everything)


def preflight(
    site: Site,
    need: RoomNeed,
    *,
    beside: Iterable[Finding] = (),
    on_event: OnEvent = ignore_events,
) -> Preflight:
    """Findings for every host of ``site``; a host that cannot be asked is a finding too.

    ``beside`` is what was found of other things than hosts.
    Raises InputError when the known_hosts file or the SSH key cannot be used at all.
    """
    known_hosts = KnownHosts.load(site.known_hosts_file)
    facts = gather(site, known_hosts, on_event=on_event)
    return Preflight(tuple(sort_findings([*judge(site, facts, need), *beside])))
