"""Control groups of the lab: one group per node, on hosts with version 1 or 2.

The group is also the mark by which a lab finds its processes again after a kill: whatever runs in
``perimeter-lab/<tag>`` was started by the lab, and nothing else is ever ended by it.

Version 2 lets a group hold processes or groups, not both. There the supervisor sits in ``keeper``
and nspawn in ``machine``, which it divides further; on version 1 both sit in the node's group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .state import LabError, StateFolder

ROOT = Path("/sys/fs/cgroup")
PARENT = "perimeter-lab"
HIERARCHIES_V1 = (
    *("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"),
    *("systemd", "unified"),
)
CONTROLLERS_V2 = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")
Part = Literal["keeper", "machine"]


def is_v2() -> bool:
    """Whether this host has only version 2."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[str]:
    """Folders below /sys/fs/cgroup that have groups; version 2 has one, the folder itself."""
    return [""] if is_v2() else [name for name in HIERARCHIES_V1 if (ROOT / name).is_dir()]


def missing_controllers() -> list[str]:
    """What a node needs and this host does not have."""
    present = (ROOT / "cgroup.controllers").read_text().split() if is_v2() else hierarchies()
    return [name for name in ("cpu", "cpuset", "memory", "pids") if name not in present]


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one node (or of the whole lab, with an empty name)."""

    state: StateFolder
    name: str = ""

    def path(self, hierarchy: str = "") -> Path:
        return ROOT / hierarchy / PARENT / self.state.tag / self.name

    def create(self, memory_bytes: int) -> None:
        """Make the group everywhere, with its memory limit."""
        for hierarchy in hierarchies():
            root = ROOT / hierarchy
            path = self.path(hierarchy)
            for folder in reversed([path, *path.parents]):
                if folder.is_relative_to(root) and folder != root:
                    folder.mkdir(exist_ok=True)
                    if hierarchy == "cpuset":
                        _open_cpuset(folder, root)
                if is_v2() and folder.is_relative_to(root):
                    _pass_on_controllers(folder)
        if is_v2():
            for part in ("keeper", "machine"):
                (self.path() / part).mkdir(exist_ok=True)
            limit = self.path() / "memory.max"
        else:
            limit = self.path("memory") / "memory.limit_in_bytes"
        limit.write_text(str(memory_bytes))

    def enter(self, part: Part) -> None:
        """Move the calling process into the group."""
        for hierarchy in hierarchies():
            folder = self.path(hierarchy)
            procs = (folder / part if is_v2() else folder) / "cgroup.procs"
            procs.write_text(str(os.getpid()))

    def processes(self) -> set[int]:
        """Ids of all processes in the group and below it, in any hierarchy."""
        found: set[int] = set()
        for hierarchy in hierarchies():
            for folder in _below(self.path(hierarchy)):
                with contextlib.suppress(OSError):  # the group may vanish while it is read
                    found |= {int(p) for p in (folder / "cgroup.procs").read_text().split()}
        return found - {0, os.getpid()}

    def kill(self, timeout_s: float = 10.0) -> None:
        """SIGKILL whatever is in the group until it is empty."""
        self.thaw()
        deadline = time.monotonic() + timeout_s
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"processes of {self.name or 'the lab'} do not end: {sorted(left)}")
            time.sleep(0.05)

    def clear(self) -> None:
        """Remove the groups that a former boot left below this one."""
        keep = {self.path(), self.path() / "keeper", self.path() / "machine"}
        for hierarchy in hierarchies():
            for folder in _below(self.path(hierarchy)):
                if folder not in keep and folder != self.path(hierarchy):
                    with contextlib.suppress(OSError):
                        folder.rmdir()
        if is_v2():  # a group that passes controllers on takes no process
            with contextlib.suppress(OSError):
                self._machine_takes_processes_again()

    def remove(self) -> None:
        for hierarchy in hierarchies():
            for folder in _below(self.path(hierarchy)):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):  # the parent may carry another lab
                (ROOT / hierarchy / PARENT).rmdir()

    def freeze(self) -> None:
        path, frozen, _ = self._freezer()
        path.write_text(frozen)

    def thaw(self) -> None:
        path, _, thawed = self._freezer()
        with contextlib.suppress(OSError):
            path.write_text(thawed)

    def frozen(self) -> bool:
        path, _, thawed = self._freezer()
        try:
            return path.read_text().strip() != thawed
        except OSError:
            return False

    def memory_bytes(self) -> int:
        """Memory in use without the page cache that could be dropped at once."""
        folder = self.path("" if is_v2() else "memory")
        usage, cache = ("memory.current", "inactive_file")
        if not is_v2():
            usage, cache = ("memory.usage_in_bytes", "total_inactive_file")
        try:
            used = int((folder / usage).read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
        except OSError:
            return 0
        return used - int(dict(line.split() for line in lines).get(cache, 0))

    def _freezer(self) -> tuple[Path, str, str]:
        """The file that freezes, and what freezes and thaws; one node at a time."""
        if is_v2():
            return self.path() / "cgroup.freeze", "1", "0"
        return self.path("freezer") / "freezer.state", "FROZEN", "THAWED"

    def _machine_takes_processes_again(self) -> None:
        control = self.path() / "machine" / "cgroup.subtree_control"
        passed_on = control.read_text().split()
        control.write_text(" ".join(f"-{name}" for name in passed_on))


def join_script(pid: int) -> str:
    """Shell lines that put the shell into a group of the node whose first process is pid.

    A command run in a node must count against the node's limits and freeze with it. It gets the
    node's root group on version 1, and the group of its first process on version 2.
    """
    lines = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if is_v2():
            hierarchy, folder = "", path
        else:
            hierarchy = controllers.removeprefix("name=") or "unified"
            folder = path.removesuffix("/init.scope")
        procs = ROOT / hierarchy / folder.lstrip("/") / "cgroup.procs"
        lines.append(f"echo $$ > '{procs}'")
    return "\n".join(lines)


def _open_cpuset(folder: Path, root: Path) -> None:
    """A group of version 1 takes no process until it has processors and memory."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        (folder / setting).write_text((root / setting).read_text())
    (folder / "cgroup.clone_children").write_text("1")


def _pass_on_controllers(folder: Path) -> None:
    """Let the groups below have what this group has."""
    present = (folder / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS_V2 if name in present)
    if wanted:
        (folder / "cgroup.subtree_control").write_text(wanted)


def _below(path: Path) -> Iterator[Path]:
    """The group and all groups in it, deepest first."""
    for folder, _, _ in os.walk(path, topdown=False):
        yield Path(folder)
