"""What a host told about itself, as a frozen value.

The answer comes from another machine, so every field is checked for its shape before it is
believed; a wrong shape is a HostError, never a KeyError later on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from perimeter_bundle.model.errors import HostError

MAX_TEXT = 500
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disc:
    """The file system that will hold ``path``; ``free_inodes`` -1: it has no inode table."""

    path: str
    mount: str
    kind: str
    options: tuple[str, ...]
    device: int
    free_bytes: int
    total_bytes: int
    free_inodes: int


@dataclass(frozen=True, slots=True)
class Listener:
    """A port somebody listens on (``tcp/6443``), and the program when it could be seen."""

    port: str
    process: str
    program: str = ""  # path of its file


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface and its IPv4 addresses."""

    name: str
    mtu: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the host's own resolver made of a name, and how long that took."""

    name: str
    addresses: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class GpuKind:
    """NVIDIA GPUs of one kind: PCI id, and the name where it is known."""

    device: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything preflight knows of one host; ``clock_offset_s`` is against the jump host.

    ``failed`` names parts that could not be gathered; their fields hold the empty value.
    """

    hostname: str
    kernel: str = ""
    machine: str = ""
    euid: int = 0
    python: tuple[int, ...] = ()
    clock_offset_s: float = 0.0
    os_id: str = ""
    os_like: tuple[str, ...] = ()
    os_version: str = ""
    os_name: str = ""
    cgroup_version: int = 0
    cgroup_controllers: frozenset[str] = frozenset()
    memory_bytes: int = 0
    cpus: int = 0
    swap: tuple[str, ...] = ()
    discs: tuple[Disc, ...] = ()
    registry_bytes: int = 0  # what the registry's folder holds already
    listening: tuple[Listener, ...] = ()
    default_route: str = ""  # interface, empty when there is none
    interfaces: tuple[Interface, ...] = ()
    resolver_present: bool = True
    resolver_servers: tuple[str, ...] = ()
    resolved: tuple[Resolution, ...] = ()
    leftovers: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()
    ip_forward_writable: bool = True
    oom_score_adj: bool = True
    conntrack_writable: bool | None = None
    missing_programs: tuple[str, ...] = ()
    systemd: bool = True
    firewalls: tuple[str, ...] = ()
    selinux_enforcing: bool = False
    machine_id: str = ""
    product_uuid: str = ""
    unreachable_peers: tuple[str, ...] = ()
    marker_site: str = ""
    marker_release: str = ""
    gpus: tuple[GpuKind, ...] = ()
    nvidia_driver: str = ""  # version of what is loaded
    secure_boot: str = "unknown"
    failed: Mapping[str, str] = field(default_factory=dict)

    def interface_of(self, address: str) -> Interface | None:
        """The interface that carries ``address``."""
        return next((each for each in self.interfaces if address in each.addresses), None)

    def disc_of(self, path: str) -> Disc | None:
        """The file system that will hold ``path``, when it was asked for."""
        return next((disc for disc in self.discs if disc.path == path), None)


def clock_offset(clock: float, sent_at: float, received_at: float) -> float:
    """Seconds by which ``clock`` is off, as far as it can be told: 0 between asking and answer.

    So a slow host is never taken for one whose clock is wrong.
    """
    if clock < sent_at:
        return clock - sent_at
    return max(0.0, clock - received_at)


def parse_facts(data: bytes, *, sent_at: float, received_at: float) -> HostFacts:
    """The facts a host sent; raises HostError[bad-facts]."""
    try:
        document = json.loads(data)
        reader = _Reader(document if isinstance(document, dict) else {})
        return _host_facts(reader, sent_at, received_at)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HostError(
            "bad-facts",
            f"the host sent facts that cannot be read: {str(error)[:200]}",
            hint="a login script may be printing; it must be silent for commands",
        ) from error


def _host_facts(reader: _Reader, sent_at: float, received_at: float) -> HostFacts:
    failed = {name: text(value) for name, value in reader.table("failed").items()}
    reader.optional = frozenset(failed)
    release, cgroup = reader.table("os_release"), reader.table("cgroup")
    resolver, marker = reader.table("resolver"), reader.table("marker")
    route = reader.table("default_route")
    return HostFacts(
        hostname=reader.value("hostname", text, ""),
        kernel=reader.value("kernel", text, ""),
        machine=reader.value("machine", text, ""),
        euid=reader.value("euid", number, 0),
        python=reader.value("python", many(number), ()),
        clock_offset_s=clock_offset(reader.value("clock", real, 0.0), sent_at, received_at),
        os_id=text(release.get("ID", "")),
        os_like=tuple(text(release.get("ID_LIKE", "")).split()),
        os_version=text(release.get("VERSION_ID", "")),
        os_name=text(release.get("PRETTY_NAME", "")),
        cgroup_version=number(cgroup.get("version", 0)),
        cgroup_controllers=frozenset(many(text)(cgroup.get("controllers", []))),
        memory_bytes=reader.value("memory_bytes", number, 0),
        cpus=reader.value("cpus", number, 0),
        swap=reader.value("swap", many(text), ()),
        discs=reader.value("discs", many(_disc), ()),
        registry_bytes=reader.value("registry_bytes", number, 0),
        listening=reader.value("listening", many(_listener), ()),
        default_route=text(route.get("interface", "")),
        interfaces=reader.value("interfaces", many(_interface), ()),
        resolver_present=flag(resolver.get("present", True)),
        resolver_servers=many(text)(resolver.get("servers", [])),
        resolved=reader.value("resolved", many(_resolution), ()),
        leftovers=reader.value("leftovers", many(text), ()),
        processes=reader.value("processes", many(text), ()),
        modules=frozenset(reader.value("modules", many(text), NOTHING)),
        ip_forward_writable=reader.value("ip_forward_writable", flag, True),
        oom_score_adj=reader.value("oom_score_adj", flag, True),
        conntrack_writable=reader.value("conntrack_writable", maybe_flag, None),
        missing_programs=reader.value("missing_programs", many(text), ()),
        systemd=reader.value("systemd", flag, True),
        firewalls=reader.value("firewalls", many(text), ()),
        selinux_enforcing=reader.value("selinux_enforcing", flag, False),
        machine_id=reader.value("machine_id", text, ""),
        product_uuid=reader.value("product_uuid", text, ""),
        unreachable_peers=reader.value("unreachable_peers", many(text), ()),
        marker_site=text(marker.get("site", "")),
        marker_release=text(marker.get("release", "")),
        gpus=reader.value("gpus", many(_gpu), ()),
        nvidia_driver=reader.value("nvidia_driver", text, ""),
        secure_boot=reader.value("secure_boot", text, "unknown"),
        failed=failed,
    )


Value = TypeVar("Value")


class _Reader:
    """Takes typed values out of the document; a part that failed on the host may be missing."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document
        self.optional: frozenset[str] = frozenset()

    def value(self, name: str, convert: Callable[[object], Value], missing: Value) -> Value:
        if name not in self._document and name in self.optional:
            return missing
        return convert(self._document[name])

    def table(self, name: str) -> Mapping[str, object]:
        if name not in self._document and name in self.optional:
            return {}
        value = self._document[name]
        return _table(value) if value is not None else {}


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value


def text(value: object) -> str:
    """``value`` as a bounded string; raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.40}")
    return value[:MAX_TEXT]


def number(value: object) -> int:
    """``value`` as an integer; raises TypeError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, found {value!r:.40}")
    return value


def real(value: object) -> float:
    """``value`` as a float; raises TypeError."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number, found {value!r:.40}")
    return float(value)


def flag(value: object) -> bool:
    """``value`` as a boolean; raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {value!r:.40}")
    return value


def maybe_flag(value: object) -> bool | None:
    """``value`` as a boolean or nothing; raises TypeError."""
    return None if value is None else flag(value)


def many(convert: Callable[[object], Value]) -> Callable[[object], tuple[Value, ...]]:
    """A converter for lists of what ``convert`` takes."""

    def convert_all(value: object) -> tuple[Value, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, found {value!r:.40}")
        return tuple(convert(item) for item in value)

    return convert_all


def _disc(value: object) -> Disc:
    table = _table(value)
    return Disc(
        path=text(table["path"]),
        mount=text(table["mount"]),
        kind=text(table["kind"]),
        options=many(text)(table["options"]),
        device=number(table["device"]),
        free_bytes=number(table["free_bytes"]),
        total_bytes=number(table["total_bytes"]),
        free_inodes=number(table["free_inodes"]),
    )


def _listener(value: object) -> Listener:
    table = _table(value)
    return Listener(text(table["port"]), text(table["process"]), text(table["program"]))


def _interface(value: object) -> Interface:
    table = _table(value)
    return Interface(text(table["name"]), number(table["mtu"]), many(text)(table["addresses"]))


def _resolution(value: object) -> Resolution:
    table = _table(value)
    return Resolution(text(table["name"]), many(text)(table["addresses"]), real(table["seconds"]))


def _gpu(value: object) -> GpuKind:
    table = _table(value)
    return GpuKind(text(table["device"]), text(table["name"]), number(table["count"]))
