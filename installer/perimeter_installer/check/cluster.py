"""Nodes, versions, system pods and the images that run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perimeter_installer.check.expected import Expected
from perimeter_installer.check.images import judge_images
from perimeter_installer.check.kube import Cluster, NodeState, PodState
from perimeter_installer.check.recorder import CheckFailed, Evidence
from perimeter_installer.report.model import NodeLine


def check_nodes(cluster: Cluster, expected: Expected) -> Evidence:
    """Every host of the site is a Ready node; those said to be off are noticed as such."""
    found = {node.name: node for node in cluster.nodes()}
    problems, lines = [], []
    for host in expected.site.nodes:
        node = found.pop(host.name, None)
        off = host.name in expected.nodes_off
        if node is None:
            problems.append(f"{host.name} is not in the cluster")
        elif off and node.ready:
            problems.append(f"{host.name} is said to be off, and the cluster still calls it Ready")
        elif not off and not node.ready:
            problems.append(f"{host.name} is not Ready: {node.reason}")
        else:
            lines.append(f"{host.name} is {'off, as expected' if off else 'Ready'}")
    problems += [f"{name} is in the cluster and not in site.yaml" for name in sorted(found)]
    if problems:
        raise CheckFailed(
            *problems, hint="journalctl -u kubelet on that host says what it waits for"
        )
    return lines


def check_versions(cluster: Cluster, expected: Expected) -> Evidence:
    """API server, kubelets and container runtimes are those of the release."""
    kubernetes, containerd = expected.version("kubernetes"), expected.version("containerd")
    problems = []
    server = cluster.version()
    if server != kubernetes:
        problems.append(f"the API server is {server}, the release has {kubernetes}")
    runtime = f"containerd://{containerd.removeprefix('v')}"
    for node in cluster.nodes():
        if node.kubelet != kubernetes:
            problems.append(f"kubelet of {node.name} is {node.kubelet}, not {kubernetes}")
        if node.runtime.replace("://v", "://") != runtime:
            problems.append(f"runtime of {node.name} is {node.runtime}, not {runtime}")
    if problems:
        raise CheckFailed(
            *problems, hint="perimeter-install apply brings every host to the release"
        )
    return [f"Kubernetes {kubernetes}, {runtime}"]


def check_pods(cluster: Cluster, expected: Expected, ignore_namespace: str = "") -> Evidence:
    """Every pod on a node that is on is running and ready."""
    pods = [pod for pod in cluster.pods() if pod.namespace != ignore_namespace]
    bad = unready(pods, expected.nodes_off)
    if bad:
        raise CheckFailed(
            *(f"{pod.full_name} on {pod.node or 'no node'}: {pod.trouble}" for pod in bad),
            hint="kubectl describe and kubectl logs of these pods say why",
        )
    ready = sum(pod.ready for pod in pods)
    return [f"{ready} pods are ready, in {len({pod.namespace for pod in pods})} namespaces"]


def unready(pods: Iterable[PodState], nodes_off: Sequence[str]) -> tuple[PodState, ...]:
    """Pods that should run and do not. Pure.

    A pod that is being taken away is no trouble; nor is one that waits for a node while one is off.
    """
    return tuple(
        pod
        for pod in pods
        if not pod.ready
        and not pod.terminating
        and pod.node not in nodes_off
        and not (nodes_off and not pod.node)
    )


def check_images(cluster: Cluster, expected: Expected) -> Evidence:
    """Each running container's image is, digest for digest, the bundle's."""
    judgement = judge_images(cluster.pods(), expected.images)
    if judgement.wrong:
        raise CheckFailed(
            *judgement.wrong,
            hint="what runs is not what was reviewed; find out where these images come from",
        )
    if not judgement.right:
        raise CheckFailed("no container runs at all")
    return [
        f"{one.reference} {one.digest} in {len(one.containers)} containers"
        for one in judgement.right
    ]


def node_lines(expected: Expected, nodes: Iterable[NodeState]) -> tuple[NodeLine, ...]:
    """The site's hosts as the report lists them. Pure."""
    found = {node.name: node for node in nodes}
    lines = []
    for host in expected.site.hosts:
        node = found.get(host.name)
        state = "no node" if not host.is_node else "absent"
        if node is not None:
            state = "Ready" if node.ready else "NotReady"
        if host.name in expected.nodes_off:
            state = "off"
        lines.append(
            NodeLine(
                name=host.name,
                address=str(host.address),
                groups=tuple(sorted(host.groups)),
                state=state,
                kubelet=node.kubelet if node else "",
                runtime=node.runtime.replace("://", " ") if node else "",
                system=node.system if node else "",
                kernel=node.kernel if node else "",
            )
        )
    return tuple(lines)
