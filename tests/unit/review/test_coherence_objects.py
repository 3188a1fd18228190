"""Objects looked at together, and against the release's Kubernetes."""

from __future__ import annotations

import pytest
import yaml

from perimeter_bundle.review.coherence.facts import ChartFact, ObjectFact
from perimeter_bundle.review.coherence.kubernetes import (
    kubernetes_ranges,
    removed_apis,
    removed_in,
)
from perimeter_bundle.review.coherence.objects import (
    always_pulled,
    object_facts,
    twice_defined,
    version_labels,
)
from perimeter_bundle.review.coherence.values import Severity

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app.kubernetes.io/version: LABEL}}
spec:
  template:
    spec:
      initContainers: [{image: 'busybox:1.36.1', imagePullPolicy: IfNotPresent}]
      containers: [{image: 'a.io/web:1.28.0', imagePullPolicy: Always}]
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: templates, namespace: shop}
data:
  trial.yaml: |
    spec:
      containers:
        - image: a.io/trial:1
          imagePullPolicy: Always
  config.json: '{"image": "a.io/x:1", "imagePullPolicy": "Always"}'
  note: imagePullPolicy is never Always here
"""
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shops.example.org}
spec: {group: example.org, scope: Cluster, names: {kind: Shop}}
"""


def facts(text: str, component: str = "shop", source: str = "chart") -> list[ObjectFact]:
    return list(object_facts(component, source, yaml.safe_load_all(text)))


def test_pull_policies_are_found_in_pods_and_in_text() -> None:
    objects = facts(f"{DEPLOYMENT}---{CONFIG}")
    (finding,) = always_pulled(objects)
    assert (finding.id, finding.severity) == ("always-pulled:shop", Severity.NOTE)
    assert [(spot.object_name, spot.path) for spot in finding.spots] == [
        ("ConfigMap/shop/templates", "data[config.json] line 1"),
        ("ConfigMap/shop/templates", "data[trial.yaml] line 4"),
        ("Deployment/shop/web", "spec.template.spec.containers[0].imagePullPolicy"),
    ]


def test_what_is_no_object_is_left_out() -> None:
    assert facts(
        "just text\n---\n[1, 2]\n---\nkind: [odd]\n---\nkind: Odd\nmetadata: text\n"
    ) == facts("kind: Odd\nmetadata: text\n")


def test_an_object_with_keys_that_are_not_text_can_be_compared() -> None:
    (one,) = facts("kind: ConfigMap\ndata: {1: a, b: c}\n")
    (two,) = facts("kind: ConfigMap\ndata: {1: a, b: d}\n")
    assert one.content != two.content


@pytest.mark.parametrize(
    ("other", "rule", "severity"),
    [
        ("kind: ClusterRole\nmetadata: {name: r}\nrules: []\n", "twice-the-same", Severity.NOTE),
        (
            "kind: ClusterRole\nmetadata: {name: r, labels: {a: b}}\nrules: []\n",
            "twice-defined",
            Severity.WARNING,
        ),
        ("kind: ClusterRole\nmetadata: {name: r}\nrules: [1]\n", "twice-defined", Severity.ERROR),
    ],
)
def test_one_object_from_two_sources(other: str, rule: str, severity: Severity) -> None:
    first = facts("kind: ClusterRole\nmetadata: {name: r}\nrules: []\n", "one")
    (finding,) = twice_defined([*first, *facts(other, "two")])
    assert (finding.rule, finding.severity) == (rule, severity)
    subject = "ClusterRole/r" if rule == "twice-defined" else "one/chart+two/chart"
    assert finding.subject == subject


def test_a_custom_resource_is_cluster_wide_when_its_definition_says_so() -> None:
    custom = "apiVersion: example.org/v1\nkind: Shop\nmetadata: {name: main}\nspec: {a: SPEC}\n"
    one, two = facts(custom, "one"), facts(custom.replace("SPEC", "other"), "two")
    assert list(twice_defined([*one, *two])) == []
    (finding,) = twice_defined([*one, *two, *facts(CRD, "crds")])
    assert finding.id == "twice-defined:Shop/main"


def test_the_same_name_in_two_namespaces_or_kinds_is_no_finding() -> None:
    text = "kind: Service\nmetadata: {name: web, namespace: NS}\n"
    objects = [*facts(text, "one"), *facts(text.replace("NS", "other"), "two")]
    assert list(twice_defined(objects)) == []
    unknown = "kind: Service\nmetadata: {name: web}\n"  # goes where its chart is installed
    assert list(twice_defined([*facts(unknown, "one"), *facts(unknown, "two")])) == []


def test_a_label_that_tells_another_version_than_the_images_is_a_note() -> None:
    (finding,) = version_labels(facts(DEPLOYMENT.replace("LABEL", "1.29.0")), (), ())
    assert finding.id == "version-label:shop"
    assert "1.29.0, but 1.28.0, 1.36.1" in str(finding.spots[0])
    for fine in ("v1.28.0", "1.28.0", "stable", "1.36.1"):
        assert list(version_labels(facts(DEPLOYMENT.replace("LABEL", fine)), (), ())) == []


def test_a_chart_that_writes_its_own_version_into_the_label_is_no_finding() -> None:
    own = "88.5.3, helm.sh/chart: stack-88.5.3"
    assert list(version_labels(facts(DEPLOYMENT.replace("LABEL", own)), (), ())) == []
    near = "1.29.0, helm.sh/chart: web-1.29.0"
    assert len(list(version_labels(facts(DEPLOYMENT.replace("LABEL", near)), (), ()))) == 1


def test_removed_apis_are_errors_from_the_kubernetes_on_that_lacks_them() -> None:
    objects = facts("apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: p}\n")
    (finding,) = removed_apis(objects, "v1.34.4")
    assert finding.id == "removed-api:policy/v1beta1/PodDisruptionBudget"
    assert finding.severity is Severity.ERROR
    assert "gone since Kubernetes 1.25; the release has v1.34.4" in finding.title
    assert list(removed_apis(objects, "v1.24.9")) == []


def test_only_what_kubernetes_removed_is_called_removed() -> None:
    assert removed_in("batch/v1beta1", "CronJob") == (1, 25, 0)
    assert removed_in("extensions/v1beta1", "Ingress") == (1, 22, 0)
    assert removed_in("extensions/v1beta1", "Deployment") == (1, 16, 0)
    assert removed_in("batch/v1", "CronJob") is None
    assert removed_in("serving.knative.dev/v1beta1", "DomainMapping") is None


def chart(kube_version: str, app_version: str = "") -> ChartFact:
    return ChartFact("shop", "shop", "1.0.0", app_version, kube_version)


def test_a_chart_for_another_kubernetes_is_an_error() -> None:
    (finding,) = kubernetes_ranges([chart("<1.30.0-0")], "v1.34.4")
    assert (finding.id, finding.severity) == ("kubernetes-range:shop", Severity.ERROR)
    assert finding.title == "chart shop 1.0.0 wants Kubernetes <1.30.0-0; the release has v1.34.4"
    assert list(kubernetes_ranges([chart(">=1.25.0-0"), chart("")], "v1.34.4")) == []
    (finding,) = kubernetes_ranges([chart("new ones")], "v1.34.4")
    assert finding.severity is Severity.NOTE
