"""Objects in the order of readiness, overlaid and judged."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perimeter_bundle.model.errors import ClusterError, InputError
from perimeter_installer.run.kube import rewrite
from perimeter_installer.run.kube_objects import (
    Object,
    ServiceName,
    Wave,
    called_services,
    comparable,
    identity,
    in_order,
    read_objects,
    with_overlays,
)
from perimeter_installer.run.readiness import is_hopeless, pod_troubles, why_not_ready


def make(kind: str, name: str, api: str = "v1", namespace: str = "", **fields: object) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def workload(name: str, app: str, namespace: str = "cert", kind: str = "Deployment") -> Object:
    template = {"metadata": {"labels": {"app": app, "more": "x"}}}
    return make(kind, name, "apps/v1", namespace, spec={"template": template})


HOOK = {"clientConfig": {"service": {"name": "hook", "namespace": "cert", "port": 9443}}}
OBJECTS: list[Object] = [
    make("Widget", "custom", "example.org/v1"),
    make(
        "ValidatingWebhookConfiguration",
        "checks",
        "admissionregistration.k8s.io/v1",
        webhooks=[HOOK],
    ),
    workload("plain", "plain"),
    workload("behind", "hook"),
    workload("elsewhere", "hook", "other"),
    make("Service", "hook", namespace="cert", spec={"selector": {"app": "hook"}}),
    make("ConfigMap", "settings", namespace="cert"),
    make("RoleBinding", "binding", "rbac.authorization.k8s.io/v1", "cert"),
    make("ServiceAccount", "account", namespace="cert"),
    make("CustomResourceDefinition", "widgets", "apiextensions.k8s.io/v1"),
    make("Namespace", "cert"),
]


def names(objects: tuple[Object, ...]) -> list[str]:
    return [identity(obj).rpartition("/")[2] for obj in objects]


@given(st.randoms(use_true_random=False))
def test_waves_do_not_depend_on_the_order_in_which_upstream_wrote(source: random.Random) -> None:
    shuffled = list(OBJECTS)
    source.shuffle(shuffled)
    waves = in_order(shuffled)
    assert names(waves[Wave.NAMESPACES]) == ["cert"]
    assert names(waves[Wave.DEFINITIONS]) == ["widgets"]
    assert names(waves[Wave.CONFIGURATION]) == ["account", "binding", "settings", "hook"]
    assert names(waves[Wave.WEBHOOK_WORKLOADS]) == ["behind"]
    assert names(waves[Wave.WEBHOOKS]) == ["checks"]
    assert sorted(names(waves[Wave.REST])) == ["custom", "elsewhere", "plain"]


def test_a_workload_behind_a_conversion_webhook_comes_before_the_rest() -> None:
    service = {"name": "hook", "namespace": "cert"}
    conversion = {"webhook": {"clientConfig": {"service": service}}}
    definition = make(
        "CustomResourceDefinition",
        "widgets",
        "apiextensions.k8s.io/v1",
        spec={"conversion": conversion},
    )
    waves = in_order([workload("behind", "hook"), definition, OBJECTS[5]])
    assert names(waves[Wave.WEBHOOK_WORKLOADS]) == ["behind"]


def test_a_kind_of_the_same_name_in_another_group_is_no_configuration() -> None:
    waves = in_order([make("Service", "knative", "serving.knative.dev/v1", "team")])
    assert names(waves[Wave.REST]) == ["knative"]


def test_the_services_that_the_api_server_calls() -> None:
    aggregated = make(
        "APIService",
        "v1beta1.metrics.k8s.io",
        "apiregistration.k8s.io/v1",
        spec={"service": {"name": "metrics", "namespace": "kube-system"}},
    )
    by_address = {"clientConfig": {"url": "https://elsewhere"}}
    urls = make("MutatingWebhookConfiguration", "u", "admissionregistration.k8s.io/v1")
    assert set(called_services([*OBJECTS, aggregated, {**urls, "webhooks": [by_address]}])) == {
        ServiceName("cert", "hook", 9443),
        ServiceName("kube-system", "metrics", 443),
    }


def test_lists_are_taken_apart_and_empty_documents_left_out() -> None:
    data = (
        b"---\n# nothing\n---\nkind: List\napiVersion: v1\n"
        b"items:\n- {kind: ConfigMap, apiVersion: v1, metadata: {name: a}}\n"
    )
    assert [identity(obj) for obj in read_objects([data], "x.yaml")] == ["ConfigMap/a"]


def test_dates_stay_text_as_json_has_none() -> None:
    data = b"{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: {day: 2026-11-22}}"
    (found,) = read_objects([data], "x.yaml")
    assert found["data"] == {"day": "2026-11-22"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a: [", "x.yaml is not YAML"),
        (b"just text", "holds something that is no Kubernetes object"),
        (b"kind: ConfigMap\napiVersion: v1\nmetadata: {}", "has no apiVersion or no name"),
        (b"kind: ConfigMap\nmetadata: {name: a}", "has no apiVersion or no name"),
        (b"!!python/object:os.system {}", "x.yaml is not YAML"),
    ],
)
def test_refuses_what_is_no_object(data: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        read_objects([data], "x.yaml")
    assert raised.value.code == "bad-manifest"


def test_overlays_merge_maps_and_named_lists_and_replace_the_rest() -> None:
    base = make(
        "Deployment",
        "a",
        "apps/v1",
        spec={
            "replicas": 1,
            "args": ["x", "y"],
            "gone": True,
            "containers": [{"name": "main", "image": "i", "env": [{"name": "A", "value": "1"}]}],
        },
    )
    overlay = make(
        "Deployment",
        "a",
        "apps/v1",
        spec={
            "replicas": 3,
            "args": ["z"],
            "gone": None,
            "containers": [
                {"name": "main", "env": [{"name": "B", "value": "2"}]},
                {"name": "side", "image": "s"},
            ],
        },
    )
    (merged,) = with_overlays([base], [overlay])
    assert merged["spec"] == {
        "replicas": 3,
        "args": ["z"],
        "containers": [
            {
                "name": "main",
                "image": "i",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            },
            {"name": "side", "image": "s"},
        ],
    }


def test_refuses_an_overlay_for_an_object_that_is_not_there() -> None:
    with pytest.raises(InputError, match="an overlay is for ConfigMap/b") as raised:
        with_overlays([make("ConfigMap", "a")], [make("ConfigMap", "b")])
    assert raised.value.code == "overlay-without-object"


def test_what_the_server_counts_is_no_difference() -> None:
    one = make("ConfigMap", "a", data={"x": "1"})
    live = {
        **one,
        "metadata": {"name": "a", "resourceVersion": "5", "generation": 2, "managedFields": []},
        "status": {"replicas": 3},
    }
    assert comparable(one) == comparable(live)
    assert comparable(one) != comparable({**live, "data": {"x": "2"}})


READY = {
    "Deployment": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    "StatefulSet": {"updatedReplicas": 2, "readyReplicas": 2},
    "DaemonSet": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2},
}


def state(kind: str, status: Mapping[str, object], generation: int = 4) -> Object:
    return {
        "kind": kind,
        "metadata": {"generation": generation},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 4, **status},
    }


@pytest.mark.parametrize("kind", sorted(READY))
def test_a_workload_is_ready_when_every_count_is_reached(kind: str) -> None:
    status: dict[str, object] = dict(READY[kind])
    assert why_not_ready(state(kind, status)) == ""
    assert why_not_ready(state(kind, status, generation=5)) == "it is not looked at yet"
    for field in status:
        if field not in ("replicas", "desiredNumberScheduled"):
            assert "1 of 2" in why_not_ready(state(kind, {**status, field: 1}))
            without = {key: value for key, value in status.items() if key != field}
            assert "0 of 2" in why_not_ready(state(kind, without))


def test_old_pods_of_a_deployment_must_be_gone() -> None:
    status = {**READY["Deployment"], "replicas": 3}
    assert why_not_ready(state("Deployment", status)) == "1 old pods are still there"


def test_a_failed_job_is_hopeless_and_says_why() -> None:
    failed = {"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}
    job = {"kind": "Job", "status": {"conditions": [failed]}}
    assert is_hopeless(job)
    assert why_not_ready(job) == "it failed: BackoffLimitExceeded"
    complete = {"type": "Complete", "status": "True"}
    assert why_not_ready({"kind": "Job", "status": {"conditions": [complete]}}) == ""
    assert why_not_ready({"kind": "Job"}) == "it is not complete"


def test_pods_say_what_the_kubelet_says() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    pod = {"metadata": {"name": "a"}, "status": {"containerStatuses": [{"name": "c", **waiting}]}}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    pending = {
        "metadata": {"name": "b"},
        "status": {"phase": "Pending", "conditions": [unscheduled]},
    }
    running = {"metadata": {"name": "c"}, "status": {"phase": "Running"}}
    assert list(pod_troubles([pod, pending, running])) == [
        "pod a: c: ImagePullBackOff not found",
        "pod b: 0/3 nodes are available",
    ]


def test_a_kubeconfig_points_at_the_control_plane_that_was_asked() -> None:
    data = b"clusters: [{name: k, cluster: {server: 'https://api.lab.internal:6443', x: 1}}]\n"
    assert b"https://10.99.0.12:6443" in rewrite(data, "10.99.0.12:6443")
    with pytest.raises(ClusterError, match="is no kubeconfig") as raised:
        rewrite(b"clusters: []", "x")
    assert raised.value.code == "bad-kubeconfig"
