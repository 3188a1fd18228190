"""The cluster's API as check needs it: plain values out, ClusterError when it does not answer.

Nothing of the untyped kubernetes client gets past this file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from websocket import WebSocketException

from perimeter_bundle.model.errors import ClusterError

REQUEST_TIMEOUT_S = (5.0, 30.0)  # to connect, to answer
EXEC_TIMEOUT_S = 60.0
POLL_S = 0.5

Manifest = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node as the cluster sees it."""

    name: str
    ready: bool
    reason: str
    kubelet: str
    runtime: str
    system: str
    kernel: str


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container that was started: ``image`` as written, ``image_id`` as the runtime resolved."""

    name: str
    image: str
    image_id: str
    ready: bool
    waiting: str


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod with every container that was started, init containers included."""

    namespace: str
    name: str
    node: str
    phase: str
    reason: str
    address: str
    terminating: bool
    containers: tuple[ContainerState, ...]
    init_containers: tuple[ContainerState, ...]

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def ready(self) -> bool:
        """Whether all its containers are; a pod that did its work counts."""
        if self.phase == "Succeeded":
            return True
        all_ready = all(one.ready for one in self.containers) and bool(self.containers)
        return self.phase == "Running" and all_ready

    @property
    def trouble(self) -> str:
        """Why it is not ready, in a few words."""
        waiting = [one.waiting for one in (*self.init_containers, *self.containers) if one.waiting]
        return ", ".join(dict.fromkeys([self.reason or self.phase, *waiting]))


@dataclass(frozen=True, slots=True)
class Executed:
    """What a command in a container answered."""

    status: int
    output: str
    errors: str


class Cluster:
    """One connection with the administrator's kubeconfig; never through a proxy."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_kube_config(
                config_file=str(kubeconfig), client_configuration=configuration
            )
        except kubernetes.config.ConfigException as error:
            raise ClusterError(
                "bad-kubeconfig", f"the kubeconfig cannot be used: {error}"
            ) from error
        configuration.proxy = None
        configuration.retries = urllib3.Retry(connect=2, read=0, redirect=0, backoff_factor=0.5)
        self._configuration = configuration
        self._api = kubernetes.client.ApiClient(configuration)
        self._core = kubernetes.client.CoreV1Api(self._api)

    def version(self) -> str:
        """Version of the API server."""
        with _answers("version"):
            api = kubernetes.client.VersionApi(self._api)
            return str(api.get_code(_request_timeout=REQUEST_TIMEOUT_S).git_version)

    def nodes(self) -> tuple[NodeState, ...]:
        """Every node, sorted by name."""
        with _answers("nodes"):
            items = self._core.list_node(_request_timeout=REQUEST_TIMEOUT_S).items
        return tuple(sorted((_node(item) for item in items), key=lambda node: node.name))

    def pods(self, namespace: str = "") -> tuple[PodState, ...]:
        """Every pod of a namespace, or of all; sorted."""
        with _answers("pods"):
            if namespace:
                found = self._core.list_namespaced_pod(
                    namespace, _request_timeout=REQUEST_TIMEOUT_S
                )
            else:
                found = self._core.list_pod_for_all_namespaces(_request_timeout=REQUEST_TIMEOUT_S)
        return tuple(sorted((_pod(item) for item in found.items), key=lambda pod: pod.full_name))

    def create(self, manifest: Manifest) -> None:
        """Makes one namespace, pod, service, secret or claim."""
        metadata = manifest["metadata"]
        assert isinstance(metadata, Mapping)  # noqa: S101 - manifests are made in this package
        namespace = metadata.get("namespace")
        makers = {
            "Namespace": self._core.create_namespace,
            "Pod": self._core.create_namespaced_pod,
            "Service": self._core.create_namespaced_service,
            "Secret": self._core.create_namespaced_secret,
            "PersistentVolumeClaim": self._core.create_namespaced_persistent_volume_claim,
        }
        where = () if namespace is None else (namespace,)
        with _answers(f"{manifest['kind']} {metadata.get('name')}"):
            makers[str(manifest["kind"])](*where, body=manifest, _request_timeout=REQUEST_TIMEOUT_S)

    def delete_pod(self, namespace: str, name: str) -> None:
        """Takes a pod away at once; one that is gone is no error."""
        with _answers(f"pod {name}"), _gone_is_fine():
            self._core.delete_namespaced_pod(
                name, namespace, grace_period_seconds=0, _request_timeout=REQUEST_TIMEOUT_S
            )

    def namespaces(self, label: str) -> tuple[str, ...]:
        """Names of the namespaces with a label."""
        with _answers("namespaces"):
            found = self._core.list_namespace(
                label_selector=label, _request_timeout=REQUEST_TIMEOUT_S
            )
        return tuple(sorted(str(item.metadata.name) for item in found.items))

    def delete_namespace(self, name: str) -> None:
        """Asks for a namespace to be removed; one that is gone is no error."""
        with _answers(f"namespace {name}"), _gone_is_fine():
            self._core.delete_namespace(name, _request_timeout=REQUEST_TIMEOUT_S)

    def volumes_of(self, namespace: str) -> tuple[str, ...]:
        """Volumes that are bound to claims of a namespace."""
        with _answers("volumes"):
            items = self._core.list_persistent_volume(_request_timeout=REQUEST_TIMEOUT_S).items
        return tuple(
            sorted(
                str(item.metadata.name)
                for item in items
                if item.spec.claim_ref and item.spec.claim_ref.namespace == namespace
            )
        )

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """The data of a Secret, base64 as the API gives it; never shown."""
        with _answers(f"secret {namespace}/{name}"):
            found = self._core.read_namespaced_secret(
                name, namespace, _request_timeout=REQUEST_TIMEOUT_S
            )
        return {str(key): str(value) for key, value in (found.data or {}).items()}

    def ready_replicas(self, namespace: str, stateful_set: str) -> tuple[int, int]:
        """How many pods of a stateful set are ready, and how many it should have."""
        apps = kubernetes.client.AppsV1Api(self._api)
        with _answers(f"statefulset {namespace}/{stateful_set}"):
            found = apps.read_namespaced_stateful_set(
                stateful_set, namespace, _request_timeout=REQUEST_TIMEOUT_S
            )
        return int(found.status.ready_replicas or 0), int(found.spec.replicas or 0)

    def default_storage_classes(self) -> tuple[str, ...]:
        """Names of the classes that claims without a class get."""
        api = kubernetes.client.StorageV1Api(self._api)
        with _answers("storage classes"):
            items = api.list_storage_class(_request_timeout=REQUEST_TIMEOUT_S).items
        mark = "storageclass.kubernetes.io/is-default-class"
        return tuple(
            sorted(
                str(item.metadata.name)
                for item in items
                if (item.metadata.annotations or {}).get(mark) == "true"
            )
        )

    def execute(
        self, pod: PodState, command: Sequence[str], *, timeout_s: float = EXEC_TIMEOUT_S
    ) -> Executed:
        """Runs a command in the first container of a pod and waits for its end.

        Raises ClusterError[exec-timeout], ClusterError[exec-failed] when it could not be started.
        """
        # a client of its own: stream() changes the client it is given while it runs
        api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._configuration))
        try:
            socket = stream(
                api.connect_get_namespaced_pod_exec,
                pod.name,
                pod.namespace,
                command=list(command),
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=timeout_s,
            )
            try:
                return _finish(socket, pod, timeout_s)
            finally:
                socket.close()
        except (ApiException, WebSocketException, urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(
                "exec-failed", f"no command could be run in {pod.full_name}: {_reason(error)}"
            ) from error


def _finish(socket: Any, pod: PodState, timeout_s: float) -> Executed:
    deadline = time.monotonic() + timeout_s
    output: list[str] = []
    errors: list[str] = []
    while socket.is_open() and time.monotonic() < deadline:
        socket.update(timeout=POLL_S)
        if socket.peek_stdout():
            output.append(socket.read_stdout())
        if socket.peek_stderr():
            errors.append(socket.read_stderr())
    if socket.is_open():
        raise ClusterError(
            "exec-timeout", f"a command in {pod.full_name} did not end in {timeout_s:.0f} s"
        )
    status = socket.returncode
    return Executed(int(-1 if status is None else status), "".join(output), "".join(errors))


@contextmanager
def without_proxy() -> Iterator[None]:
    """The site's own network is never reached through a proxy that the environment names."""
    names = ("no_proxy", "NO_PROXY")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _answers(what: str) -> Iterator[None]:
    """Turns what the client raises into ClusterError."""
    try:
        yield
    except ApiException as error:
        raise ClusterError(
            "api-refused", f"the API refused {what}: {_reason(error)}", context={"what": what}
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise ClusterError(
            "api-silent",
            f"the API did not answer about {what}: {_reason(error)}",
            hint="is the control plane up? try again with another control plane",
        ) from error


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


def _reason(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}".strip()
    return str(error)[:300]


def _node(item: Any) -> NodeState:
    ready = next((one for one in item.status.conditions or [] if one.type == "Ready"), None)
    info = item.status.node_info
    return NodeState(
        name=str(item.metadata.name),
        ready=ready is not None and ready.status == "True",
        reason=str((ready and ready.reason) or "never reported"),
        kubelet=str(info.kubelet_version),
        runtime=str(info.container_runtime_version),
        system=str(info.os_image),
        kernel=str(info.kernel_version),
    )


def _pod(item: Any) -> PodState:
    status = item.status
    return PodState(
        namespace=str(item.metadata.namespace),
        name=str(item.metadata.name),
        node=str(item.spec.node_name or ""),
        phase=str(status.phase or "Unknown"),
        reason=str(status.reason or ""),
        address=str(status.pod_ip or ""),
        terminating=item.metadata.deletion_timestamp is not None,
        containers=_containers(status.container_statuses, item.spec.containers),
        init_containers=_containers(status.init_container_statuses, item.spec.init_containers)
        + _containers(status.ephemeral_container_statuses, item.spec.ephemeral_containers),
    )


def _containers(statuses: Any, specs: Any) -> tuple[ContainerState, ...]:
    # the status has the image as the runtime names it; what was asked for is in the spec
    written = {one.name: one.image for one in specs or []}
    return tuple(
        ContainerState(
            name=str(one.name),
            image=str(written.get(one.name) or one.image),
            image_id=str(one.image_id or ""),
            ready=bool(one.ready),
            waiting=str((one.state.waiting and one.state.waiting.reason) or ""),
        )
        for one in statuses or []
    )
