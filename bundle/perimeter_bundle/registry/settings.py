"""How the connected machine speaks to the outside: certificates, mirrors, proxies, time limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.loopback import is_loopback

DEFAULT_WORKERS = 4
MAX_WORKERS = 64
SMALL_PER_WORKER = 4  # small transfers wait for answers, not for the line: more run at once
_HELPER_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "GPG_TTY", "PASSWORD_STORE_DIR"),
    }
)
_HELPER_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Everything a transfer needs to know beside its address.

    ``ca_file`` is trusted in addition to the system's certificates. ``mirrors`` maps a host to
    addresses that are asked before it, in order; a registry mirror may have a path
    (``https://harbor.example/proxy-quay``), which goes between ``/v2`` and the repository.
    ``unsafe_http_hosts`` are spoken to without TLS; names as in references, port included.
    """

    ca_file: Path | None = None
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    docker_config: Path | None = None
    workers: int = DEFAULT_WORKERS
    connect_timeout_s: float = 15.0
    read_timeout_s: float = 60.0
    # by scheme, and "no" for the exceptions; not shown, since an address may carry a password
    proxies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    unsafe_http_hosts: frozenset[str] = frozenset()
    # for credential helpers; may hold keys of a cloud account
    helper_environment: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"LANG": "C.UTF-8"}), repr=False
    )

    @property
    def connections(self) -> int:
        """How many transfers of a run may be open at once, large and small ones together."""
        return self.workers * (1 + SMALL_PER_WORKER)


def settings_from(
    *,
    environment: Mapping[str, str],
    ca_file: Path | None = None,
    mirrors: Iterable[str] = (),
    docker_config: Path | None = None,
    workers: int = DEFAULT_WORKERS,
    unsafe_http_hosts: Iterable[str] = (),
) -> RegistrySettings:
    """The settings that options and environment stand for; mirrors read ``host=url``.

    Without ``docker_config`` it is looked for where docker and podman put it. Proxies come from
    the usual variables (``https_proxy``, ``no_proxy``…). Raises InputError[bad-settings] with
    every problem.
    """
    problems: list[str] = []
    unsafe = frozenset(unsafe_http_hosts)
    if ca_file is not None and not ca_file.is_file():
        problems.append(f"no CA file {ca_file}")
    if docker_config is not None and not docker_config.is_file():
        problems.append(f"no docker configuration {docker_config}")
    if not 1 <= workers <= MAX_WORKERS:
        problems.append(f"{workers} workers; between 1 and {MAX_WORKERS} make sense")
    table: dict[str, list[str]] = {}
    for text in mirrors:
        host, equals, url = text.partition("=")
        problem = _mirror_problem(host, url, unsafe) if equals else "it must read host=url"
        if problem:
            problems.append(f"mirror {_without_password(text)}: {problem}")
        else:
            table.setdefault(host, []).append(url.rstrip("/"))
    if problems:
        raise InputError("bad-settings", "the connection settings are wrong", problems=problems)
    return RegistrySettings(
        ca_file=ca_file,
        mirrors=MappingProxyType({host: tuple(urls) for host, urls in table.items()}),
        docker_config=docker_config or _usual_docker_config(environment),
        workers=workers,
        proxies=MappingProxyType(_proxies(environment)),
        unsafe_http_hosts=unsafe,
        helper_environment=MappingProxyType(_helper_environment(environment)),
    )


def goes_past_proxy(host: str, no_proxy: str) -> bool:
    """Whether ``no_proxy`` (names, suffixes, addresses, networks, ``*``) names ``host``.

    This machine itself is never asked for through a proxy.
    """
    if is_loopback(host):
        return True
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        name = entry.lstrip(".")
        if entry == "*" or (name and (host.lower() == name or host.lower().endswith(f".{name}"))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # one of the two is a name
    return False


def _mirror_problem(host: str, url: str, unsafe: frozenset[str]) -> str | None:
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        return "not an address"
    if not host or "/" in host:
        return "what stands before = must be a host, such as quay.io"
    if not parts.hostname or not port_is_fine:
        return "not an address"
    if parts.username is not None or parts.password is not None:
        return "write the password into the docker configuration, not into the address"
    if parts.query or parts.fragment:
        return "an address with ? or # cannot be a mirror"
    if parts.scheme == "http" and (is_loopback(parts.hostname) or parts.netloc in unsafe):
        return None
    return None if parts.scheme == "https" else "a mirror must be https"


def _without_password(text: str) -> str:
    head, at, tail = text.rpartition("@")
    if not at:
        return text
    return f"{head.partition('://')[0]}://***@{tail}" if "://" in head else f"***@{tail}"


def _usual_docker_config(environment: Mapping[str, str]) -> Path | None:
    candidates = []
    if environment.get("DOCKER_CONFIG"):
        candidates.append(Path(environment["DOCKER_CONFIG"]) / "config.json")
    elif environment.get("HOME"):
        candidates.append(Path(environment["HOME"]) / ".docker" / "config.json")
    if environment.get("REGISTRY_AUTH_FILE"):
        candidates.append(Path(environment["REGISTRY_AUTH_FILE"]))
    if environment.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    return next((path for path in candidates if path.is_file()), None)


def _helper_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # a helper is the user's own program and finds keychains and accounts by these
    kept = {
        key: value
        for key, value in environment.items()
        if key in _HELPER_VARIABLES or key.startswith(_HELPER_PREFIXES)
    }
    return {**kept, "LANG": "C.UTF-8"}


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    proxies = {}
    for name in ("http", "https", "all", "no"):
        upper = "" if name == "http" else environment.get(f"{name}_proxy".upper(), "")
        value = environment.get(f"{name}_proxy", "") or upper
        if value:
            proxies[name] = value
    return proxies
