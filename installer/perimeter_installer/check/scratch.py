"""A namespace for the length of a check, and the pods in it. Nothing of it is left behind.

A check that was killed leaves its namespace; the next one removes it first. Pods run as nobody,
without any right, from images of the bundle.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.check.kube import Cluster, Manifest, PodState
from perimeter_installer.check.recorder import CheckFailed

PREFIX = "perimeter-check-"
LABEL = "perimeter.internal/check"
READY_TIMEOUT_S = 180.0
GONE_TIMEOUT_S = 120.0
POLL_S = 1.0
SLEEP = ("sleep", "3600")  # a killed check's pods end by themselves
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Scratch:
    """A namespace that belongs to this check alone."""

    cluster: Cluster
    namespace: str

    def start(self, pods: Sequence[Manifest], timeout_s: float = READY_TIMEOUT_S) -> None:
        """Makes pods and waits until all are ready; raises CheckFailed naming the others."""
        for manifest in pods:
            self.cluster.create(manifest)
        self.wait_ready([name_of(manifest) for manifest in pods], timeout_s)

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Returns when every one of these pods is ready; raises CheckFailed."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = {pod.name: pod for pod in self.cluster.pods(self.namespace)}
            waiting = [name for name in names if name not in found or not found[name].ready]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise CheckFailed(
                    f"{len(waiting)} of {len(names)} pods did not start in {timeout_s:.0f} s",
                    *(_trouble(name, found.get(name)) for name in waiting),
                    hint="kubectl describe shows what they wait for: an image, a volume, a node",
                )
            time.sleep(POLL_S)

    def pod(self, name: str) -> PodState:
        """One pod as it is now; raises CheckFailed when it is gone."""
        for pod in self.cluster.pods(self.namespace):
            if pod.name == name:
                return pod
        raise CheckFailed(f"pod {name} is gone")

    def remove_pod(self, name: str) -> None:
        """Takes a pod away and waits until it is gone; raises CheckFailed."""
        self.cluster.delete_pod(self.namespace, name)
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while any(pod.name == name for pod in self.cluster.pods(self.namespace)):
            if time.monotonic() > deadline:
                raise CheckFailed(f"pod {name} was not gone after {GONE_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)


@contextmanager
def scratch(cluster: Cluster, on_event: OnEvent) -> Iterator[Scratch]:
    """A fresh namespace; removed with its volumes when the block ends, whatever happened."""
    leftovers = cluster.namespaces(LABEL)
    for name in leftovers:
        on_event(
            Event(EventKind.NOTE, "check", f"removing {name}, left by a check that was cut off")
        )
        cluster.delete_namespace(name)
    namespace = f"{PREFIX}{secrets.token_hex(4)}"
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )
    try:
        yield Scratch(cluster, namespace)
    finally:
        _remove(cluster, [namespace, *leftovers], on_event)


def _remove(cluster: Cluster, namespaces: Sequence[str], on_event: OnEvent) -> None:
    """Removes namespaces and waits for their volumes; what stays is told, and no error."""
    task = "check/clean-up"
    on_event(Event(EventKind.START, task, "removing what the check made"))
    deadline = time.monotonic() + GONE_TIMEOUT_S
    try:
        for name in namespaces:
            cluster.delete_namespace(name)
        while left := _left(cluster, namespaces):
            if time.monotonic() > deadline:
                on_event(Event(EventKind.FAIL, task, f"still being removed: {', '.join(left)}"))
                return
            time.sleep(POLL_S)
    except PerimeterError as error:
        on_event(Event(EventKind.FAIL, task, f"not removed: {error.message}"))
        return
    on_event(Event(EventKind.FINISH, task))


def _left(cluster: Cluster, namespaces: Sequence[str]) -> list[str]:
    left = [name for name in cluster.namespaces(LABEL) if name in namespaces]
    for name in namespaces:
        left += [f"volume {volume}" for volume in cluster.volumes_of(name)]
    return left


def name_of(manifest: Manifest) -> str:
    """``metadata.name``."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 - manifests are made in this package
    return str(metadata["name"])


def _trouble(name: str, pod: PodState | None) -> str:
    if pod is None:
        return f"{name}: gone"
    where = f" on {pod.node}" if pod.node else ", on no node yet"
    return f"{name}{where}: {pod.trouble}"


def pod_manifest(
    namespace: str,
    name: str,
    image: str,
    command: Sequence[str] = SLEEP,
    *,
    node: str = "",
    claim: str = "",
    secret: str = "",
    labels: Mapping[str, str] | None = None,
    ready: Sequence[str] = (),
) -> Manifest:
    """A pod that runs one command as nobody; /tmp is its own, /data a claim, /secret a Secret.

    With ``node`` it runs there, whatever the node is kept free for.
    """
    volumes: list[object] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[object] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in a container
    if claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": "/data"})
    if secret:
        volumes.append({"name": "secret", "secret": {"secretName": secret}})
        mounts.append({"name": "secret", "mountPath": "/secret", "readOnly": True})
    container: dict[str, object] = {
        "name": "check",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    if ready:
        container["readinessProbe"] = {
            "exec": {"command": list(ready)},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        }
    spec: dict[str, object] = {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if node:
        spec["affinity"] = {"nodeAffinity": _only_on(node)}
        spec["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": spec,
    }


def _only_on(node: str) -> Manifest:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
