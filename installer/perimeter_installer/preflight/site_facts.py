"""What the hosts said, as the site facts that the connected side asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from perimeter_bundle.format.site_facts import (
    DriverChoice,
    Gpu,
    HostDisc,
    Machine,
    PrecompiledChoice,
    SecureBoot,
    SiteFacts,
    SiteHost,
    group_hosts,
)
from perimeter_bundle.model.errors import HostError
from perimeter_installer.preflight.facts import HostFacts
from perimeter_installer.preflight.wanted import ARCHITECTURES
from perimeter_installer.site.model import Host, Site

RUNTIMES = ("containerd", "crio", "dockerd")
NEEDED_PARTS = ("os_release", "gpus", "nvidia_driver")  # without them a tag would be a guess


def site_facts_of(site: Site, facts: Mapping[str, HostFacts | HostError]) -> SiteFacts:
    """The facts of every host, grouped into profiles.

    Raises HostError[hosts-not-asked] when a single host is missing: an incomplete file would lead
    to a bundle that lacks what that host needs.
    """
    problems = []
    machines = []
    for host in site.hosts:
        answer = facts[host.name]
        if isinstance(answer, HostError):
            problems.append(f"{host.name}: {answer.message}")
            continue
        failed = [part for part in NEEDED_PARTS if part in answer.failed]
        problems += [f"{host.name}: {part}: {answer.failed[part]}" for part in failed]
        machines.append((_machine(host, answer), _host(host, answer)))
    if problems:
        raise HostError(
            "hosts-not-asked",
            "not every host told what it is; nothing was written",
            problems=problems,
            hint="perimeter-install preflight says more about each host",
        )
    return SiteFacts(
        site=site.name,
        driver=DriverChoice(site.gpu.driver),
        precompiled=PrecompiledChoice(site.gpu.precompiled),
        profiles=group_hosts(machines),
    )


def _machine(host: Host, facts: HostFacts) -> Machine:
    secure_boot = facts.secure_boot
    if secure_boot not in {each.value for each in SecureBoot}:
        secure_boot = SecureBoot.UNKNOWN.value
    return Machine(
        groups=tuple(sorted(host.groups)),
        os_id=facts.os_id,
        os_version=facts.os_version,
        kernel=facts.kernel,
        architecture=ARCHITECTURES.get(facts.machine, facts.machine),
        gpus=tuple(sorted(Gpu(gpu.device, _plain(gpu.name), gpu.count) for gpu in facts.gpus)),
        nvidia_driver=facts.nvidia_driver,
        secure_boot=secure_boot,
        runtimes=tuple(name for name in RUNTIMES if name in facts.processes),
    )


def _host(host: Host, facts: HostFacts) -> SiteHost:
    discs = (HostDisc(disc.path, disc.free_bytes, disc.total_bytes) for disc in facts.discs)
    return SiteHost(host.name, tuple(sorted(discs)))


def _plain(name: str) -> str:
    """A name for people, out of a list that somebody else wrote."""
    return "".join(char if " " <= char <= "~" else "?" for char in name)[:100]
