#!/usr/bin/python
"""What the roles must know of a host, in one question; sets the fact perimeter_host."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_facts
short_description: What the roles must know of a host
description:
  - Reads the kernel, the network and what an earlier run left; changes nothing.
  - Two things can only be learnt by trying, and are tried without effect. A child process sets its
    own OOM score. A connection tracking limit is written back with the value it has.
options:
  address: {description: The host's address in the site., type: str, required: true}
  sysctls:
    description: Kernel settings and the values they must have.
    type: dict
    default: {}
  sysctl_minimums:
    description: Kernel settings and the values they must have at least.
    type: dict
    default: {}
author: [perimeter]
"""

RETURN = r"""
ansible_facts:
  description: One fact, C(perimeter_host).
  type: dict
  returned: always
"""

CGROUP2_MAGIC = 0x63677270
CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_max"
KUBERNETES_STATE = "/etc/perimeter/kubernetes.json"
KUBERNETES_PATHS = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/etcd/member",
    "/var/lib/kubelet/config.yaml",
)


def read_text(path: str) -> str | None:
    """Text of a small file; None when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def cgroup_version() -> int:
    """1 or 2, by the file system that is mounted at /sys/fs/cgroup."""
    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(b"/sys/fs/cgroup", buffer) != 0:
        return 1
    magic = int.from_bytes(buffer.raw[:8], "little")  # f_type is a long on 64-bit machines
    return 2 if magic & 0xFFFFFFFF == CGROUP2_MAGIC else 1


def has_default_route(table: str | None) -> bool:
    """Whether /proc/net/route names one: destination and mask all zero, and the route is up."""
    for line in (table or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & 1:
            return True
    return False


def interface_of(address: str, links: list) -> str:
    """Name of the interface that carries ``address``, out of ``ip -json address``."""
    for link in links:
        for entry in link.get("addr_info", []):
            if entry.get("local") == address:
                return str(link["ifname"])
    return ""


def list_links(run_command) -> list:
    """What ``ip -json address`` says."""
    status, output, _ = run_command(["ip", "-json", "-4", "address", "show"])
    try:
        links = json.loads(output) if status == 0 else []
    except ValueError:
        return []
    return [link for link in links if isinstance(link, dict) and link]


def oom_score_is_adjustable() -> bool:
    """Whether a process may protect itself from the OOM killer; containers of the system must."""
    script = "echo -999 > /proc/self/oom_score_adj"
    return (
        subprocess.run(["/bin/sh", "-c", script], check=False, capture_output=True).returncode == 0
    )


def is_writable_setting(path: str) -> bool:
    """Whether the kernel lets this host write a setting; the value stays what it was."""
    value = read_text(path)
    if value is None:
        return False
    try:
        Path(path).write_text(value.strip(), encoding="ascii")
    except OSError:
        return False
    return True


def sysctl_value(name: str) -> str | None:
    """Value of a kernel setting, blanks made one; None when this kernel has none."""
    text = read_text("/proc/sys/" + name.replace(".", "/"))
    return None if text is None else " ".join(text.split())


def wrong_sysctls(exact: dict, minimums: dict, value_of=sysctl_value) -> dict:
    """Settings that are not as they must be, with the values they have."""
    wrong = {}
    for name, wanted in exact.items():
        if (found := value_of(name)) != str(wanted):
            wrong[name] = found
    for name, wanted in minimums.items():
        found = value_of(name)
        if found is None or not found.isdigit() or int(found) < int(wanted):
            wrong[name] = found
    return wrong


def swap_devices(table: str | None) -> list[str]:
    """Names in /proc/swaps."""
    return [line.split()[0] for line in (table or "").splitlines()[1:] if line.split()]


def fstab_names_swap(table: str | None) -> bool:
    """Whether a reboot would bring swap back."""
    fields = [line.split() for line in (table or "").splitlines()]
    return any(
        len(line) > 2 and line[2] == "swap" and not line[0].startswith("#") for line in fields
    )


def kubernetes_state(text: str | None) -> dict:
    """What role kubernetes wrote down of itself; empty when it was never here."""
    try:
        state = json.loads(text or "{}")
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def main() -> None:
    """Runs as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "sysctls": {"type": "dict", "default": {}},
            "sysctl_minimums": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    links = list_links(module.run_command)
    facts = {
        "hostname": socket.gethostname(),
        "cgroup_version": cgroup_version(),
        "has_default_route": has_default_route(read_text("/proc/net/route")),
        "interface": interface_of(module.params["address"], links),
        "has_kernel_modules": Path("/proc/modules").exists(),
        "oom_score_is_adjustable": oom_score_is_adjustable(),
        "conntrack_is_writable": is_writable_setting(CONNTRACK),
        "wrong_sysctls": wrong_sysctls(module.params["sysctls"], module.params["sysctl_minimums"]),
        "swaps": swap_devices(read_text("/proc/swaps")),
        "fstab_names_swap": fstab_names_swap(read_text("/etc/fstab")),
        "kubernetes": kubernetes_state(read_text(KUBERNETES_STATE)),
        "kubernetes_paths": [path for path in KUBERNETES_PATHS if os.path.lexists(path)],
    }
    module.exit_json(changed=False, ansible_facts={"perimeter_host": facts})


if __name__ == "__main__":
    main()
