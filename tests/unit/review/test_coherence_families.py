"""Parts of one product at versions that do not belong together, and what only looks like it."""

from __future__ import annotations

import pytest

from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import Use
from perimeter_bundle.review.coherence.families import (
    mixed_versions,
    product_versions,
    several_versions,
)
from perimeter_bundle.review.coherence.rules import Product, Same
from perimeter_bundle.review.coherence.values import Severity


def used(image: str, component: str = "shop", where: str = "Deployment/ns/x") -> Use:
    return Use(ImageReference.parse(image), component, where, "spec.image", image)


def all_used(*images: str) -> list[Use]:
    return [used(image) for image in images]


def test_one_image_at_two_versions_beside_its_siblings_is_an_error() -> None:
    uses = all_used(
        "gcr.io/mesh/pilot:1.28.0", "gcr.io/mesh/proxy:1.28.0", "gcr.io/mesh/proxy:1.29.0"
    )
    (finding,) = mixed_versions(uses)
    assert finding.id == "mixed-versions:gcr.io/mesh"
    assert finding.severity is Severity.ERROR
    assert finding.title == "gcr.io/mesh: 2 parts are at 1.28.0, but proxy 1.29.0"
    assert {spot.seen for spot in finding.spots} == {str(use.reference) for use in uses}


def test_one_of_many_parts_at_another_minor_is_an_error() -> None:
    parts = [f"ghcr.io/flow/kfp-{name}:2.16.0" for name in ("api-server", "driver", "frontend")]
    (finding,) = mixed_versions(all_used(*parts, "ghcr.io/flow/kfp-launcher:2.15.2"))
    assert finding.severity is Severity.ERROR
    assert finding.title == "ghcr.io/flow: 3 parts are at 2.16.0, but kfp-launcher 2.15.2"


def test_another_patch_alone_is_a_warning() -> None:
    parts = [f"quay.io/certs/cert-{name}:v1.19.4" for name in ("controller", "webhook", "injector")]
    (finding,) = mixed_versions(all_used(*parts, "quay.io/certs/cert-solver:v1.19.3"))
    assert finding.severity is Severity.WARNING


def test_a_component_of_its_own_at_another_version_is_one_step_less() -> None:
    uses = [used(f"quay.io/flow/{name}:v1.10.0", name) for name in ("a", "b", "c", "d")]
    (finding,) = mixed_versions([*uses, used("quay.io/flow/e:v1.9.0", "e")])
    assert finding.severity is Severity.WARNING


def test_two_parts_in_one_namespace_that_do_not_agree_are_a_warning() -> None:
    uses = all_used("gcr.io/mesh/pilot:1.28.0", "gcr.io/mesh/proxy:1.29.0")
    (finding,) = mixed_versions(uses)
    assert finding.severity is Severity.WARNING
    assert (
        finding.title == "gcr.io/mesh: no two parts are at one version: pilot 1.28.0, proxy 1.29.0"
    )


def test_two_parts_whose_names_begin_alike_are_compared_among_other_products() -> None:
    others = ("docker.io/p/haproxy:2.8.1", "docker.io/p/my-toolkit:3.7.0")
    uses = all_used("docker.io/p/my-server:8.4.8", "docker.io/p/my-router:8.0.42", *others)
    (finding,) = mixed_versions(uses)
    assert finding.title.endswith(": my-router 8.0.42, my-server 8.4.8")


@pytest.mark.parametrize(
    "uses",
    [
        # all agree, in several flavours
        all_used("a.io/k/agent:v0.16.0", "a.io/k/server:v0.16.0", "a.io/k/server:v0.16.0-gpu"),
        # other products of one publisher: another first number
        all_used("quay.io/p/prometheus:v3.1.0", "quay.io/p/node:v1.9.0", "quay.io/p/alert:v0.31.0"),
        # a host with nothing but names, and official images, hold many products
        all_used("k8s.io/apiserver:v1.34.4", "k8s.io/proxy:v1.34.4", "k8s.io/dns:v1.12.1"),
        all_used("mysql:8.4.0", "mongo:8.0.1"),
        # tools with names that begin alike, each before its own version 1
        all_used("nvcr.io/n/k8s-cc:v0.4.3", "nvcr.io/n/k8s-mig:v0.15.0", "nvcr.io/n/k8s-d:v0.12.0"),
        # what has no version is not compared
        all_used("a.io/k/one:latest", "a.io/k/two:v1-3f15cb8", "a.io/k/three:1.2.3"),
        # two products of a publisher that run in different places
        [
            used("docker.io/tf/serving:2.6.2", where="ClusterServingRuntime/tf"),
            used("docker.io/tf/board:2.5.1", where="ConfigMap/kubeflow/board"),
        ],
    ],
    ids=["flavours", "publisher", "bare-host", "official", "before-1", "no-version", "elsewhere"],
)  # fmt: skip
def test_what_belongs_together_or_apart_is_no_finding(uses: list[Use]) -> None:
    assert list(mixed_versions(uses)) == []


def test_on_a_bare_host_names_that_begin_alike_are_compared() -> None:
    uses = all_used(
        "k8s.io/kube-proxy:v1.34.4",
        "k8s.io/kube-apiserver:v1.34.4",
        "k8s.io/kube-scheduler:v1.33.0",
    )
    (finding,) = mixed_versions(uses)
    assert finding.id == "mixed-versions:k8s.io/kube-*"


def test_a_helper_at_several_versions_is_a_note_across_components() -> None:
    uses = [used("quay.io/b/rbac-proxy:v0.8.0", "one"), used("quay.io/b/rbac-proxy:v0.18.0", "two")]
    (finding,) = several_versions(uses)
    assert finding.id == "several-versions:quay.io/b/rbac-proxy"
    assert finding.severity is Severity.NOTE
    (finding,) = several_versions(all_used("quay.io/b/p:v0.8.0", "quay.io/b/p:v0.18.0"))
    assert finding.severity is Severity.WARNING


def test_dated_releases_of_one_image_are_told_apart_by_their_tags() -> None:
    (finding,) = several_versions(
        all_used("quay.io/m/m:RELEASE.2025-01-01", "quay.io/m/m:RELEASE.2025-02-01")
    )
    assert "RELEASE.2025-01-01, RELEASE.2025-02-01" in finding.title


def test_several_versions_does_not_repeat_what_is_mixed() -> None:
    uses = all_used(
        "gcr.io/mesh/pilot:1.28.0", "gcr.io/mesh/proxy:1.28.0", "gcr.io/mesh/proxy:1.29.0"
    )
    assert list(several_versions(uses)) == []
    assert list(several_versions(all_used("a.io/x/y:1.0.0", "a.io/x/y:1.0.0-gpu"))) == []


def product(same: Same, *images: str) -> tuple[str, Product]:
    return "db", Product("mysql", images, same, "the router speaks only to servers of its series")


def test_a_declared_product_must_be_at_one_version_wherever_its_images_lie() -> None:
    declared = product(Same.VERSION, "docker.io/mysql/router", "container-registry.io/*/server")
    uses = all_used("mysql/router:9.1.0", "container-registry.io/x/server:9.0.1")
    (finding,) = product_versions([declared], uses)
    assert finding.id == "product-versions:mysql"
    assert finding.severity is Severity.ERROR
    assert (
        finding.title == "mysql is at several versions: 9.0.1, 9.1.0; its parts share the version"
    )
    assert finding.why == "the router speaks only to servers of its series"
    assert list(product_versions([product(Same.MAJOR, *declared[1].images)], uses)) == []
    minor = all_used("mysql/router:9.1.0", "container-registry.io/x/server:9.1.7")
    assert list(product_versions([product(Same.MINOR, *declared[1].images)], minor)) == []


def test_a_declared_product_that_is_not_there_is_an_error() -> None:
    declared = product(Same.VERSION, "docker.io/mysql/router", "docker.io/mysql/gone")
    (finding,) = product_versions([declared], all_used("mysql/router:9.1.0"))
    assert finding.id == "product-unused:mysql"
    assert "docker.io/mysql/gone" in finding.title
