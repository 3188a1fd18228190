"""The Ansible inventory of a site; a pure function of it.

Every variable is described in docs/site.md, which roles are written against.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from perimeter_installer.site.model import GROUPS, Host, Site

CONNECT_TIMEOUT_S = 15
CONTROL_PERSIST_S = 120

Variables = dict[str, object]


def inventory(site: Site, known_hosts: Path | None = None) -> dict[str, object]:
    """The YAML inventory: one group ``all`` with hosts, groups and variables.

    ``known_hosts`` is the file of pinned host keys, the site's own by default.
    """
    children: dict[str, object] = {
        group: {"hosts": {host.name: {} for host in site.group(group)}} for group in GROUPS
    }
    children["kubernetes"] = {"children": {"control_plane": {}, "worker": {}}}
    return {
        "all": {
            "hosts": {host.name: _host_variables(host, site) for host in site.hosts},
            "children": children,
            "vars": {
                **_connection(site, known_hosts or site.known_hosts_file),
                **site_variables(site),
            },
        }
    }


def _connection(site: Site, known_hosts: Path) -> Variables:
    """How Ansible logs in: pinned keys only, and nobody's own ssh configuration.

    Without ``-F`` a ProxyJump or a key of the caller's would make apply see other hosts than
    preflight did.
    """
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": ssh_path(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }
    if site.ssh.key_file:
        options["IdentitiesOnly"] = "yes"
    common = ["-F", "/dev/null"]
    for name, value in options.items():
        common += ["-o", f"{name}={value}"]
    # no -C: what travels is compressed already, and twice costs both ends seconds for each archive
    persist = ["-o", "ControlMaster=auto", "-o", f"ControlPersist={CONTROL_PERSIST_S}s"]
    variables: Variables = {
        "ansible_connection": "ssh",
        "ansible_user": site.ssh.user,
        "ansible_become": site.ssh.become,
        "ansible_become_method": "ansible.builtin.sudo",
        "ansible_become_flags": "-H -S -n",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_args": shlex.join(persist),
        "ansible_ssh_common_args": shlex.join(common),
        "ansible_ssh_pipelining": True,
    }
    if site.ssh.key_file:
        variables["ansible_ssh_private_key_file"] = str(site.ssh.key_file)
    return variables


def ssh_path(path: Path) -> str:
    """``path`` as ssh's own configuration takes it: blanks quoted, percent signs doubled."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text


def site_variables(site: Site) -> Variables:
    """What is the same on all hosts, as plain values."""
    return {
        "perimeter_cluster_name": site.name,
        "perimeter_pod_cidr": str(site.networks.pods),
        "perimeter_service_cidr": str(site.networks.services),
        "perimeter_cluster_dns_address": str(site.networks.dns_address),
        "perimeter_network_mtu": site.networks.mtu,
        "perimeter_dns_servers": [str(server) for server in site.dns.servers],
        "perimeter_dns_domain": site.dns.domain,
        "perimeter_control_plane_endpoint": str(site.endpoint),
        "perimeter_control_plane_endpoint_host": site.endpoint.host,
        "perimeter_control_plane_endpoint_port": site.endpoint.port,
        "perimeter_control_plane_endpoint_external": site.endpoint.external,
        "perimeter_registry_mode": site.registry.mode,
        "perimeter_registry_port": site.registry.port,
        "perimeter_registry_data_dir": site.registry.data_dir,
        "perimeter_registry_endpoints": list(site.registry_endpoints),
        "perimeter_registry_ca_file": _text(site.registry.ca_file),
        "perimeter_storage_class": site.storage.storage_class,
        "perimeter_storage_path": site.storage.path,
        "perimeter_minio_namespace": site.minio.namespace,
        "perimeter_minio_replicas": site.minio.replicas,
        "perimeter_minio_drives_per_node": site.minio.drives_per_node,
        "perimeter_minio_volume_size": site.minio.volume_size,
        "perimeter_ca_mode": site.ca.mode,
        "perimeter_ca_cert_file": _text(site.ca.cert_file),
        "perimeter_ca_key_file": _text(site.ca.key_file),
        "perimeter_host_addresses": {host.name: str(host.address) for host in site.hosts},
    }


def _host_variables(host: Host, site: Site) -> Mapping[str, object]:
    return {
        "ansible_host": str(host.address),
        "ansible_port": host.ssh_port,
        "perimeter_node_name": host.name,
        "perimeter_node_address": str(host.address),
        "perimeter_node_interface": host.interface,
        "perimeter_node_groups": [group for group in GROUPS if group in host.groups],
        "perimeter_node_labels": dict(host.labels or {}),
    }


def _text(path: Path | None) -> str:
    return str(path) if path else ""
