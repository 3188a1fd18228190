"""Why an image is there: by any name a person may use for it."""

from __future__ import annotations

import pytest

from perimeter_bundle.format.discovery_file import Noted, Reason
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.names import means, nearest
from perimeter_bundle.review.why import explain

AMD64 = Platform("linux", "amd64")
PROXY = ImageReference.parse("gcr.io/istio-release/proxyv2:1.29.0")
QUEUE = ImageReference.parse(f"gcr.io/knative/serving/cmd/queue@sha256:{'4' * 64}")


@pytest.mark.parametrize(
    ("query", "image"),
    [
        ("proxyv2", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("proxyv2:1.29.0", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("istio-release/proxyv2", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("gcr.io/istio-release/proxyv2:1.29.0", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("*istio*", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("proxy??", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("*:1.2[89].0", "gcr.io/istio-release/proxyv2:1.29.0"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("cmd/queue", str(QUEUE)),
        (f"sha256:{'4' * 64}", str(QUEUE)),
        ("4" * 12, str(QUEUE)),
    ],
)
def test_any_usual_way_to_write_an_image_means_it(query: str, image: str) -> None:
    assert means(query, ImageReference.parse(image))


@pytest.mark.parametrize(
    "query", ["proxy", "proxyv2:1.28.0", "release/proxyv2", "1.29.0", "", "istio-release", "4444"]
)
def test_a_part_of_a_word_or_another_tag_does_not(query: str) -> None:
    assert not means(query, PROXY)
    assert not means(query, QUEUE)


def test_the_nearest_names_are_told() -> None:
    assert nearest("proxy2", [PROXY, QUEUE]) == (str(PROXY),)
    assert nearest("istio", [PROXY, QUEUE]) == (str(PROXY),)
    assert nearest("nothing-like-it", [PROXY, QUEUE]) == ()


def lock() -> Lock:
    digest, of_amd64 = Digest.parse(f"sha256:{'a' * 64}"), Digest.parse(f"sha256:{'b' * 64}")
    image = LockedImage(
        PROXY, digest, "", {AMD64: of_amd64}, 1, ("istio",), ("istio: the sidecar",)
    )
    return Lock("2026.11", 1, (AMD64,), (image,), (), ())


def noted() -> tuple[Noted, ...]:
    place = ("ConfigMap/istio-system/istio-sidecar-injector", "data[values] -> global.proxy.image")
    reason = Reason("istio", *place, "hub-image-tag", "gcr.io/istio-release", "istio/install")
    bats = ImageReference.parse("bats/bats:v1.4.1")
    test = Reason("grafana", "Pod/grafana-test", "spec.image", "container", "bats/bats:v1.4.1", "g")
    return (
        Noted(PROXY, (reason,)),
        Noted(bats, (test,), "a test hook; no installation runs it", "exclude docker.io/bats/*"),
    )


def test_an_answer_has_the_lock_and_every_place() -> None:
    (answer,) = explain("proxyv2", lock(), noted())
    assert answer.to_dict() == {
        "image": "gcr.io/istio-release/proxyv2:1.29.0",
        "bundled": True,
        "digest": f"sha256:{'a' * 64}",
        "components": ["istio"],
        "why": ["istio: the sidecar"],
        "evidence": [
            {
                "component": "istio",
                "rule": "hub-image-tag",
                "written": "gcr.io/istio-release",
                "source": "istio/install",
                "object": "ConfigMap/istio-system/istio-sidecar-injector",
                "path": "data[values] -> global.proxy.image",
            }
        ],
        "excluded": [],
    }


@pytest.mark.parametrize("digest", ["a" * 64, f"sha256:{'b' * 64}", "b" * 12])
def test_the_digests_of_the_lock_name_an_image(digest: str) -> None:
    assert [answer.image for answer in explain(digest, lock())] == [PROXY]


def test_an_excluded_image_says_by_which_rule_and_reason() -> None:
    (answer,) = explain("bats", lock(), noted())
    assert answer.locked is None
    assert answer.excluded == (
        ("exclude docker.io/bats/*", "a test hook; no installation runs it"),
    )


def test_an_unknown_image_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(InputError) as caught:
        explain("proxyv3", lock(), noted())
    assert str(caught.value) == (
        "error[unknown-image]: release 2026.11 has no image 'proxyv3'\n"
        "  hint: did you mean gcr.io/istio-release/proxyv2:1.29.0?"
    )
