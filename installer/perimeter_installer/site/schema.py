"""What may stand in site.yaml: keys and their shapes. What belongs together is in rules.py.

Strict: a number is not text and text is not a number. The meaning of every key is in docs/site.md.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from perimeter_installer.site.model import GROUPS, Group, quantity_bytes

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SITE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_LABEL_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_INVENTORY_WORDS = {"all", "ungrouped", "kubernetes", "localhost", *GROUPS}


def _site_name(text: str) -> str:
    if not _SITE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a name: lower-case letters, digits and -, at most 40")
    return text


def check_host_name(text: str) -> str:
    """``text`` when it can name a node; raises ValueError."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} cannot name a node: lower-case letters, digits and -, at most 63"
        )
    if text in _INVENTORY_WORDS:
        raise ValueError(f"{text!r} means something else already; choose another name")
    return text


def check_user(text: str) -> str:
    """``text`` when it can be a user name; raises ValueError."""
    if not _USER.fullmatch(text):
        raise ValueError(f"{text!r} is not a user name")
    return text


def _interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a network interface")
    return text


def parse_address(text: str) -> IPv4Address:
    """The IPv4 address a host can have; raises ValueError."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IP address") from error
    if not isinstance(address, IPv4Address):
        raise ValueError(f"{text} is IPv6; sites are IPv4 so far")  # noqa: TRY004
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise ValueError(f"{text} is not an address that other hosts can reach")
    if address.is_link_local or address == IPv4Address("255.255.255.255"):
        raise ValueError(f"{text} is not an address of a host in a site")
    return address


def _address(text: str) -> str:
    parse_address(text)
    return text


def parse_network(text: str) -> IPv4Network:
    """The network written as address/prefix; raises ValueError."""
    if "/" not in text:
        raise ValueError(f"{text!r} is not a network: write address/prefix, such as 10.244.0.0/16")
    try:
        network = IPv4Network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv4 network: {error}") from error
    if str(network.network_address) != text.partition("/")[0]:
        raise ValueError(f"{text} is not the start of its network; did you mean {network}?")
    return network


def _network(text: str) -> str:
    parse_network(text)
    return text


def _domain(text: str) -> str:
    if not _DNS_NAME.fullmatch(text) or len(text) > 200:
        raise ValueError(f"{text!r} is not a domain name")
    return text


def _server(text: str) -> str:
    """A name or an IPv4 address of a server."""
    if re.fullmatch(r"[0-9.]+", text) or ":" in text:
        return _address(text)
    return _domain(text)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not host:port")
    return _server(host), int(port)


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _folder(text: str) -> str:
    path = PurePosixPath(text)
    if not text.startswith("/") or ".." in path.parts or str(path) != (text.rstrip("/") or "/"):
        raise ValueError(f"{text!r} is not an absolute path written plainly")
    if len(path.parts) < 3 or path.parts[1] in ("proc", "sys", "dev", "run", "tmp", "boot", "etc"):
        raise ValueError(f"{text!r} is no place to keep data")
    if not re.fullmatch(r"[A-Za-z0-9_./+-]+", text):
        raise ValueError(f"{text!r} has characters that do not belong in such a path")
    return str(path)


def _https_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL") from error
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not an https:// URL")
    if parts.username or parts.password:
        raise ValueError("the URL carries credentials; they belong in the vault")
    _server(parts.hostname)
    return text.rstrip("/")


def _size(text: str) -> str:
    try:
        quantity_bytes(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a size: write 10Gi, 500Mi or 2Ti") from error
    return text


def _label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if (slash and not _DNS_NAME.fullmatch(prefix)) or not _LABEL_PART.fullmatch(name):
        raise ValueError(f"{text!r} is not the key of a label")
    if prefix.endswith(("kubernetes.io", "k8s.io")) and not prefix.startswith("node"):
        raise ValueError(f"{text!r}: the prefix belongs to Kubernetes itself")
    return text


def _label_value(text: str) -> str:
    if text and not _LABEL_PART.fullmatch(text):
        raise ValueError(f"{text!r} is not the value of a label")
    return text


def _chart_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} cannot name a chart")
    return text


Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, AfterValidator(_address)]
Folder = Annotated[str, AfterValidator(_folder)]
FileName = Annotated[str, Field(min_length=1, max_length=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SitePart(_Part):
    name: Annotated[str, AfterValidator(_site_name)]


class SshPart(_Part):
    user: Annotated[str, AfterValidator(check_user)]
    key_file: FileName | None = None
    become: bool | None = None


class HostPart(_Part):
    address: Address
    groups: Annotated[list[Group], Field(min_length=1)]
    ssh_port: Port = 22
    interface: Annotated[str, AfterValidator(_interface)] | None = None
    labels: dict[
        Annotated[str, AfterValidator(_label_key)], Annotated[str, AfterValidator(_label_value)]
    ] = {}


class NetworksPart(_Part):
    pods: Annotated[str, AfterValidator(_network)] = "10.244.0.0/16"
    services: Annotated[str, AfterValidator(_network)] = "10.96.0.0/16"
    mtu: Annotated[int, Field(ge=576, le=65535)] | None = None


class DnsPart(_Part):
    servers: list[Address] = []
    domain: Annotated[str, AfterValidator(_domain)] = "cluster.local"


class KubernetesPart(_Part):
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None


class RegistryPart(_Part):
    mode: Literal["embedded", "external"] = "embedded"
    port: Port = 5000
    data_dir: Folder = "/var/lib/perimeter/registry"
    url: Annotated[str, AfterValidator(_https_url)] | None = None
    ca_file: FileName | None = None


class StoragePart(_Part):
    class_: Annotated[Literal["local-path"], Field(alias="class")] = "local-path"
    path: Folder = "/var/lib/perimeter/volumes"


class MinioPart(_Part):
    namespace: Annotated[str, AfterValidator(check_host_name)] = "minio"
    replicas: Annotated[int, Field(ge=1, le=32)] | None = None
    drives_per_node: Annotated[int, Field(ge=1, le=16)] | None = None
    volume_size: Annotated[str, AfterValidator(_size)] = "10Gi"


class CaPart(_Part):
    mode: Literal["generated", "files"] = "generated"
    cert_file: FileName | None = None
    key_file: FileName | None = None


class GpuPart(_Part):
    driver: Literal["container", "host"] = "container"
    precompiled: Literal["never", "prefer", "require"] = "prefer"


class SiteFile(_Part):
    """The whole of site.yaml."""

    site: SitePart
    ssh: SshPart
    hosts: Annotated[
        dict[Annotated[str, AfterValidator(check_host_name)], HostPart], Field(min_length=1)
    ]
    networks: NetworksPart = NetworksPart()
    dns: DnsPart = DnsPart()
    kubernetes: KubernetesPart = KubernetesPart()
    registry: RegistryPart = RegistryPart()
    storage: StoragePart = StoragePart()
    minio: MinioPart = MinioPart()
    ca: CaPart = CaPart()
    gpu: GpuPart = GpuPart()
    values: dict[Annotated[str, AfterValidator(_chart_name)], dict[str, JsonValue]] = {}
