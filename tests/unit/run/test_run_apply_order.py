"""The order of applying and waiting, against a cluster in memory that becomes ready later."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.unit.run.test_run_kube_objects import OBJECTS, make, workload

from perimeter_bundle.model.errors import ClusterError
from perimeter_installer.run.kube_objects import Object, ServiceName, identity, text
from perimeter_installer.run.manifest_apply import ApplyRequest, ApplyResult, apply_objects


class MemoryCluster:
    """Objects get ready after ``reads_until_ready`` reads; notes what is done in which order."""

    def __init__(self, reads_until_ready: int = 2) -> None:
        self.objects: dict[str, Object] = {}
        self.done: list[str] = []
        self.reads: dict[str, int] = {}
        self.reads_until_ready = reads_until_ready
        self.refusals: list[ClusterError] = []
        self.now = 0.0

    def is_known(self, obj: Object) -> bool:
        return text(obj, "kind") != "Widget" or "CustomResourceDefinition/widgets" in self.objects

    def is_namespaced(self, obj: Object) -> bool:
        return text(obj, "kind") not in (
            *("Namespace", "CustomResourceDefinition", "Widget"),
            "ValidatingWebhookConfiguration",
        )

    def get(self, obj: Object) -> Object | None:
        name = identity(obj)
        found = self.objects.get(name)
        if found is None:
            return None
        self.reads[name] = self.reads.get(name, 0) + 1
        if self.reads[name] < self.reads_until_ready:
            return found
        if f"ready {name}" not in self.done:
            self.done.append(f"ready {name}")
        established = {"type": "Established", "status": "True"}
        counts = {"updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}
        return {
            **found,
            "status": {"phase": "Active", "conditions": [established], **counts},
        }

    def apply(self, obj: Object, *, dry_run: bool) -> Object:
        if self.refusals:
            raise self.refusals.pop()
        if not dry_run:
            self.done.append(f"apply {identity(obj)}")
            self.objects[identity(obj)] = obj
        return obj

    def pods(self, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...]:
        waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
        status = {"containerStatuses": [{"name": "main", **waiting}]}
        return ({"metadata": {"name": "pod-1"}, "status": status},)

    def answers(self, service: ServiceName) -> bool:
        self.done.append(f"ask {service.namespace}/{service.name}")
        return self.done.count(self.done[-1]) > 1

    def refresh(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(cluster: MemoryCluster, objects: list[Object], **fields: object) -> ApplyResult:
    request = ApplyRequest(tuple(objects), **fields)  # type: ignore[arg-type]
    return apply_objects(cluster, request, sleep=cluster.sleep, clock=lambda: cluster.now)


def test_each_thing_waits_for_what_it_needs() -> None:
    cluster = MemoryCluster()
    result = run(cluster, OBJECTS)
    order = cluster.done
    for before, after in (
        ("ready Namespace/cert", "apply CustomResourceDefinition/widgets"),
        ("ready CustomResourceDefinition/widgets", "apply ServiceAccount/cert/account"),
        ("apply Service/cert/hook", "apply Deployment/cert/behind"),
        ("ready Deployment/cert/behind", "ask cert/hook"),
        ("ask cert/hook", "apply ValidatingWebhookConfiguration/checks"),
        ("apply ValidatingWebhookConfiguration/checks", "apply Widget/custom"),
        ("apply ValidatingWebhookConfiguration/checks", "apply Deployment/cert/plain"),
    ):
        assert order.index(before) < order.index(after), (before, after)
    assert order.count("ask cert/hook") == 2, "it asked until something answered"
    assert len(result.created) == len(OBJECTS)
    assert order[-1].startswith("ready Deployment/"), "workloads of the rest are waited for"


def test_a_wait_is_bounded_and_names_what_it_waits_for_and_why() -> None:
    cluster = MemoryCluster(reads_until_ready=10**9)
    deployment = {
        **make("Deployment", "slow", "apps/v1"),
        "spec": {"selector": {"matchLabels": {"app": "slow"}}},
    }
    with pytest.raises(ClusterError, match="Deployment/team/slow did not get ready") as raised:
        run(cluster, [deployment], namespace="team", timeout_s=30.0)
    assert "within 30 s: 0 of 1 updated" in raised.value.message
    assert raised.value.problems == ("pod pod-1: main: ImagePullBackOff",)
    assert 30 <= cluster.now < 33


def test_a_webhook_that_is_not_reachable_yet_is_given_a_moment() -> None:
    cluster = MemoryCluster()
    answer = {"answer": "Internal error: failed calling webhook x: connection refused"}
    cluster.refusals = [ClusterError("api-refused", "no", context=answer) for _ in range(3)]
    assert run(cluster, [make("ConfigMap", "a", namespace="b")]).created == ["ConfigMap/b/a"]
    assert cluster.now == 3.0

    cluster.refusals = [ClusterError("api-refused", "no", context=answer) for _ in range(100)]
    with pytest.raises(ClusterError):
        run(cluster, [make("ConfigMap", "a", namespace="b")])


def test_another_refusal_is_not_tried_again() -> None:
    cluster = MemoryCluster()
    cluster.refusals = [ClusterError("api-refused", "no", context={"answer": "invalid"})]
    with pytest.raises(ClusterError, match="no"):
        run(cluster, [make("ConfigMap", "a", namespace="b")])
    assert cluster.now == 0.0


def test_objects_without_namespace_get_the_one_given_or_default() -> None:
    cluster = MemoryCluster()
    run(cluster, [make("ConfigMap", "a")], namespace="team")
    run(cluster, [make("ConfigMap", "a")])
    assert sorted(cluster.objects) == ["ConfigMap/default/a", "ConfigMap/team/a"]


def test_check_applies_and_waits_for_nothing() -> None:
    cluster = MemoryCluster(reads_until_ready=10**9)
    result = run(cluster, OBJECTS, check=True)
    assert len(result.created) == len(OBJECTS)
    assert cluster.done == []
    assert cluster.now == 0.0


def test_without_wait_the_rest_is_not_waited_for() -> None:
    cluster = MemoryCluster(reads_until_ready=10**9)
    assert run(cluster, [workload("plain", "plain")], wait=False).changed
