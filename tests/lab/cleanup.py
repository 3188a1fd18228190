"""Clears what a lab left on the host, after an orderly end as well as after a kill.

Only what carries the lab's marks is touched: processes in its control group or recorded with their
start time, network namespaces with its prefix, loop devices over disks in its state folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections import Counter
from pathlib import Path

from .cgroups import Group, hierarchies
from .host import command
from .network import namespaces
from .state import Process, StateFolder


def clear_leftovers(state: StateFolder, forget_disks: bool = True) -> list[str]:
    """End and remove everything of the lab; gives back what was found, in words."""
    found = _end_processes(state)
    found += _detach_disks(state)
    found += _delete_namespaces(state)
    Group(state).remove()
    shutil.rmtree(state.path / "processes", ignore_errors=True)
    if forget_disks:
        shutil.rmtree(state.path / "nodes", ignore_errors=True)
    return found


def summary(found: list[str]) -> str:
    """How many of each kind, in one line."""
    counts = Counter(trace.rpartition(" ")[0] for trace in found)
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items())


def traces(state: StateFolder) -> list[str]:
    """What of the lab is on the host now, in words; empty after ``clear_leftovers``."""
    found = [f"process {pid}" for pid in sorted(Group(state).processes())]
    found += [f"process {p.pid}" for p in _recorded(state)]
    found += [f"network namespace {name}" for name in _own_namespaces(state)]
    found += [f"loop device {device}" for device, _ in _own_loops(state)]
    groups = [Group(state).path(hierarchy) for hierarchy in hierarchies()]
    found += [f"control group {path}" for path in groups if path.exists()]
    return found


def _recorded(state: StateFolder) -> list[Process]:
    records = sorted((state.path / "processes").glob("*.json"))
    return [process for record in records if (process := Process.read(record))]


def _end_processes(state: StateFolder) -> list[str]:
    recorded = _recorded(state)
    for process in recorded:
        process.signal(signal.SIGKILL)
    group = Group(state)
    for name in [path.name for path in (state.path / "nodes").glob("*")]:
        Group(state, name).thaw()  # a frozen process does not die
    left = group.processes()
    group.kill()
    for process in recorded:
        process.wait_gone(5.0)
    return [f"process {pid}" for pid in sorted(left | {process.pid for process in recorded})]


def _own_loops(state: StateFolder) -> list[tuple[str, str]]:
    listing = command(["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"]).stdout
    devices = json.loads(listing)["loopdevices"] if listing.strip() else []
    pairs = [(device["name"], device["back-file"] or "") for device in devices]
    return [pair for pair in pairs if Path(pair[1]).is_relative_to(state.path)]


def _detach_disks(state: StateFolder) -> list[str]:
    """Unmount and detach; the kernel does both by itself when a node's namespace ends."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1].encode().decode("unicode_escape")
        if Path(target).is_relative_to(state.path):
            command(["umount", "--lazy", target], check=False)
            found.append(f"mount {target}")
    for device, _ in _own_loops(state):
        command(["losetup", "--detach", device], check=False)
        found.append(f"loop device {device}")
    return found


def _own_namespaces(state: StateFolder) -> list[str]:
    return sorted(name for name in namespaces() if name.startswith(f"{state.tag}-"))


def _delete_namespaces(state: StateFolder) -> list[str]:
    own = _own_namespaces(state)
    for name in own:
        command(["ip", "netns", "del", name], check=False)
        with contextlib.suppress(OSError):
            Path(f"/run/netns/{name}").unlink()
    return [f"network namespace {name}" for name in own]
