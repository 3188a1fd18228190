"""The coherence rules over everything upstream renders: what they find, and what they do not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.check import find_incoherence
from perimeter_bundle.review.coherence.facts import Facts
from perimeter_bundle.review.coherence.gather import discovered_uses, rendered_objects
from perimeter_bundle.review.coherence.values import Finding, Severity
from perimeter_bundle.terminal.text import text_table
from tests.discovery.upstream import WHOLE, read_rendered, rendered_files
from tests.support.upstream_renders import catalog

# other ways to install the same parts: never together with what stands beside them
ALTERNATIVES = {
    "istio-install-ambient",
    "istio-cluster-local-gateway-base",
    "pipelines-k8s-native",
    "pipelines-minio-legacy",
    "pipelines-postgresql",
    "pipelines-standalone",
    "model-registry-postgres",
    "manifests/calico-vxlan",
    "manifests/kube-flannel",
    "manifests/local-path-storage",
    WHOLE,
}


@cache
def facts_of(name: str) -> Facts:
    data = read_rendered(rendered_files()[name])
    return Facts(
        uses=tuple(discovered_uses(name, discover([(name, data)]))),
        objects=tuple(rendered_objects(name, name, data)),
    )


@cache
def everything() -> Facts:
    """All components side by side, as a release would have them."""
    parts = [facts_of(name) for name in rendered_files() if name not in ALTERNATIVES]
    return Facts(
        uses=tuple(use for part in parts for use in part.uses),
        objects=tuple(one for part in parts for one in part.objects),
        kubernetes="v1.34.4",
    )


def by_id(facts: Facts) -> dict[str, Finding]:
    return {finding.id: finding for finding in find_incoherence(facts)}


def with_tag(facts: Facts, name: str, tag: str) -> Facts:
    """The same with every use of one image at another tag."""
    other = ImageReference.parse(f"{name}:{tag}")
    assert any(use.reference.name == name for use in facts.uses)
    uses = [
        replace(use, reference=other) if use.reference.name == name else use for use in facts.uses
    ]
    return replace(facts, uses=tuple(uses))


def test_the_mesh_whose_injector_asks_for_another_proxy_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = by_id(everything())
    rows = [(one.severity.value, one.id, one.title) for one in found.values()]
    with capsys.disabled():
        print("\n" + text_table(["severity", "finding", "title"], rows))
    mesh = found["mixed-versions:gcr.io/istio-release"]
    assert mesh.severity is Severity.ERROR
    assert mesh.title.endswith("parts are at 1.28.0, but proxyv2 1.29.0")
    assert any("istio-sidecar-injector" in spot.object_name for spot in mesh.spots)
    for said in ("istio-install", "istio-cluster-local-gateway"):
        assert f"version-label:{said}" in found


def test_nothing_else_is_called_an_error_and_little_a_warning() -> None:
    found = find_incoherence(everything())
    assert [f.id for f in found if f.severity is Severity.ERROR] == [
        "mixed-versions:gcr.io/istio-release"
    ]
    warnings = [f.id for f in found if f.severity is Severity.WARNING]
    assert [name for name in warnings if not name.startswith("floating-tag:")] == [
        "mixed-versions:docker.io/percona"  # its backup program is numbered by itself
    ]
    assert len(warnings) == 8


@pytest.mark.parametrize(
    ("image", "tag", "product"),
    [
        ("quay.io/argoproj/argoexec", "v3.6.10", "argo-workflows"),
        ("ghcr.io/kubeflow/kfp-launcher", "2.16.1", "kubeflow-pipelines"),
    ],
)
def test_a_product_that_the_catalog_names_is_at_one_version(
    image: str, tag: str, product: str
) -> None:
    products = catalog().components["kubeflow-pipelines"].products
    declared = tuple(("kubeflow-pipelines", one) for one in products)
    facts = replace(facts_of("pipelines"), products=declared)
    assert not [name for name in by_id(facts) if name.startswith("product-")]
    found = by_id(with_tag(facts, image, tag))
    assert found[f"product-versions:{product}"].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("component", "image", "tag", "finding", "severity"),
    [
        ("pipelines", "ghcr.io/kubeflow/kfp-launcher", "2.15.0", "ghcr.io/kubeflow", "error"),
        ("pipelines", "ghcr.io/kubeflow/kfp-driver", "2.14.3", "ghcr.io/kubeflow", "error"),
        ("pipelines", "quay.io/argoproj/argoexec", "v3.6.10", "quay.io/argoproj", "warning"),
        ("kserve", "docker.io/kserve/agent", "v0.15.2", "docker.io/kserve", "error"),
        (
            "jupyter-web-app",
            "ghcr.io/kubeflow/kubeflow/notebook-servers/jupyter-scipy",
            "v1.9.2",
            "ghcr.io/kubeflow/kubeflow/notebook-servers",
            "error",
        ),
        (
            "rendered-charts/percona-ps-db",
            "docker.io/percona/percona-mysql-router",
            "8.0.42",
            "docker.io/percona",
            "warning",
        ),
        ("katib", "ghcr.io/kubeflow/katib/katib-ui", "v0.18.0", "ghcr.io/kubeflow/katib", "error"),
    ],
)
def test_a_part_at_another_version_is_found(
    component: str, image: str, tag: str, finding: str, severity: str
) -> None:
    facts = facts_of(component)
    before = by_id(facts).get(f"mixed-versions:{finding}")
    after = by_id(with_tag(facts, image, tag))[f"mixed-versions:{finding}"]
    short = image.rpartition("/")[2]
    assert before is None or short not in before.title
    assert short in after.title
    assert after.severity.value == severity
