"""Two switches with no path between them, and counters for what tries to leave the closed one.

Each switch is a bridge in a network namespace of its own that has no uplink. A node's port is a
veth pair; it is made anew at every boot, with the same hardware address, as a server's network is.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .host import command
from .state import LabError, StateFolder

Gateway = Literal["none", "blackhole"]
TABLE = "perimeter_lab"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two networks."""

    name: str
    switch: str
    subnet: ipaddress.IPv4Network

    @property
    def gateway(self) -> str:
        return str(self.subnet[1])


CONNECTED = Side("connected", "swa", ipaddress.IPv4Network("172.30.1.0/24"))
CLOSED = Side("closed", "swb", ipaddress.IPv4Network("10.99.0.0/24"))


@dataclass(frozen=True, slots=True)
class Port:
    """Where a machine is plugged in."""

    name: str
    side: Side
    host: int

    @property
    def address(self) -> str:
        return str(self.side.subnet[self.host])

    @property
    def hardware_address(self) -> str:
        return "02:00:" + ":".join(f"{part:02x}" for part in self.side.subnet[self.host].packed)


def port_of(name: str) -> Port:
    """The fixed place of a machine: upstream, builder, jump, n1, n2 …"""
    fixed = {"upstream": (CONNECTED, 2), "builder": (CONNECTED, 10), "jump": (CLOSED, 2)}
    if name in fixed:
        return Port(name, *fixed[name])
    number = int(name[1:]) if name[:1] == "n" and name[1:].isdigit() else 0
    if not 1 <= number <= 200:
        raise LabError(f"no such machine: {name} (upstream, builder, jump, n1 … n200)")
    return Port(name, CLOSED, 10 + number)


@dataclass(frozen=True, slots=True)
class Network:
    """The networks of one lab. Methods change the host; each can be repeated."""

    state: StateFolder
    gateway: Gateway

    def create(self) -> None:
        for side in (CONNECTED, CLOSED):
            switch = self.state.namespace(side.switch)
            if switch in namespaces():
                continue
            command(["ip", "netns", "add", switch])
            _ip(switch, "link set lo up")
            # the bridge forwards frames only: no address, so its namespace is no machine
            self._inside(switch, ["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
            self._inside(switch, ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
            _ip(switch, f"link add br0 address {_bridge_address(side)} type bridge")
            _ip(switch, "link set br0 up")
        closed = self.state.namespace(CLOSED.switch)
        if self.gateway == "blackhole":  # it takes every packet and hands on none
            _ip(closed, f"addr replace {CLOSED.gateway}/{CLOSED.subnet.prefixlen} dev br0")
        self._inside(closed, ["nft", "-f", "-"], input=_watch_rules(CLOSED))

    def plug(self, port: Port) -> None:
        """A fresh namespace for the machine, plugged into its switch."""
        space, switch = self.state.namespace(port.name), self.state.namespace(port.side.switch)
        self.unplug(port)
        command(["ip", "netns", "add", space])
        _ip(space, "link set lo up")
        mac = port.hardware_address
        veth = f"link add {port.name} type veth peer name eth0 address {mac} netns {space}"
        _ip(switch, veth)
        _ip(switch, f"link set {port.name} master br0 up")
        _ip(space, f"addr add {port.address}/{port.side.subnet.prefixlen} dev eth0")
        _ip(space, "link set eth0 up")
        if port.side is CLOSED and self.gateway == "blackhole":
            _ip(space, f"route add default via {port.side.gateway}")

    def unplug(self, port: Port) -> None:
        _ip(self.state.namespace(port.side.switch), f"link del {port.name}", check=False)
        command(["ip", "netns", "del", self.state.namespace(port.name)], check=False)

    def cut(self, port: Port) -> None:
        """Pull the cable."""
        _ip(self.state.namespace(port.side.switch), f"link set {port.name} down")

    def heal(self, port: Port) -> None:
        _ip(self.state.namespace(port.side.switch), f"link set {port.name} up")

    def escapes(self, ports: list[Port]) -> dict[str, Any]:
        """What tried to leave the closed side since the lab went up, and what is plugged in there.

        ``packets``: counters of the switch; ``watched`` counts everything, so that a zero elsewhere
        is known to be measured. ``attempts``: who sent how much to which outside address.
        ``foreign``: interfaces that do not belong there, and ``leads_to``: the namespaces behind
        the ports; nothing else can be reached from the switch.
        """
        switch = self.state.namespace(CLOSED.switch)
        listing = self._inside(switch, ["nft", "-j", "list", "table", "bridge", TABLE])
        links = json.loads(_ip(switch, "-d -j link show"))
        ids = json.loads(_ip(switch, "-j netns list-id") or "[]")
        names = {entry["nsid"]: entry.get("name", "?") for entry in ids}
        expected = {"lo", "br0"} | {port.name for port in ports if port.side is CLOSED}
        present = {link["ifname"]: names.get(link.get("link_netnsid", -1)) for link in links}
        wrong_peer = [
            name
            for name, peer in present.items()
            if name not in ("lo", "br0") and peer != self.state.namespace(name)
        ]
        forward = self._inside(switch, ["cat", "/proc/sys/net/ipv4/ip_forward"]).strip()
        return {
            **_read_watch(json.loads(listing)["nftables"]),
            "interfaces": sorted(present),
            "leads_to": {name: peer for name, peer in sorted(present.items()) if peer},
            "foreign": sorted(present.keys() - expected) + sorted(wrong_peer),
            "forwarding": forward != "0",
            "gateway": self.gateway,
        }

    def reset_escapes(self) -> None:
        """Begin to count from zero."""
        closed = self.state.namespace(CLOSED.switch)
        self._inside(closed, ["nft", "-f", "-"], input=_watch_rules(CLOSED))

    def _inside(self, space: str, argv: list[str], input: str | None = None) -> str:
        return command(["nsenter", f"--net=/run/netns/{space}", *argv], input=input).stdout


def namespaces() -> set[str]:
    """Names of all network namespaces of the host."""
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _ip(space: str, arguments: str, check: bool = True) -> str:
    return command(["ip", "-n", space, *arguments.split()], check=check).stdout


def _bridge_address(side: Side) -> str:
    """Fixed: a bridge otherwise takes the lowest address of its ports and changes it."""
    return "02:00:" + ":".join(f"{part:02x}" for part in side.subnet[1].packed)


COUNTERS = {
    "watched": "every frame",
    "outside_ipv4": "IPv4 to an address outside the closed network",
    "outside_ipv6": "IPv6 to an address that is neither link-local nor multicast",
    "outside_arp": "questions for the hardware address of an outside address",
    "to_gateway": "IPv4 to the gateway's own address",
    "other": "neither IPv4, IPv6 nor ARP",
}


def _watch_rules(side: Side) -> str:
    counters = "\n".join(f"  counter {name} {{ }}" for name in COUNTERS)
    subnet = side.subnet
    return f"""
table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
{counters}
  set attempts {{ type ipv4_addr . ipv4_addr; flags dynamic; size 65535; counter; }}
  chain watch {{
    type filter hook prerouting priority -300; policy accept;
    counter name watched
    ether type ip ip daddr {side.gateway} counter name to_gateway
    ether type ip ip daddr != {subnet} ip daddr != {{ 224.0.0.0/4, 255.255.255.255 }} \
counter name outside_ipv4 update @attempts {{ ip saddr . ip daddr }}
    ether type ip6 ip6 daddr != {{ fe80::/10, ff00::/8 }} counter name outside_ipv6
    ether type arp arp operation request arp daddr ip != {subnet} \
counter name outside_arp update @attempts {{ arp saddr ip . arp daddr ip }}
    ether type != {{ ip, ip6, arp }} counter name other
  }}
}}
"""


def _read_watch(listing: list[dict[str, Any]]) -> dict[str, Any]:
    packets = {c["name"]: c["packets"] for e in listing if (c := e.get("counter"))}
    attempts = []
    for entry in listing:
        for element in entry.get("set", {}).get("elem", []):
            source, destination = element["elem"]["val"]["concat"]
            count = element["elem"]["counter"]["packets"]
            attempts.append({"from": source, "to": destination, "packets": count})
    attempts.sort(key=lambda attempt: (attempt["from"], attempt["to"]))
    return {"packets": packets, "attempts": attempts}
