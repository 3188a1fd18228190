"""Facts to findings: a pure function. What is asked of hosts is in gather.py.

Each host is judged by every check; a host that could not be asked has one finding, an error. Then
come the checks that compare hosts with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from perimeter_bundle.model.errors import HostError
from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.checks import HOST_CHECKS, Judge, RoomNeed, Subject
from perimeter_installer.preflight.facts import HostFacts
from perimeter_installer.preflight.findings import SITE_WIDE, Finding, Severity, sort_findings
from perimeter_installer.preflight.network import NETWORK_CHECKS
from perimeter_installer.preflight.room import ROOM_CHECKS
from perimeter_installer.site.model import Site

CHECKS: dict[str, Judge] = {**HOST_CHECKS, **NETWORK_CHECKS, **ROOM_CHECKS}


def judge(site: Site, facts: Mapping[str, HostFacts | HostError], need: RoomNeed) -> list[Finding]:
    """Every finding, the worst first; each check of each host has at least one, if only OK."""
    findings: list[Finding] = []
    known: dict[str, HostFacts] = {}
    unasked = frozenset(name for name, told in facts.items() if isinstance(told, HostError))
    for host in site.hosts:
        told = facts[host.name]
        if isinstance(told, HostError):
            findings.append(_unasked(host.name, told))
            continue
        known[host.name] = told
        findings.append(Finding(host.name, "reachability", Severity.OK, "answers over SSH"))
        subject = Subject(host, told, site, need, unasked)
        for name, check in CHECKS.items():
            findings += _judged(host.name, name, check, subject)
    for name, compare in COMPARISONS.items() if known else ():
        compared = list(compare(site, known))
        findings += compared or [Finding(SITE_WIDE, name, Severity.OK, "in order")]
    return sort_findings(findings)


def _judged(host: str, name: str, check: Judge, subject: Subject) -> list[Finding]:
    remarks = list(check(subject))
    if not remarks:
        return [Finding(host, name, Severity.OK, "in order")]
    return [Finding(host, name, each.severity, each.what, each.why, each.how) for each in remarks]


def _unasked(host: str, error: HostError) -> Finding:
    found = "".join(f"; {name} {value}" for name, value in error.context.items())
    return Finding(
        host,
        "reachability",
        Severity.ERROR,
        error.message + found,
        "nothing else is known of this host",
        error.hint or "",
    )


Comparison = Callable[[Site, Mapping[str, HostFacts]], Iterator[Finding]]


def machine_ids(site: Site, facts: Mapping[str, HostFacts]) -> Iterator[Finding]:
    for value, hosts in _same(facts, lambda each: each.machine_id).items():
        yield Finding(
            ",".join(hosts),
            "machine ids",
            Severity.ERROR,
            f"the same machine-id {value}",
            "they were cloned: flannel's interfaces get the same hardware address on both, and"
            " the nodes count as one",
            "rm /etc/machine-id && systemd-machine-id-setup && reboot, on all but one",
        )
    for _, hosts in _same(facts, lambda each: each.product_uuid).items():
        yield Finding(
            ",".join(hosts),
            "machine ids",
            Severity.INFO,
            "the same product UUID",
            "virtual machines of one template often have it; Kubernetes goes by the node's name",
        )


def host_names(site: Site, facts: Mapping[str, HostFacts]) -> Iterator[Finding]:
    for name, hosts in _same(facts, lambda each: each.hostname).items():
        yield Finding(
            ",".join(hosts),
            "host names",
            Severity.WARNING,
            f"the same host name {name}",
            "nodes are called as in site.yaml, but logs of both will look alike",
            "hostnamectl set-hostname NAME",
        )


def clocks(site: Site, facts: Mapping[str, HostFacts]) -> Iterator[Finding]:
    """The hosts against each other: all may be off against this machine and agree."""
    if len(facts) < 2:
        return
    offsets = sorted((each.clock_offset_s, name) for name, each in facts.items())
    (first, slow), (last, fast) = offsets[0], offsets[-1]
    if last - first > wanted.CLOCK_WARNING_S:
        yield Finding(
            f"{slow},{fast}",
            "clocks",
            Severity.ERROR if last - first > wanted.CLOCK_ERROR_S else Severity.WARNING,
            f"{fast} is {last - first:.1f} s ahead of {slow}",
            "etcd, leases and certificates go by the clock",
            "let all hosts follow one time server",
        )


def mtus(site: Site, facts: Mapping[str, HostFacts]) -> Iterator[Finding]:
    found: dict[int, list[str]] = {}
    for name, each in facts.items():
        carrier = each.interface_of(str(site.host(name).address))
        if carrier:
            found.setdefault(carrier.mtu, []).append(name)
    if len(found) > 1 and not site.networks.mtu:
        told = "; ".join(f"{mtu} on {', '.join(hosts)}" for mtu, hosts in sorted(found.items()))
        yield Finding(
            SITE_WIDE,
            "mtus",
            Severity.WARNING,
            f"MTUs differ: {told}",
            "large packets from the one to the other may vanish without a word",
            "make them equal, or set networks.mtu to the smallest",
        )


def releases(site: Site, facts: Mapping[str, HostFacts]) -> Iterator[Finding]:
    """A site that is installed in part is normal after an interruption; say so."""
    ours = [name for name, each in facts.items() if each.marker_site == site.name]
    if ours and len(ours) < len(facts):
        rest = [name for name in facts if name not in ours]
        yield Finding(
            SITE_WIDE,
            "releases",
            Severity.INFO,
            f"{', '.join(ours)} are of this site already, {', '.join(rest)} not yet",
            "apply goes on where it stopped",
        )


def _same(
    facts: Mapping[str, HostFacts], value_of: Callable[[HostFacts], str]
) -> dict[str, list[str]]:
    """Values that several hosts share, with those hosts; an empty value is shared by nobody."""
    found: dict[str, list[str]] = {}
    for name, each in facts.items():
        if value_of(each):
            found.setdefault(value_of(each), []).append(name)
    return {value: hosts for value, hosts in found.items() if len(hosts) > 1}


COMPARISONS: dict[str, Comparison] = {
    "machine ids": machine_ids,
    "host names": host_names,
    "clocks": clocks,
    "mtus": mtus,
    "releases": releases,
}
