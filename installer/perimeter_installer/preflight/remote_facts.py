"""Facts of the host this runs on, as JSON on stdout. Sent to hosts through ``python3 -``.

Standard library only, and nothing newer than Python 3.7, so that a host whose Python is too old for
Ansible is told so. Changes nothing: where only writing can tell (oom_score_adj, nf_conntrack_max),
a child writes its own value, or the value that stands there already. Every part is gathered on its
own; a part that fails leaves its reason in "failed" and the rest goes on.

Argument 1 is a JSON object: paths, ports, programs, modules, leftovers, peers, names.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from errno import ECONNREFUSED, EINPROGRESS, ETIMEDOUT
from pathlib import Path

CLOCK = time.time()  # first of all: compared with when the jump host asked and was answered
PROBE_TIMEOUT_S = 3.0
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read(path: str, default: str = "") -> str:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return default


def call(*arguments: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S * 2,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def os_release() -> dict[str, str]:
    pairs = {}
    for line in (read("/etc/os-release") or read("/usr/lib/os-release")).splitlines():
        name, equals, value = line.partition("=")
        if equals and name in ("ID", "ID_LIKE", "VERSION_ID", "PRETTY_NAME"):
            pairs[name] = value.strip().strip("\"'")
    return pairs


def cgroup() -> dict[str, object]:
    unified = read("/sys/fs/cgroup/cgroup.controllers")
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return {"version": 2, "controllers": unified.split()}
    rows = [line.split() for line in read("/proc/cgroups").splitlines()[1:]]
    return {"version": 1, "controllers": [row[0] for row in rows if row[-1] == "1"]}


def memory() -> int:
    total = 0
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
        limit = read(path).strip()
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def swap() -> list[str]:
    return [line.split()[0] for line in read("/proc/swaps").splitlines()[1:] if line.split()]


def mounts() -> list[tuple[str, str, str]]:
    """Mount point, type and options of every mount."""
    found = []
    for line in read("/proc/self/mountinfo").splitlines():
        left, dash, right = line.partition(" - ")
        if dash:
            fields = left.split()
            point = fields[4].replace("\\040", " ")
            found.append((point, right.split()[0], fields[5]))
    return found


def disc(path: str, table: list[tuple[str, str, str]]) -> dict[str, object]:
    nearest = Path(path)
    while not nearest.is_dir():
        nearest = nearest.parent
    place = str(nearest.resolve())
    point, kind, options = "/", "", ""
    for mount in table:  # a later mount over the same point hides the earlier one
        inside = place == mount[0] or place.startswith(mount[0].rstrip("/") + "/")
        if inside and len(mount[0]) >= len(point):
            point, kind, options = mount
    stat = os.statvfs(place)
    return {
        "path": path,
        "mount": point,
        "kind": kind,
        "options": options.split(","),
        "device": nearest.stat().st_dev,
        "free_bytes": stat.f_bavail * stat.f_frsize,
        "total_bytes": stat.f_blocks * stat.f_frsize,
        "free_inodes": stat.f_favail if stat.f_files else -1,  # -1: the kind has no inode table
    }


def used_bytes(path: str) -> int:
    """What lies below ``path`` takes on its disc, as far as it can be counted in a few seconds."""
    deadline, total = time.monotonic() + PROBE_TIMEOUT_S, 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
        if time.monotonic() > deadline:
            break
    return total


def listening(ports: list[str]) -> list[dict[str, object]]:
    """Which of ``ports`` ("tcp/6443") somebody listens on, and who."""
    inodes = {}
    for protocol, state in (("tcp", "0A"), ("udp", "07")):
        for family in ("", "6"):
            for line in read("/proc/net/" + protocol + family).splitlines()[1:]:
                fields = line.split()
                port = f"{protocol}/{int(fields[1].rpartition(':')[2], 16)}"
                if fields[3] == state and port in ports:
                    inodes[fields[9]] = port
    owners = {}
    for process in process_folders() if inodes else []:
        for inode in sockets_of(process):
            if inode in inodes:
                owners[inodes[inode]] = process
    taken = set(inodes.values()) | {port for port in ports if port == "udp/8472" and vxlan_here()}
    return [
        {
            "port": port,
            "process": read(f"{owners[port]}/comm").strip() if port in owners else "",
            "program": program_of(owners[port]) if port in owners else "",
        }
        for port in sorted(taken)
    ]


def program_of(process: Path) -> str:
    with suppress(OSError):
        return os.readlink(process / "exe")  # noqa: PTH115 - Path.readlink is of Python 3.9
    return ""


def process_folders() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def sockets_of(process: Path) -> list[str]:
    found = []
    with suppress(OSError):  # it ended meanwhile
        for handle in (process / "fd").iterdir():
            with suppress(OSError):
                link = os.readlink(handle)  # noqa: PTH115 - Path.readlink is of Python 3.9
                if link.startswith("socket:["):
                    found.append(link[8:-1])
    return found


def vxlan_here() -> bool:
    """The kernel's own vxlan socket is in no /proc/net table with an owner."""
    return Path("/sys/class/net/flannel.1").is_dir()


def default_route() -> dict[str, str] | None:
    for line in read("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000" and fields[7] == "00000000" and int(fields[3], 16) & 1:
            gateway = socket.inet_ntoa(int(fields[2], 16).to_bytes(4, "little"))
            return {"interface": fields[0], "gateway": gateway}
    return None


def interfaces() -> list[dict[str, object]]:
    status, output = call("ip", "-j", "-4", "address", "show")
    if status != 0:
        return []
    found = []
    for link in json.loads(output or "[]"):
        if link.get("ifname"):
            addresses = [entry["local"] for entry in link.get("addr_info", [])]
            found.append(
                {"name": link["ifname"], "mtu": link.get("mtu", 0), "addresses": addresses}
            )
    return found


def resolver() -> dict[str, object]:
    lines = [line.split() for line in read("/etc/resolv.conf").splitlines()]
    return {
        "present": Path("/etc/resolv.conf").exists(),
        "servers": [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver"],
    }


def resolve(name: str) -> dict[str, object]:
    started = time.monotonic()
    status, output = call("getent", "ahostsv4", name)
    addresses = sorted({line.split()[0] for line in output.splitlines() if line.split()})
    seconds = time.monotonic() - started
    return {"name": name, "addresses": addresses if status == 0 else [], "seconds": seconds}


def found_leftovers(paths: list[str]) -> list[str]:
    found = []
    for path in paths:
        place = Path(path)
        if place.is_dir():
            with suppress(OSError):
                found += [path] if any(place.iterdir()) else []
        elif place.exists():
            found.append(path)
    return found


def processes(names: list[str]) -> list[str]:
    """Which of these programs run, containers' included."""
    running = {read(f"{process}/comm").strip() for process in process_folders()}
    return sorted(running & set(names))


def modules(names: list[str]) -> list[str]:
    """Which of these kernel modules are loaded, built in or can be loaded."""
    builtin = read(f"/lib/modules/{os.uname().release}/modules.builtin")
    filesystems = read("/proc/filesystems").split()
    there = []
    for name in names:
        if (
            Path(f"/sys/module/{name}").is_dir()
            or f"/{name}.ko" in builtin
            or (name == "overlay" and "overlay" in filesystems)
            or (name == "br_netfilter" and Path("/proc/sys/net/bridge").exists())
            or call("modprobe", "-n", "-q", name)[0] == 0
        ):
            there.append(name)
    return there


def oom_score_adj() -> bool:
    """Whether a process may lower its own value as containerd does for a pod's sandbox."""
    child = os.fork()
    if child == 0:
        try:
            with Path("/proc/self/oom_score_adj").open("w", encoding="ascii") as stream:
                stream.write("-998")
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def conntrack_writable() -> bool | None:
    """Whether nf_conntrack_max takes the value it has; None when there is none."""
    path = "/proc/sys/net/netfilter/nf_conntrack_max"
    value = read(path)
    if not value:
        return None
    try:
        with Path(path).open("w", encoding="ascii") as stream:
            stream.write(value)
    except OSError:
        return False
    return True


def number_of(server: str) -> str:
    """Its address; 0.0.0.0, where nobody answers, for a name that does not resolve."""
    if server.replace(".", "").isdigit():
        return server
    found = resolve(server)["addresses"]
    return str(found[0]) if isinstance(found, list) and found else "0.0.0.0"  # noqa: S104


def unreachable_peers(peers: list[list[object]]) -> list[str]:
    """Names of the hosts that answer no TCP connection from here; all are asked at once."""
    pending = []
    for name, address, port in peers:
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.setblocking(False)
        code = stream.connect_ex((number_of(str(address)), int(str(port))))
        pending.append((str(name), stream, code))
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    missing = []
    for name, stream, code in pending:
        if code == EINPROGRESS:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([], [stream], [], left)[1]
            code = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else ETIMEDOUT
        if code not in (0, ECONNREFUSED):  # a refusal is an answer
            missing.append(name)
        stream.close()
    return missing


def marker() -> dict[str, str]:
    try:
        value = json.loads(read("/etc/perimeter/node.json") or "{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: str(value.get(name, "")) for name in ("site", "release")} if value else {}


def active_units(names: list[str]) -> list[str]:
    output = call("systemctl", "is-active", *names)[1].split()
    return [name for name, state in zip(names, output) if state == "active"]  # noqa: B905


NVIDIA = "0x10de"
PCI_NAMES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
EFI_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def gpus() -> list[dict[str, object]]:
    """NVIDIA's display controllers (PCI class 03), each kind once with how many there are."""
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    root = Path("/sys/bus/pci/devices")
    for place in sorted(root.iterdir()) if root.is_dir() else []:
        device = read(f"{place}/device").strip()[2:6].lower()
        if read(f"{place}/vendor").strip() == NVIDIA and read(f"{place}/class")[:4] == "0x03":
            counts[device] = counts.get(device, 0) + 1
            loaded = read(f"/proc/driver/nvidia/gpus/{place.name}/information")
            for line in loaded.splitlines():
                if line.startswith("Model:"):
                    names[device] = line.partition(":")[2].strip()
    known = {} if all(device in names for device in counts) else pci_names()
    return [
        {"device": f"10de:{device}", "name": names.get(device) or known.get(device, ""),
         "count": count}
        for device, count in sorted(counts.items())
    ]  # fmt: skip


def pci_names() -> dict[str, str]:
    """Names of NVIDIA's devices by their id, out of the list that lspci reads."""
    found: dict[str, str] = {}
    for path in PCI_NAMES:
        inside = False
        with suppress(OSError), Path(path).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line[:1] not in ("\t", "#", "\n"):
                    inside = line.startswith("10de ")
                elif inside and line[:1] == "\t" and line[1:2] != "\t":
                    device, _, name = line.strip().partition("  ")
                    found.setdefault(device, name)
    return found


def nvidia_driver() -> str:
    """Version of the driver that is loaded; empty when none is."""
    words = read("/proc/driver/nvidia/version").partition("\n")[0].split()
    versions = [word for word in words if word[:1].isdigit() and "." in word]
    return versions[0] if versions else ""


def secure_boot() -> str:
    """on, off, or unknown; the variable is four bytes of attributes and one of value."""
    if not Path("/sys/firmware/efi").is_dir():
        # a container may hide it, a virtual machine without UEFI has none
        return "off" if Path("/sys/firmware").is_dir() else "unknown"
    try:
        data = Path(EFI_SECURE_BOOT).read_bytes()
    except FileNotFoundError:
        return "off" if any_efi_variable() else "unknown"
    except OSError:
        return "unknown"
    return {b"\x01": "on", b"\x00": "off"}.get(data[4:5], "unknown")


def any_efi_variable() -> bool:
    """Whether the kernel shows firmware variables at all."""
    folder = Path(EFI_SECURE_BOOT).parent
    return folder.is_dir() and any(folder.iterdir())


def main(config: dict[str, list[str]], peers: list[list[object]]) -> dict[str, object]:
    name = os.uname()
    table = mounts()
    parts: dict[str, Callable[[], object]] = {
        "os_release": os_release,
        "cgroup": cgroup,
        "memory_bytes": memory,
        "cpus": lambda: len(os.sched_getaffinity(0)),
        "swap": swap,
        "discs": lambda: [disc(path, table) for path in config["paths"]],
        "registry_bytes": lambda: sum(used_bytes(path) for path in config["registry"]),
        "listening": lambda: listening(config["ports"]),
        "default_route": default_route,
        "interfaces": interfaces,
        "resolver": resolver,
        "resolved": lambda: [resolve(each) for each in [name.nodename] + config["names"]],
        "leftovers": lambda: found_leftovers(config["leftovers"]),
        "processes": lambda: processes(config["processes"]),
        "modules": lambda: modules(config["modules"]),
        "ip_forward_writable": lambda: os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK),
        "oom_score_adj": oom_score_adj,
        "conntrack_writable": conntrack_writable,
        "missing_programs": lambda: [
            each for each in config["programs"] if not shutil.which(each, path=PROGRAM_PATH)
        ],
        "systemd": lambda: Path("/run/systemd/system").is_dir(),
        "firewalls": lambda: active_units(["firewalld", "ufw"]),
        "selinux_enforcing": lambda: read("/sys/fs/selinux/enforce").strip() == "1",
        "machine_id": lambda: read("/etc/machine-id").strip(),
        "product_uuid": lambda: read("/sys/class/dmi/id/product_uuid").strip().lower(),
        "unreachable_peers": lambda: unreachable_peers(peers),
        "marker": marker,
        "gpus": gpus,
        "nvidia_driver": nvidia_driver,
        "secure_boot": secure_boot,
    }
    facts: dict[str, object] = {
        "clock": CLOCK,
        "euid": os.geteuid(),
        "python": list(sys.version_info[:3]),
        "hostname": name.nodename,
        "kernel": name.release,
        "machine": name.machine,
    }
    failed = {}
    for part, gather in parts.items():
        try:
            facts[part] = gather()
        except Exception as error:
            failed[part] = f"{type(error).__name__}: {error}"
    facts["failed"] = failed
    return facts


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(main(request["config"], request["peers"])) + "\n")
