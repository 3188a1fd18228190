"""What ``perimeter-install init`` writes: a commented site.yaml out of a few answers.

The text is judged by the very rules ``load`` has before anything is written.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import HostError, InputError
from perimeter_installer.site.host_keys import write_whole
from perimeter_installer.site.load import parse_site
from perimeter_installer.site.model import GROUPS, Site

DEFAULT_GROUPS = "control_plane,worker"
_HOST_OPTION = re.compile(r"(?P<name>[^=:]+)=(?P<address>[^:]+)(?::(?P<groups>[a-z_,]+))?")
_PLAIN = re.compile(
    r"[A-Za-z/~][A-Za-z0-9_./~-]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:/[0-9]+)?|[1-9][0-9]*[KMGT]i"
)
_NOT_TEXT = {"true", "false", "null", "~"}


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """One host as it was named on the command line."""

    name: str
    address: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SiteAnswers:
    """Everything init was told; empty means: leave the default, as a comment."""

    name: str
    hosts: tuple[HostAnswer, ...]
    ssh_user: str
    ssh_key: str = ""
    pods: str = ""
    services: str = ""
    dns_servers: tuple[str, ...] = ()
    endpoint: str = ""
    registry_url: str = ""
    registry_ca: str = ""
    storage_path: str = ""
    volume_size: str = ""


def parse_host(text: str) -> HostAnswer:
    """``n1=10.99.0.11:control_plane,worker,registry``; raises InputError[bad-host-option]."""
    match = _HOST_OPTION.fullmatch(text.strip())
    if not match:
        raise InputError(
            "bad-host-option",
            f"cannot read the host {text!r}",
            hint=f"write NAME=ADDRESS:GROUPS, groups of {', '.join(GROUPS)};"
            " such as n1=10.99.0.11:control_plane,worker,registry",
        )
    groups = (match["groups"] or DEFAULT_GROUPS).split(",")
    return HostAnswer(match["name"], match["address"], tuple(filter(None, groups)))


def render_site(answers: SiteAnswers) -> str:
    """The text of site.yaml; every key that was not given stands there as a comment."""
    lines = [
        "# A site of perimeter. Every key is explained in docs/site.md; nothing here is secret.",
        "# perimeter-install preflight says what is wrong with it and with the hosts.",
        "",
        "site:",
        f"  name: {scalar(answers.name)}",
        "",
        "# How this machine logs in on the hosts. The host keys are pinned in known_hosts beside",
        "# this file. Without key_file the SSH agent is asked.",
        "ssh:",
        f"  user: {scalar(answers.ssh_user)}",
        _optional("key_file", answers.ssh_key, "~/.ssh/id_ed25519"),
        "  # become: true          # sudo -n; the default unless the user is root",
        "",
        "# Groups: registry (serves images to the others), control_plane (one, or three to outlive",
        "# one), worker (runs the load), gpu. The name is the name of the Kubernetes node.",
        "hosts:",
    ]
    for host in answers.hosts:
        lines += [
            f"  {scalar(host.name)}:",
            f"    address: {scalar(host.address)}",
            f"    groups: [{', '.join(map(scalar, host.groups))}]",
        ]
    lines += [
        "    # ssh_port: 22",
        "    # interface: eth0       # default: the one that carries the address",
        "    # labels: {zone: a}",
        "",
        "# Addresses inside the cluster. They must not hold any address of your site.",
        "networks:",
        _optional("pods", answers.pods, "10.244.0.0/16", always=True),
        _optional("services", answers.services, "10.96.0.0/16", always=True),
        "  # mtu: 1500             # when the network carries less than the interfaces say",
        "",
        "# Name servers of the site. None is normal behind an air gap: then nothing is forwarded.",
        "dns:",
        f"  servers: [{', '.join(map(scalar, answers.dns_servers))}]",
        "  # domain: cluster.local",
        "",
        "# A virtual address or load balancer that the site owns. Without one the nodes find the",
        "# API server by themselves.",
        *_section(
            "kubernetes",
            [("endpoint", answers.endpoint)],
            f"endpoint: api.{answers.name}.site:6443",
        ),
        "",
        "# embedded: a registry on every host of the group. external: one that exists already.",
        *_registry(answers),
        "",
        "storage:",
        "  class: local-path",
        _optional("path", answers.storage_path, "/var/lib/perimeter/volumes", always=True),
        "",
        "# Object storage. replicas: one server on each of so many workers (default: at most 4).",
        "minio:",
        "  # replicas: 3",
        "  # drives_per_node: 2",
        _optional("volume_size", answers.volume_size, "10Gi", always=True),
        "",
        "# generated: perimeter makes the site's CA. files: bring one (cert_file, key_file).",
        "ca:",
        "  mode: generated",
        "",
        "# Who brings the driver of the GPUs: container (the GPU operator), or host (you did).",
        "# gpu:",
        "#   driver: container",
        "#   precompiled: prefer   # never, prefer or require modules compiled for your kernel",
        "",
        "# Values of your own for a chart win over all others. What asks for an image that the",
        "# bundle lacks is refused before anything is changed.",
        "# values:",
        "#   minio:",
        "#     resources: {requests: {memory: 4Gi}}",
    ]
    return "\n".join(lines) + "\n"


def _registry(answers: SiteAnswers) -> list[str]:
    if not answers.registry_url:
        return [
            "registry:",
            "  mode: embedded",
            "  port: 5000",
            "  data_dir: /var/lib/perimeter/registry",
        ]
    lines = ["registry:", "  mode: external", f"  url: {scalar(answers.registry_url)}"]
    return [*lines, _optional("ca_file", answers.registry_ca, "registry-ca.pem")]


def _section(name: str, pairs: list[tuple[str, str]], example: str) -> list[str]:
    """A section with what was given, or wholly as a comment."""
    given = [f"  {key}: {scalar(value)}" for key, value in pairs if value]
    return [f"{name}:", *given] if given else [f"# {name}:", f"#   {example}"]


def _optional(key: str, value: str, default: str, *, always: bool = False) -> str:
    if value or always:
        return f"  {key}: {scalar(value or default)}"
    return f"  # {key}: {default}"


def scalar(text: str) -> str:
    """``text`` as YAML that is read as the same text."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT
    return text if plain else json.dumps(text, ensure_ascii=False)


def plan_site(answers: SiteAnswers, path: Path, *, force: bool) -> tuple[str, Site]:
    """The text for ``path`` and the site it describes; writes nothing.

    Raises InputError[site-exists] unless ``force``, and InputError[bad-site] with every problem.
    """
    if path.exists() and not force:
        raise InputError(
            "site-exists",
            f"{path} exists already and was left as it is",
            hint="edit it; or --pin to pin the host keys of what it describes, or --force",
        )
    if not path.absolute().parent.is_dir():
        raise InputError("no-folder", f"there is no folder {path.absolute().parent}")
    text = render_site(answers)
    return text, parse_site(text, path)


def write_site(site: Site, text: str) -> None:
    """Writes site.yaml (mode 0644), all or nothing; raises HostError[cannot-write]."""
    write_whole(site.path, text, 0o644)


def make_vault_key(site: Site) -> bool:
    """Makes the vault's password (mode 0600) unless there is one; whether it was made.

    It is never replaced: what was encrypted with the old one could not be opened any more.
    """
    path = site.vault_key_file
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        return False
    except OSError as error:
        raise HostError("cannot-write", f"cannot write {path}: {error.strerror}") from error
    return True


def make_trust_folder(site: Site) -> bool:
    """Makes the empty folder for trusted keys; whether it was made. No key is ever put there."""
    try:
        site.trust_folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise HostError(
            "cannot-write", f"cannot make {site.trust_folder}: {error.strerror}"
        ) from error
    return True
