"""Control groups (v1) of the lab: one group per node in every hierarchy.

The group is also the mark by which a lab finds its processes again after a kill: whatever runs in
``perimeter-lab/<tag>`` was started by the lab, and nothing else is ever ended by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .state import LabError, StateFolder

ROOT = Path("/sys/fs/cgroup")
PARENT = "perimeter-lab"
HIERARCHIES = (
    *("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"),
    *("systemd", "unified"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one node (or of the whole lab, with an empty name)."""

    state: StateFolder
    name: str = ""

    def path(self, hierarchy: str) -> Path:
        return ROOT / hierarchy / PARENT / self.state.tag / self.name

    def create(self, memory_bytes: int) -> None:
        """Make the group everywhere, with its memory limit."""
        for hierarchy in HIERARCHIES:
            root = ROOT / hierarchy
            if not root.exists():
                continue
            path = self.path(hierarchy)
            for folder in reversed([path, *path.parents]):
                if folder.is_relative_to(root) and folder != root:
                    folder.mkdir(exist_ok=True)
                    if hierarchy == "cpuset":  # unusable until both are written
                        for setting in ("cpuset.cpus", "cpuset.mems"):
                            (folder / setting).write_text((root / setting).read_text())
                        (folder / "cgroup.clone_children").write_text("1")
        (self.path("memory") / "memory.limit_in_bytes").write_text(str(memory_bytes))

    def enter(self) -> None:
        """Move the calling process into the group."""
        for hierarchy in HIERARCHIES:
            procs = self.path(hierarchy) / "cgroup.procs"
            if procs.exists():
                procs.write_text(str(os.getpid()))

    def processes(self) -> set[int]:
        """Ids of all processes in the group and below it, in any hierarchy."""
        found: set[int] = set()
        for hierarchy in HIERARCHIES:
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
        for hierarchy in HIERARCHIES:
            for folder in _below(self.path(hierarchy)):
                if folder != self.path(hierarchy):
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def remove(self) -> None:
        for hierarchy in HIERARCHIES:
            for folder in _below(self.path(hierarchy)):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):  # the parent may carry another lab
                (ROOT / hierarchy / PARENT).rmdir()

    def freeze(self) -> None:
        (self.path("freezer") / "freezer.state").write_text("FROZEN")

    def thaw(self) -> None:
        with contextlib.suppress(OSError):
            (self.path("freezer") / "freezer.state").write_text("THAWED")

    def frozen(self) -> bool:
        try:
            return (self.path("freezer") / "freezer.state").read_text().strip() != "THAWED"
        except OSError:
            return False

    def memory_bytes(self) -> int:
        """Memory in use without the page cache that could be dropped at once."""
        folder = self.path("memory")
        try:
            used = int((folder / "memory.usage_in_bytes").read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
        except OSError:
            return 0
        stat = dict(line.split() for line in lines)
        return used - int(stat.get("total_inactive_file", 0))


def join_script(pid: int) -> str:
    """Shell lines that put the shell into the root group of the node whose first process is pid.

    A command run in a node must count against the node's limits and freeze with it.
    """
    lines = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        hierarchy = controllers.removeprefix("name=") or "unified"
        folder = path.removesuffix("/init.scope")
        procs = ROOT / hierarchy / folder.lstrip("/") / "cgroup.procs"
        lines.append(f"echo $$ > '{procs}'")
    return "\n".join(lines)


def _below(path: Path) -> Iterator[Path]:
    """The group and all groups in it, deepest first."""
    for folder, _, _ in os.walk(path, topdown=False):
        yield Path(folder)
