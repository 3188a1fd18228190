"""Applies Kubernetes objects in the order of readiness, each wait bounded and with a name.

 1. Namespaces, and wait until they are active.
 2. Custom resource definitions, and wait until they are established.
 3. Rights, configuration, services.
 4. Workloads behind webhooks; wait until they are rolled out and their services answer.
 5. Webhooks and aggregated APIs.
 6. Everything else; with ``wait``, until its workloads are rolled out.
Server-side apply, field manager ``perimeter``; nothing is ever deleted. With ``check`` the API
server is asked for a dry run and nothing is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from perimeter_bundle.model.errors import ClusterError
from perimeter_installer.run.cluster import Cluster
from perimeter_installer.run.kube_objects import (
    WORKLOADS,
    Object,
    ServiceName,
    Wave,
    called_services,
    comparable,
    dig,
    identity,
    in_order,
    text,
)
from perimeter_installer.run.readiness import is_hopeless, pod_troubles, why_not_ready

POLL_S = 1.0
# An API server learns of new definitions and webhooks within seconds; until then it says no.
SETTLE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """What to apply and how. ``timeout_s`` bounds each single wait."""

    objects: tuple[Object, ...]
    namespace: str = ""
    wait: bool = True
    timeout_s: float = 300.0
    check: bool = False


@dataclass(slots=True)
class ApplyResult:
    """What became of each object, by kind, namespace and name."""

    created: list[str] = field(default_factory=list)
    configured: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the cluster is, or with check would be, different now."""
        return bool(self.created or self.configured)


def apply_objects(
    cluster: Cluster,
    request: ApplyRequest,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> ApplyResult:
    """Applies ``request.objects``; raises ClusterError naming what did not get ready and why."""
    return _Applying(cluster, request, sleep, clock).run()


class _Applying:
    """One run; holds what its steps share."""

    def __init__(
        self,
        cluster: Cluster,
        request: ApplyRequest,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._request = request
        self._sleep = sleep
        self._clock = clock
        self._result = ApplyResult()

    def run(self) -> ApplyResult:
        waves = in_order(self._request.objects, self._request.namespace)
        self._apply_and_wait(waves[Wave.NAMESPACES])  # 1
        self._apply_and_wait(waves[Wave.DEFINITIONS])  # 2
        if waves[Wave.DEFINITIONS] and not self._request.check:
            self._cluster.refresh()
        self._apply(waves[Wave.CONFIGURATION])  # 3
        self._apply_and_wait(waves[Wave.WEBHOOK_WORKLOADS])  # 4
        if waves[Wave.WEBHOOK_WORKLOADS]:
            self._wait_for_services(set(called_services(self._request.objects)))
        self._apply_and_wait(waves[Wave.WEBHOOKS])  # 5
        rest = self._apply(waves[Wave.REST])  # 6
        if self._request.wait:
            self._wait_for([obj for obj in rest if text(obj, "kind") in WORKLOADS])
        return self._result

    def _apply_and_wait(self, objects: Iterable[Object]) -> None:
        self._wait_for(self._apply(objects))

    def _apply(self, objects: Iterable[Object]) -> list[Object]:
        return [self._apply_one(obj) for obj in objects]

    def _apply_one(self, obj: Object) -> Object:
        if not self._cluster.is_known(obj):
            if self._request.check:  # its definition would be made before it
                self._result.created.append(identity(obj, self._request.namespace))
                return obj
            self._cluster.refresh()
        obj = self._placed(obj)
        name = identity(obj)
        before = self._cluster.get(obj)
        try:
            after = self._settled(obj)
        except ClusterError as error:
            if self._request.check and before is None and error.context.get("status") == "404":
                self._result.created.append(name)  # its namespace would be made before it
                return obj
            raise
        if before is None:
            self._result.created.append(name)
        elif comparable(before) != comparable(after):
            self._result.configured.append(name)
        else:
            self._result.unchanged.append(name)
        return obj

    def _placed(self, obj: Object) -> Object:
        """The object with its namespace written into it."""
        metadata = dig(obj, "metadata")
        if text(obj, "metadata", "namespace") or not self._cluster.is_namespaced(obj):
            return obj
        assert isinstance(metadata, Mapping)  # noqa: S101 - objects were checked when read
        namespace = self._request.namespace or "default"
        return {**obj, "metadata": {**metadata, "namespace": namespace}}

    def _settled(self, obj: Object) -> Object:
        """Applies; tries again for a moment while a new webhook is not reachable yet."""
        deadline = self._clock() + SETTLE_TIMEOUT_S
        while True:
            try:
                return self._cluster.apply(obj, dry_run=self._request.check)
            except ClusterError as error:
                answer = error.context.get("answer", "")
                if "failed calling webhook" not in answer or self._clock() > deadline:
                    raise
            self._sleep(POLL_S)

    def _wait_for(self, objects: Iterable[Object]) -> None:
        if self._request.check:
            return
        for obj in objects:
            self._wait_until(identity(obj), partial(self._missing, obj), obj)

    def _missing(self, obj: Object) -> str:
        live = self._cluster.get(obj)
        if live is None:
            return "it is gone"
        reason = why_not_ready(live)
        if reason and is_hopeless(live):
            raise self._not_ready(identity(obj), reason, obj)
        return reason

    def _wait_for_services(self, services: Iterable[ServiceName]) -> None:
        if self._request.check:
            return
        for service in sorted(services, key=lambda one: (one.namespace, one.name)):
            name = f"Service/{service.namespace}/{service.name}"
            self._wait_until(name, partial(self._silence, service), None)

    def _silence(self, service: ServiceName) -> str:
        return "" if self._cluster.answers(service) else "nobody answers"

    def _wait_until(self, name: str, missing: Callable[[], str], obj: Object | None) -> None:
        deadline = self._clock() + self._request.timeout_s
        while reason := missing():
            if self._clock() > deadline:
                raise self._not_ready(name, reason, obj)
            self._sleep(POLL_S)

    def _not_ready(self, name: str, reason: str, obj: Object | None) -> ClusterError:
        return ClusterError(
            "not-ready",
            f"{name} did not get ready within {self._request.timeout_s:g} s: {reason}",
            problems=self._troubles(obj) if obj else (),
            hint="kubectl describe and kubectl logs show more; then apply again",
        )

    def _troubles(self, obj: Object) -> list[str]:
        labels = dig(obj, "spec", "selector", "matchLabels")
        if text(obj, "kind") == "Job":
            labels = {"batch.kubernetes.io/job-name": text(obj, "metadata", "name")}
        if not isinstance(labels, Mapping) or not labels:
            return []
        wanted = {str(key): str(value) for key, value in labels.items()}
        try:
            pods = self._cluster.pods(text(obj, "metadata", "namespace"), wanted)
        except ClusterError as error:
            return [error.message]
        return list(pod_troubles(pods))
