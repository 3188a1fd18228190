"""The site as a value: what every other part of the installer asks.

Made by ``site.load`` alone, which has judged it; nothing here needs checking again. Paths are
absolute. Addresses are IPv4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal, get_args

Group = Literal["registry", "control_plane", "worker", "gpu"]
GROUPS: tuple[Group, ...] = get_args(Group)

KNOWN_HOSTS = "known_hosts"
VAULT_KEY = "vault.key"
TRUST_FOLDER = "trust"
SITE_KEY = "site.key"
STATE_FOLDER = ".perimeter"
API_PORT = 6443


@dataclass(frozen=True, slots=True)
class Ssh:
    """How the jump host reaches the hosts; without a key file the SSH agent is asked."""

    user: str
    key_file: Path | None
    become: bool


@dataclass(frozen=True, slots=True)
class Host:
    """One server of the site; ``name`` is also the name of its Kubernetes node."""

    name: str
    address: IPv4Address
    groups: frozenset[Group]
    ssh_port: int = 22
    interface: str = ""  # empty: the one that carries the address
    labels: Mapping[str, str] | None = None

    @property
    def is_node(self) -> bool:
        """Whether it runs a kubelet."""
        return bool(self.groups & {"control_plane", "worker"})


@dataclass(frozen=True, slots=True)
class Networks:
    """Address ranges inside the cluster; ``mtu`` 0 means what the interfaces have."""

    pods: IPv4Network
    services: IPv4Network
    mtu: int = 0

    @property
    def dns_address(self) -> IPv4Address:
        """Address of the cluster's own name service: the tenth, as kubeadm chooses it."""
        return self.services[10]


@dataclass(frozen=True, slots=True)
class Dns:
    """Name servers of the site (none is normal) and the domain inside the cluster."""

    servers: tuple[IPv4Address, ...]
    domain: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Name or address and port of the API; ``external`` when the site owns what answers there."""

    host: str
    port: int
    external: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Registry:
    """Embedded: one on every host of the group ``registry``. External: ``url`` says where."""

    mode: Literal["embedded", "external"]
    port: int
    data_dir: str
    url: str
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class Storage:
    """The default storage class and where its volumes lie on each worker."""

    storage_class: Literal["local-path"]
    path: str


@dataclass(frozen=True, slots=True)
class Minio:
    """Object storage in distributed mode: ``replicas`` servers with their drives."""

    namespace: str
    replicas: int
    drives_per_node: int
    volume_size: str

    @property
    def node_bytes(self) -> int:
        """Room the drives of one server take."""
        return self.drives_per_node * quantity_bytes(self.volume_size)


@dataclass(frozen=True, slots=True)
class Ca:
    """``generated``: the installer makes the site's CA; ``files``: the site brings one."""

    mode: Literal["generated", "files"]
    cert_file: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True)
class GpuDriver:
    """Who brings the driver of the GPUs, and whether its modules may come compiled already."""

    driver: Literal["container", "host"] = "container"
    precompiled: Literal["never", "prefer", "require"] = "prefer"


@dataclass(frozen=True, slots=True)
class Site:
    """Everything site.yaml says, defaults filled in; ``hosts`` keep their order."""

    name: str
    path: Path
    ssh: Ssh
    hosts: tuple[Host, ...]
    networks: Networks
    dns: Dns
    endpoint: Endpoint
    registry: Registry
    storage: Storage
    minio: Minio
    ca: Ca
    gpu: GpuDriver = GpuDriver()
    values: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # by chart

    def group(self, group: Group) -> tuple[Host, ...]:
        """The hosts in ``group``, in the order of site.yaml."""
        return tuple(host for host in self.hosts if group in host.groups)

    def host(self, name: str) -> Host:
        """The host of this name; raises KeyError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    @property
    def nodes(self) -> tuple[Host, ...]:
        """Hosts that run a kubelet: control planes and workers."""
        return tuple(host for host in self.hosts if host.is_node)

    @property
    def registry_endpoints(self) -> tuple[str, ...]:
        """URLs of the registry's replicas, in the order in which they are asked."""
        if self.registry.mode == "external":
            return (self.registry.url,)
        return tuple(
            f"https://{host.address}:{self.registry.port}" for host in self.group("registry")
        )

    @property
    def folder(self) -> Path:
        """Where site.yaml lies; the site's other files lie beside it."""
        return self.path.parent

    @property
    def known_hosts_file(self) -> Path:
        """Pinned SSH host keys, written by init."""
        return self.folder / KNOWN_HOSTS

    @property
    def vault_key_file(self) -> Path:
        """Password of the site's Ansible Vault, written by init."""
        return self.folder / VAULT_KEY

    @property
    def trust_folder(self) -> Path:
        """Public keys whose signatures this site accepts."""
        return self.folder / TRUST_FOLDER

    @property
    def site_key_file(self) -> Path:
        """The key that signs what the site tells the builder, made by site-facts."""
        return self.folder / SITE_KEY

    @property
    def state_folder(self) -> Path:
        """What the installer keeps between runs."""
        return self.folder / STATE_FOLDER


_UNITS = {"Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}


def quantity_bytes(text: str) -> int:
    """Bytes of a quantity such as ``10Gi``; raises ValueError."""
    number, unit = text[:-2], text[-2:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ValueError(f"not a size: {text!r}")
    return int(number) * _UNITS[unit]
