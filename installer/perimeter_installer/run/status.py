"""What is installed at a site, and whether it lives: from the journal and from the live cluster.

Of use when the cluster is down, too: then it says so, and still who installed what and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.model.errors import PerimeterError
from perimeter_installer.run import journal
from perimeter_installer.run.cluster import ApiCluster, api_cluster
from perimeter_installer.run.journal import Entry, EntryKind
from perimeter_installer.run.kube import kube_access
from perimeter_installer.run.kube_objects import Object, dig, text
from perimeter_installer.run.readiness import pod_troubles
from perimeter_installer.run.state import State
from perimeter_installer.site.model import Site

ROLE_LABEL = "node-role.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """An apply as the journal tells it; ``step`` is where an unfinished one stands."""

    run: str
    release: str
    number: int
    time: str
    user: str
    bundle: str
    step: str = ""
    message: str = ""

    def to_dict(self) -> dict[str, object]:
        """The run as ``--json`` prints it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node as the API server sees it."""

    name: str
    ready: bool
    roles: tuple[str, ...]
    version: str
    trouble: str = ""

    def to_dict(self) -> dict[str, object]:
        """The node as ``--json`` prints it."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "roles": list(self.roles)}


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The live cluster; with ``problem`` nothing else is known."""

    control_plane: str = ""  # the one that answered
    version: str = ""
    nodes: tuple[NodeStatus, ...] = ()
    pods: Mapping[str, int] | None = None  # phase → how many
    troubles: tuple[str, ...] = ()  # one line for each pod that does not run
    problem: str = ""

    def to_dict(self) -> dict[str, object]:
        """The cluster as ``--json`` prints it."""
        return {
            "control_plane": self.control_plane,
            "version": self.version,
            "pods": dict(self.pods or {}),
            "troubles": list(self.troubles),
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """Everything ``status`` shows."""

    site: str
    installed: RunStatus | None
    unfinished: RunStatus | None
    cluster: ClusterStatus

    def to_dict(self) -> dict[str, object]:
        """The status as ``--json`` prints it."""
        return {
            "site": self.site,
            "release": self.installed.release if self.installed else "",
            "nodes": [node.to_dict() for node in self.cluster.nodes],
            "installed": self.installed.to_dict() if self.installed else None,
            "unfinished": self.unfinished.to_dict() if self.unfinished else None,
            "cluster": self.cluster.to_dict(),
        }


def status(site: Site) -> SiteStatus:
    """The site's status; a cluster that does not answer is part of it, not an error.

    Raises HostError[journal-damaged].
    """
    entries = journal.read(State.of(site).journal)
    installed, unfinished = read_runs(entries)
    return SiteStatus(site.name, installed, unfinished, _cluster(site))


def read_runs(entries: Sequence[Entry]) -> tuple[RunStatus | None, RunStatus | None]:
    """The newest whole run that ended well, and the newest run if it did not end. Pure."""
    installed: Entry | None = None
    unfinished: Entry | None = None
    for entry in entries:
        if entry.kind is EntryKind.RUN_FINISHED:
            installed = entry if entry.whole else installed
            unfinished = None
        elif entry.kind in (EntryKind.STEP_STARTED, EntryKind.STEP_FAILED):
            unfinished = entry
        elif entry.kind is EntryKind.RUN_STARTED:
            unfinished = unfinished or entry
    return _run(installed), _run(unfinished)


def read_nodes(nodes: Iterable[Object]) -> tuple[NodeStatus, ...]:
    """Nodes as they are shown, control planes first. Pure."""
    found = [_node(node) for node in nodes]
    return tuple(sorted(found, key=lambda node: ("control-plane" not in node.roles, node.name)))


def read_pods(pods: Sequence[Object]) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many pods are in which phase, and one line for each that does not run. Pure."""
    phases = Counter(text(pod, "status", "phase") or "Unknown" for pod in pods)
    troubles = [
        f"{text(pod, 'metadata', 'namespace')}: {line}"
        for pod in pods
        for line in pod_troubles([pod])
    ]
    return dict(sorted(phases.items())), tuple(troubles)


def _cluster(site: Site) -> ClusterStatus:
    try:
        with kube_access(site) as access, api_cluster(access.kubeconfig) as cluster:
            return _ask(cluster, access.control_plane)
    except PerimeterError as error:
        details = "; ".join(error.problems)
        return ClusterStatus(problem=f"{error.message}{': ' if details else ''}{details}")


def _ask(cluster: ApiCluster, control_plane: str) -> ClusterStatus:
    phases, troubles = read_pods(cluster.list("v1", "Pod"))
    return ClusterStatus(
        control_plane=control_plane,
        version=cluster.version(),
        nodes=read_nodes(cluster.list("v1", "Node")),
        pods=phases,
        troubles=troubles,
    )


def _run(entry: Entry | None) -> RunStatus | None:
    if entry is None:
        return None
    return RunStatus(
        run=entry.run,
        release=entry.release,
        number=entry.number,
        time=entry.time,
        user=entry.user,
        bundle=entry.bundle,
        step=entry.step,
        message=entry.message,
    )


def _node(node: Object) -> NodeStatus:
    labels = dig(node, "metadata", "labels")
    names = labels if isinstance(labels, Mapping) else {}
    conditions = dig(node, "status", "conditions")
    ready = next(
        (
            one
            for one in (conditions if isinstance(conditions, list) else ())
            if text(one, "type") == "Ready"
        ),
        None,
    )
    is_ready = text(ready, "status") == "True"
    cordoned = dig(node, "spec", "unschedulable") is True
    trouble = "" if is_ready else text(ready, "message") or "it never reported"
    return NodeStatus(
        name=text(node, "metadata", "name"),
        ready=is_ready,
        roles=tuple(
            sorted(name.removeprefix(ROLE_LABEL) for name in names if name.startswith(ROLE_LABEL))
        ),
        version=text(node, "status", "nodeInfo", "kubeletVersion"),
        trouble=trouble or ("cordoned: takes no new pods" if cordoned else ""),
    )
