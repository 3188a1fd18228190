"""Checks of one host's network, names and clock."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.checks import ERROR, INFO, WARNING, Judge, Remark, Subject

OWN_INTERFACES = ("flannel.", "cni", "kube-")


def address(subject: Subject) -> Iterator[Remark]:
    facts, host = subject.facts, subject.host
    if not facts.interfaces:
        return  # without the program ip nothing is known; that is reported already
    carrier = facts.interface_of(str(host.address))
    if carrier is None:
        seen = ", ".join(
            f"{each.name} {'/'.join(each.addresses)}" for each in facts.interfaces if each.addresses
        )
        yield Remark(
            ERROR,
            f"no interface carries {host.address} (there are {seen})",
            "the API server, etcd and flannel listen on that address",
            "write the host's own address into site.yaml; a translated one does not work",
        )
    elif host.interface and carrier.name != host.interface:
        yield Remark(
            ERROR,
            f"{host.address} is on {carrier.name}, not on {host.interface}",
            "flannel would send through an interface without the address",
            f"set hosts.{host.name}.interface: {carrier.name}, or leave it out",
        )


def mtu(subject: Subject) -> Iterator[Remark]:
    carrier = subject.facts.interface_of(str(subject.host.address))
    if carrier is None:
        return
    least = wanted.LEAST_MTU + wanted.VXLAN_OVERHEAD
    if carrier.mtu < least:
        yield Remark(
            WARNING,
            f"{carrier.name} has MTU {carrier.mtu}",
            f"pods get {wanted.VXLAN_OVERHEAD} bytes less; below {least} some programs fail",
            "raise it, if the network carries more",
        )
    if subject.site.networks.mtu > carrier.mtu:
        yield Remark(
            ERROR,
            f"{carrier.name} has MTU {carrier.mtu}, and networks.mtu says"
            f" {subject.site.networks.mtu}",
            "large packets would vanish without a word",
            "raise the interface's MTU, or write the smaller one into site.yaml",
        )


def other_networks(subject: Subject) -> Iterator[Remark]:
    networks = {"pods": subject.site.networks.pods, "services": subject.site.networks.services}
    for interface in subject.facts.interfaces:
        if subject.ours and interface.name.startswith(OWN_INTERFACES):
            continue
        for text in interface.addresses:
            for name, network in networks.items():
                if IPv4Address(text) in network:
                    yield Remark(
                        ERROR,
                        f"{interface.name} has {text}, inside networks.{name} {network}",
                        "two networks of the same addresses: packets go to the wrong one",
                        f"choose other addresses for networks.{name}",
                    )


def peers(subject: Subject) -> Iterator[Remark]:
    missing = [each for each in subject.facts.unreachable_peers if each not in subject.unasked]
    if missing:
        yield Remark(
            ERROR,
            f"cannot reach {', '.join(missing)} from here",
            "nodes reach each other and the registry by the addresses in site.yaml",
            "look at routes and firewalls between them (a host is asked at its SSH port)",
        )


def default_route(subject: Subject) -> Iterator[Remark]:
    if not subject.facts.default_route:
        yield Remark(
            INFO,
            "no default route",
            "normal behind an air gap: services get a route of their own, flannel its interface",
        )


def resolver(subject: Subject) -> Iterator[Remark]:
    facts, servers = subject.facts, subject.site.dns.servers
    if not facts.resolver_servers:
        yield Remark(
            INFO,
            "resolv.conf names no server" if facts.resolver_present else "there is no resolv.conf",
            "normal behind an air gap: the cluster answers its own names and forwards nothing"
            if not servers
            else "pods ask the servers of dns.servers all the same",
        )
    elif not servers:
        yield Remark(
            INFO,
            f"resolv.conf names {', '.join(facts.resolver_servers)}, site.yaml no dns.servers",
            "pods will not resolve the site's own names",
            "add them to dns.servers if pods need the site's names",
        )


def names(subject: Subject) -> Iterator[Remark]:
    facts = subject.facts
    for answer in facts.resolved:
        own = answer.name == facts.hostname
        if not answer.addresses:
            yield Remark(
                WARNING if own else ERROR,
                f"{answer.name} does not resolve",
                "programs that look up the host's own name wait or fail"
                if own
                else "every node must find the API and the registry by their names",
                f"add it to /etc/hosts: {subject.host.address} {answer.name}"
                if own
                else f"add {answer.name} to the site's DNS, or to /etc/hosts of every host",
            )
        elif answer.seconds > wanted.SLOW_RESOLUTION_S:
            yield Remark(
                WARNING,
                f"{answer.name} took {answer.seconds:.1f} s to resolve",
                "a name server that does not answer is asked first; every login waits for it",
                "take dead servers out of /etc/resolv.conf",
            )
        elif own and not _own_address(answer.addresses, subject):
            yield Remark(
                WARNING,
                f"its own name {answer.name} resolves to {', '.join(answer.addresses)}",
                "that is no address of this host",
                "mend /etc/hosts",
            )


def _own_address(addresses: tuple[str, ...], subject: Subject) -> bool:
    own = {text for interface in subject.facts.interfaces for text in interface.addresses}
    return not own or any(text in own or text.startswith("127.") for text in addresses)


def clock(subject: Subject) -> Iterator[Remark]:
    offset = subject.facts.clock_offset_s
    if abs(offset) <= wanted.CLOCK_WARNING_S:
        return
    direction = "ahead of" if offset > 0 else "behind"
    yield Remark(
        ERROR if abs(offset) > wanted.CLOCK_ERROR_S else WARNING,
        f"its clock is {abs(offset):.1f} s {direction} this machine",
        "certificates made here are not valid there yet or no longer; etcd complains from 1 s on",
        "set the clock; let all hosts follow one time server",
    )


NETWORK_CHECKS: dict[str, Judge] = {
    "address": address,
    "mtu": mtu,
    "networks": other_networks,
    "peers": peers,
    "default route": default_route,
    "resolver": resolver,
    "names": names,
    "clock": clock,
}
