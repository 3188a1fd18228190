"""The lab as a whole: two networks, the servers on them, and the upstream that one of them sees."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

from . import cleanup
from .base import golden_images
from .cgroups import Group
from .host import alive, check_host, command, install_host_packages, say
from .network import CLOSED, Gateway, Network, port_of
from .nodes import Node, carry
from .state import LabError, StateFolder, read_json, write_json
from .upstream_faults import Fault, write_faults
from .upstream_process import start_upstream, stop_upstream

GIB = 1 << 30
NODE_ROOM_BYTES = 2 * GIB
OWN_FILES = ("lab.json", "id_jump*", "upstream*")  # in the state folder, besides its folders


class Lab:
    """A lab that is up. Get one from ``Lab.up()`` or ``Lab.attach()``."""

    def __init__(self, state: StateFolder, names: Sequence[str], gateway: Gateway) -> None:
        self.state = state
        self.names = tuple(names)
        self.gateway = gateway
        self.network = Network(state, gateway)

    # --- life ---------------------------------------------------------------------------------

    @classmethod
    def up(
        cls,
        nodes: int = 3,
        gateway: Gateway = "none",
        names: Sequence[str] | None = None,
        memory_bytes: int | Mapping[str, int] = 6 * GIB,
        keep_disks: bool = False,
        state: StateFolder | None = None,
    ) -> Lab:
        """Build up a lab with fresh disks; what a former one left is cleared first.

        ``names`` replaces the usual builder, jump, n1 … Raises LabError where the host cannot
        carry a lab, a node does not come up, or a process that built this lab up still runs.
        """
        state = state or StateFolder.from_environment()
        names = list(names or ["builder", "jump", *(f"n{i}" for i in range(1, nodes + 1))])
        if gateway not in get_args(Gateway):
            raise LabError(f"gateway is one of {', '.join(get_args(Gateway))}, not {gateway}")
        ports = [port_of(name) for name in names]
        state.use()
        install_host_packages()
        check_host()
        images = golden_images()
        with state.locked():
            _check_room(state.path, len(names))
            if found := cleanup.clear_leftovers(state, forget_disks=not keep_disks):
                say(f"cleared what a former run left: {cleanup.summary(found)}")
            _make_ssh_key(state.ssh_key)
            memory = {n: _memory_of(n, memory_bytes) for n in names}
            config = {"names": names, "gateway": gateway, "memory_bytes": memory}
            write_json(state.config, config)
            lab = cls(state, names, gateway)
            lab.network.create()
            with alive(f"boot {' '.join(names)}"):
                for port in ports:
                    _make_disk(images.for_node(port.name), state.node(port.name) / "disk.img")
                    lab.node(port.name).start(wait=False)
                lab.each(lambda node: node.wait_up())
            lab.trust_host_keys()
            lab.network.reset_escapes()
        return lab

    @classmethod
    def attach(cls, state: StateFolder | None = None) -> Lab:
        """The lab that is up already; raises LabError where there is none."""
        state = state or StateFolder.from_environment()
        config = read_json(state.config)
        if config is None:
            raise LabError(f"no lab in {state.path}")
        lab = cls(state, config["names"], config["gateway"])
        if not any(node.running() for node in lab.nodes):
            raise LabError(f"the lab in {state.path} is down")
        return lab

    def down(self) -> None:
        """Shut every node down in order and remove all but the disks."""
        self.state.use()
        with self.state.locked():
            with alive("shut down"):
                self.stop_upstream()
                self.each(lambda node: node.stop())
            cleanup.clear_leftovers(self.state, forget_disks=False)
        self.state.give_back()

    @staticmethod
    def down_anyway(state: StateFolder) -> None:
        """Take down what is left of a lab, also one whose supervisors are gone."""
        try:
            lab = Lab.attach(state)
        except LabError:
            state.use()
            with state.locked():
                cleanup.clear_leftovers(state, forget_disks=False)
            state.give_back()
        else:
            lab.down()

    def clean(self) -> None:
        """Switch everything off at once and remove it from the host, disks included."""
        clean(self.state)

    # --- servers ------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        if name not in self.names:
            raise LabError(f"no such node: {name} (there are {', '.join(self.names)})")
        return Node(self.state, name)

    @property
    def nodes(self) -> list[Node]:
        return [Node(self.state, name) for name in self.names]

    @property
    def closed_nodes(self) -> list[Node]:
        return [node for node in self.nodes if node.port.side is CLOSED]

    def each(self, action: Callable[[Node], Any], names: Iterable[str] | None = None) -> None:
        """Do the same with several nodes at once; raises the first error after all ended."""
        chosen = [self.node(name) for name in names or self.names]
        with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
            for done in [pool.submit(action, node) for node in chosen]:
                done.result()

    def carry(self, src_in_node_path: str, from_node: str, to_node: str, dst: str) -> float:
        """Carry a folder by hand to another node's disk; gives back how many seconds it took."""
        return carry(self.node(from_node), src_in_node_path, self.node(to_node), dst)

    def trust_host_keys(self) -> None:
        """Let the jump host know the nodes' host keys, as an administrator who saw them would."""
        if "jump" in self.names:
            home = "/root/.ssh/known_hosts"
            self.node("jump").run(["sh", "-c", f"cat > {home}"], input=self.known_hosts())

    def known_hosts(self) -> str:
        """A known_hosts file for the closed nodes, by name and address."""
        lines = []
        for node in self.closed_nodes:
            key = node.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()
            lines.append(f"{node.name},{node.address} {key[0]} {key[1]}\n")
        return "".join(lines)

    # --- the closed side ----------------------------------------------------------------------

    def closed_side_escapes(self) -> dict[str, Any]:
        """Counters of packets that tried to leave the closed side; see ``Network.escapes``."""
        return self.network.escapes([port_of(name) for name in self.names])

    def reset_escapes(self) -> None:
        self.network.reset_escapes()

    # --- the upstream -------------------------------------------------------------------------

    def start_upstream(self, content: Path, extra_wheels: Path | None = None) -> list[str]:
        """Serve a content folder to the builder under its real names; gives back the names."""
        return start_upstream(self.state, self.network, self._builder(), content, extra_wheels)

    def stop_upstream(self) -> None:
        stop_upstream(self.state)

    def upstream_faults(self, *faults: Fault) -> None:
        """Order faults in place of the former ones; without any, all is well again."""
        write_faults(self.state.upstream_faults, *faults)

    def upstream_requests(self) -> list[dict[str, Any]]:
        """The access log of the upstream, oldest first."""
        log = self.state.upstream_log
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _builder(self) -> Node | None:
        return self.node("builder") if "builder" in self.names else None


def clean(state: StateFolder) -> list[str]:
    """Remove a lab from the host, whatever state it is in; gives back what was found."""
    state.use()
    with state.locked():
        found = cleanup.clear_leftovers(state)
        for pattern in OWN_FILES:
            for path in state.path.glob(pattern):
                path.unlink()
    state.give_back()
    return found


def status(state: StateFolder) -> list[dict[str, Any]]:
    """One row per node: name, address, state, memory and disk in use."""
    config = read_json(state.config) or {"names": []}
    rows: list[dict[str, Any]] = []
    for name in config["names"]:
        node = Node(state, name)
        word = "off"
        if node.running():
            word = "paused" if Group(state, name).frozen() else "on"
        disk = node.folder / "disk.img"
        taken = disk.stat().st_blocks * 512 if disk.exists() else 0
        row = {"name": name, "address": node.address, "state": word}
        rows.append(row | {"memory_bytes": node.memory_bytes(), "disk_bytes": taken})
    return rows


def _memory_of(name: str, memory_bytes: int | Mapping[str, int]) -> int:
    if isinstance(memory_bytes, int):
        return memory_bytes
    return memory_bytes.get(name, 6 * GIB)


def _check_room(folder: Path, nodes: int) -> None:
    """Refuse a disk that a cluster's nodes would fill: each takes two to three GiB."""
    free = shutil.disk_usage(folder).free
    if free < nodes * NODE_ROOM_BYTES:
        needed = f"{nodes} nodes need {nodes * NODE_ROOM_BYTES / GIB:.0f} GiB"
        raise LabError(f"{needed} in {folder}, and {free / GIB:.1f} GiB are free")


def _make_ssh_key(path: Path) -> None:
    if not path.exists():
        command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jump", "-f", str(path)])


def _make_disk(image: Path, disk: Path) -> None:
    """A copy of the golden image, unless the node has a disk already."""
    if disk.exists():
        return
    disk.parent.mkdir(parents=True, exist_ok=True)
    (disk.parent / "provisioned").unlink(missing_ok=True)
    temporary = disk.with_suffix(".tmp")
    copy = ["nice", "cp", "--sparse=always", "--reflink=auto", str(image), str(temporary)]
    command(copy, timeout_s=300)
    temporary.replace(disk)
