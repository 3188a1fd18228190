"""Checks of one host's system: what runs on it, what the kernel can do, what is in the way.

Each check is a plain function that yields what is not in order; nothing yielded means in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.facts import HostFacts
from perimeter_installer.preflight.findings import Severity
from perimeter_installer.site.model import Host, Site


@dataclass(frozen=True, slots=True)
class RoomNeed:
    """What the release needs: bytes on a registry host and on a node, and its architectures.

    Zero bytes and no architectures when there is no bundle to tell.
    """

    registry_bytes: int = 0
    node_bytes: int = 0
    architectures: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Subject:
    """One host under judgement; ``ours``: this site was being installed on it before."""

    host: Host
    facts: HostFacts
    site: Site
    need: RoomNeed
    unasked: frozenset[str] = frozenset()  # hosts that could not be asked; reported on their own

    @property
    def ours(self) -> bool:
        """Whether role ``node`` of this very site has marked the host."""
        return self.facts.marker_site == self.site.name


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding before it knows its host and check."""

    severity: Severity
    what: str
    why: str = ""
    how: str = ""


Judge = Callable[[Subject], Iterator[Remark]]
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def privilege(subject: Subject) -> Iterator[Remark]:
    if subject.facts.euid != 0:
        yield Remark(
            ERROR,
            f"user {subject.site.ssh.user} is not root there",
            "installing writes to /etc, /var and systemd",
            "set ssh.become: true and give the user sudo, or log in as root",
        )


def python(subject: Subject) -> Iterator[Remark]:
    version = subject.facts.python
    if version[:2] < wanted.OLDEST_PYTHON:
        yield Remark(
            ERROR,
            f"Python {'.'.join(map(str, version))}",
            "Ansible needs 3.8 or newer on every host",
            "install a newer python3 from the system's own packages",
        )


def system(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    if not facts.systemd:
        yield Remark(
            ERROR,
            "systemd does not run as the first process",
            "registry, containerd and kubelet run as systemd services",
            "install a system with systemd",
        )
    architecture = wanted.ARCHITECTURES.get(facts.machine, "")
    wanted_here = subject.need.architectures or frozenset(wanted.ARCHITECTURES.values())
    if architecture not in wanted_here:
        yield Remark(
            ERROR,
            f"architecture {facts.machine}",
            f"the programs of this release are built for {', '.join(sorted(wanted_here))}",
            "build the bundle for this architecture too, or take another host",
        )
    families = {facts.os_id, *facts.os_like}
    if not families & wanted.KNOWN_FAMILIES:
        yield Remark(
            WARNING,
            f"system {facts.os_name or facts.os_id or 'unknown'}",
            "nobody has tried this system",
            "try on a spare host first",
        )
    elif (facts.os_id, facts.os_version.partition(".")[0]) not in wanted.TRIED_SYSTEMS:
        yield Remark(
            INFO, f"system {facts.os_name}", "tried ones are Debian 12 and 13; it should work"
        )


def kernel(subject: Subject) -> Iterator[Remark]:
    numbers = subject.facts.kernel.split("-")[0].split(".")[:2]
    version = tuple(int(part) for part in numbers if part.isdigit())
    if version < wanted.OLDEST_KERNEL:
        yield Remark(
            WARNING,
            f"kernel {subject.facts.kernel}",
            "Kubernetes asks for 4.19 or newer",
            "boot a newer kernel of the same system",
        )


def modules(subject: Subject) -> Iterator[Remark]:
    for name, why in wanted.MODULES.items():
        if subject.host.is_node and name not in subject.facts.modules:
            yield Remark(
                ERROR,
                f"kernel module {name} is neither loaded nor there to load",
                why,
                "install the system's full kernel package (linux-modules-extra on Ubuntu)",
            )


def cgroups(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    if not subject.host.is_node:
        return
    missing = [name for name in wanted.CGROUP_CONTROLLERS if name not in facts.cgroup_controllers]
    if missing:
        yield Remark(
            ERROR,
            f"cgroup controllers missing: {', '.join(missing)}",
            "the kubelet does not start without them",
            "boot with cgroup_enable=memory, or undo what disables them",
        )
    if facts.cgroup_version == 1:
        yield Remark(
            WARNING,
            "cgroup v1",
            "Kubernetes keeps it alive only; the kubelet is told to accept it (failCgroupV1)",
            "boot with systemd.unified_cgroup_hierarchy=1 when the system can",
        )


def power(subject: Subject) -> Iterator[Remark]:
    facts, host = subject.facts, subject.host
    if not host.is_node:
        return
    if facts.cpus < wanted.LEAST_CPUS:
        severity = ERROR if "control_plane" in host.groups else WARNING
        yield Remark(
            severity,
            f"{facts.cpus} CPU",
            f"kubeadm asks for {wanted.LEAST_CPUS} on a control plane",
            "give the host more",
        )
    control_plane = "control_plane" in host.groups
    least = wanted.LEAST_CONTROL_PLANE_MEMORY if control_plane else 0
    good = wanted.GOOD_CONTROL_PLANE_MEMORY if control_plane else wanted.GOOD_WORKER_MEMORY
    if facts.memory_bytes < good:
        yield Remark(
            ERROR if facts.memory_bytes < least else WARNING,
            f"{human_bytes(facts.memory_bytes)} of memory",
            f"kubeadm refuses below {human_bytes(wanted.LEAST_CONTROL_PLANE_MEMORY)} on a control"
            f" plane; {human_bytes(good)} let it breathe",
            "give the host more",
        )


def swap(subject: Subject) -> Iterator[Remark]:
    if subject.host.is_node and subject.facts.swap:
        yield Remark(
            WARNING,
            f"swap is on: {', '.join(subject.facts.swap)}",
            "the kubelet does not start with it; apply turns it off, in /etc/fstab too",
            "nothing, unless something else on the host needs it",
        )


def programs(subject: Subject) -> Iterator[Remark]:
    for name in subject.facts.missing_programs:
        required = wanted.REQUIRED_PROGRAMS.get(name)
        yield Remark(
            ERROR if required else INFO,
            f"program {name} is missing",
            required or wanted.USEFUL_PROGRAMS.get(name, ""),
            f"install {_PACKAGES.get(name, name)} from the system's own packages",
        )


_PACKAGES = {
    "ip": "iproute2",
    "modprobe": "kmod",
    "losetup": "mount or util-linux",
    "cp": "coreutils",
    "systemctl": "systemd",
}


def ports(subject: Subject) -> Iterator[Remark]:
    if subject.ours:
        return
    for listener in subject.facts.listening:
        if listener.program.startswith(wanted.OWN_PROGRAMS):
            # before role node has marked the host, and where nothing but the registry is
            yield Remark(
                INFO, f"port {listener.port} is served by {listener.program}", "load was run before"
            )
            continue
        who = f" ({listener.process})" if listener.process else ""
        yield Remark(
            ERROR,
            f"port {listener.port} is taken{who}",
            "registry or Kubernetes must listen there",
            "stop what listens; for the registry another registry.port will do as well",
        )


def leftovers(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    if facts.marker_site and not subject.ours:
        yield Remark(
            ERROR,
            f"belongs to the site {facts.marker_site} (/etc/perimeter/node.json)",
            "installing would tear it out of that site",
            "take another host; or clear this one and remove the file",
        )
    if subject.ours:
        return
    if facts.leftovers:
        yield Remark(
            ERROR,
            f"another cluster was here: {', '.join(facts.leftovers)}",
            "old certificates and networks keep a new cluster from forming",
            "kubeadm reset -f (k3s-uninstall.sh, rke2-uninstall.sh), then remove these and reboot",
        )
    if facts.processes:
        yield Remark(
            ERROR,
            f"running already: {', '.join(facts.processes)}",
            "a second container runtime or cluster fights over cgroups, iptables and ports",
            "stop and disable the service, or remove its package",
        )


def kernel_limits(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    if not subject.host.is_node:
        return
    if not facts.ip_forward_writable:
        yield Remark(
            ERROR,
            "net.ipv4.ip_forward cannot be set",
            "no packet gets from pod to pod without it",
            "the host is a container whose /proc/sys is read-only; mount it writable",
        )
    if facts.conntrack_writable is False:
        yield Remark(
            WARNING,
            "nf_conntrack_max cannot be set",
            "kube-proxy is told to leave it alone; the host's own value stays",
        )
    if not facts.oom_score_adj:
        yield Remark(
            WARNING,
            "processes cannot lower their oom_score_adj",
            "pods would not start; containerd is told to stay within it (restrict_oom_score_adj)",
            "nothing to do; on a real server this is unusual",
        )


def protection(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    for name in facts.firewalls:
        yield Remark(
            WARNING,
            f"{name} is active",
            "its rules must let the nodes talk on 6443, 2379-2380, 10250, udp 8472 and the"
            " registry's port, and let pods' addresses through",
            f"open these, or systemctl disable --now {name}",
        )
    if facts.selinux_enforcing:
        yield Remark(
            WARNING,
            "SELinux is enforcing",
            "no policy for containerd comes with the bundle; pods may be refused files",
            "install container-selinux from the system's own packages, or set it permissive",
        )


def identity(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    if not facts.machine_id or facts.machine_id == "uninitialized":
        yield Remark(
            ERROR,
            "/etc/machine-id is empty",
            "the kubelet and systemd know the host by it",
            "systemd-machine-id-setup",
        )
    if facts.hostname != subject.host.name:
        yield Remark(
            INFO,
            f"its own host name is {facts.hostname}",
            f"the node is called {subject.host.name}, as in site.yaml; the host name stays",
        )


def told_everything(subject: Subject) -> Iterator[Remark]:
    for part, reason in subject.facts.failed.items():
        yield Remark(
            WARNING,
            f"{part} could not be found out: {reason}",
            "what depends on it was not judged",
            "look at the host",
        )


HOST_CHECKS: dict[str, Judge] = {
    "privilege": privilege,
    "python": python,
    "system": system,
    "kernel": kernel,
    "modules": modules,
    "cgroups": cgroups,
    "power": power,
    "swap": swap,
    "programs": programs,
    "ports": ports,
    "leftovers": leftovers,
    "kernel limits": kernel_limits,
    "protection": protection,
    "identity": identity,
    "facts": told_everything,
}
