"""What a check found, as one value; every form of the report is made from it.

Pure: times come from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

REPORT_FORMAT = "perimeter-report/1"


class Outcome(Enum):
    """Closed set of ends a check can have."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Area(Enum):
    """What a check looks at; the order is that of the report."""

    HOSTS = "hosts"
    CLUSTER = "cluster"
    IMAGES = "images"
    NETWORK = "network"
    STORAGE = "storage"
    OBJECTS = "objects"

    @property
    def title(self) -> str:
        """The area as a heading."""
        return {
            Area.HOSTS: "Hosts",
            Area.CLUSTER: "Cluster",
            Area.IMAGES: "Images",
            Area.NETWORK: "Network and names",
            Area.STORAGE: "Volumes",
            Area.OBJECTS: "Object storage",
        }[self]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: ``title`` says what must hold, ``evidence`` what was seen, ``hint`` what to do."""

    name: str  # stable, for programs: cluster/nodes-ready
    title: str
    area: Area
    outcome: Outcome
    seconds: float
    evidence: tuple[str, ...] = ()
    host: str = ""
    hint: str = ""

    def to_dict(self) -> dict[str, object]:
        """The check as ``--json`` prints it."""
        return {
            "name": self.name,
            "title": self.title,
            "area": self.area.value,
            "host": self.host,
            "outcome": self.outcome.value,
            "seconds": round(self.seconds, 3),
            "evidence": list(self.evidence),
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One host of the site, as the report lists it; empty text for what is not known."""

    name: str
    address: str
    groups: tuple[str, ...]
    state: str  # Ready, NotReady, absent, off, or no node
    kubelet: str = ""
    runtime: str = ""
    system: str = ""
    kernel: str = ""

    def to_dict(self) -> dict[str, object]:
        """The node as ``--json`` prints it."""
        return {
            "name": self.name,
            "address": self.address,
            "groups": list(self.groups),
            "state": self.state,
            "kubelet": self.kubelet,
            "runtime": self.runtime,
            "system": self.system,
            "kernel": self.kernel,
        }


@dataclass(frozen=True, slots=True)
class Signer:
    """A trusted key whose signature the bundle bears."""

    name: str
    key_id: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run of ``check`` found."""

    site: str
    release: str
    number: int
    bundle: str  # digest of SHA256SUMS
    signers: tuple[Signer, ...]
    components: tuple[tuple[str, str], ...]  # name, version
    started: datetime  # UTC
    seconds: float
    nodes: tuple[NodeLine, ...]
    checks: tuple[CheckResult, ...]
    program: str  # name and version that made it
    nodes_off: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many checks ended so."""
        return sum(check.outcome is outcome for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing failed."""
        return self.count(Outcome.PASSED) > 0 and self.count(Outcome.FAILED) == 0

    def by_area(self) -> Mapping[Area, tuple[CheckResult, ...]]:
        """The checks of each area that has any, in the report's order."""
        areas = {area: tuple(check for check in self.checks if check.area is area) for area in Area}
        return {area: checks for area, checks in areas.items() if checks}

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it and report.json holds it."""
        return {
            "format": REPORT_FORMAT,
            "ok": self.ok,
            "passed": self.count(Outcome.PASSED),
            "failed": self.count(Outcome.FAILED),
            "skipped": self.count(Outcome.SKIPPED),
            "site": self.site,
            "release": self.release,
            "number": self.number,
            "bundle": self.bundle,
            "signers": [
                {"name": one.name, "key_id": one.key_id, "roles": list(one.roles)}
                for one in self.signers
            ],
            "components": dict(self.components),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "nodes_off": list(self.nodes_off),
            "nodes": [node.to_dict() for node in self.nodes],
            "checks": [check.to_dict() for check in self.checks],
            "program": self.program,
        }
