"""What a site's values may make of rendered objects, beside what the builder wrote down."""

from __future__ import annotations

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.format.discovery_file import Noted, NotedDiscovery, NotedText, Reason
from perimeter_bundle.model.reference import ImageReference
from perimeter_installer.run.render_gate import refusals

SHOP = ImageReference.parse("quay.io/example/shop:1.0")
POD = b"""\
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec: {containers: [{name: c, image: "quay.io/example/shop:1.0"}]}
"""
CONFIG = b"""\
apiVersion: v1
kind: ConfigMap
metadata: {name: m, namespace: shop}
data: {proxyImage: "quay.io/example/${NEVER}:1"}
"""
MISSING = (
    "shop/app: Pod/shop/p spec.containers[0].image: 'quay.io/example/shop:1.0': "
    "the bundle does not hold quay.io/example/shop:1.0"
)


def judged(data: bytes, noted: NotedDiscovery, *held: ImageReference) -> tuple[str, ...]:
    return refusals(discover([("shop/app", data)]), "shop/app", frozenset(held), noted)


def left_out(component: str, object_name: str, written: str, excluded: str) -> NotedDiscovery:
    place = (object_name, "spec.containers[9].image")
    reason = Reason(component, *place, "container-image", written, f"{component}/app")
    return NotedDiscovery((Noted(SHOP, (reason,), excluded, "exclude *" if excluded else ""),))


def no_image(component: str, object_name: str, text: str, rule: str) -> NotedDiscovery:
    return NotedDiscovery(not_images=(NotedText(component, object_name, text, rule),))


@pytest.mark.parametrize(
    "noted",
    [
        NotedDiscovery(),
        left_out("shop", "Pod/shop/p", str(SHOP), ""),  # found, not left out, and not carried
        left_out("shop", "Pod/shop/q", str(SHOP), "a test"),
        left_out("other", "Pod/shop/p", str(SHOP), "a test"),
        no_image("shop", "Pod/shop/p", str(SHOP), "file-name"),  # of another field
        no_image("shop", "Pod/shop/q", str(SHOP), "catalog: not_images *"),
        no_image("other", "Pod/shop/p", str(SHOP), "catalog: not_images *"),
    ],
)
def test_an_image_that_is_neither_carried_nor_left_out_there_is_refused(
    noted: NotedDiscovery,
) -> None:
    assert judged(POD, noted) == (MISSING,)


def test_a_digest_that_the_bundle_does_not_hold_is_refused() -> None:
    pinned = POD.replace(b"shop:1.0", b"shop:1.0@sha256:" + b"a" * 64)
    assert len(judged(pinned, NotedDiscovery(), SHOP)) == 1


def test_an_image_that_is_carried_is_fine_by_tag_too() -> None:
    digest = f"quay.io/example/shop:1.0@sha256:{'a' * 64}"
    assert judged(POD, NotedDiscovery(), SHOP) == ()
    assert judged(POD, NotedDiscovery(), ImageReference.parse(digest)) == ()


@pytest.mark.parametrize(
    "noted",
    [
        left_out("shop", "Pod/shop/p", str(SHOP), "a test"),
        no_image("shop", "Pod/shop/p", str(SHOP), "catalog: not_images *"),
    ],
)
def test_an_image_that_the_catalog_left_out_in_this_object_is_fine(noted: NotedDiscovery) -> None:
    assert judged(POD, noted) == ()


@pytest.mark.parametrize(
    "noted",
    [
        NotedDiscovery(),
        no_image("other", "ConfigMap/shop/m", "quay.io/example/${NEVER}:1", "placeholder"),
        no_image("shop", "ConfigMap/shop/m", "quay.io/example/${NEVER}:2", "placeholder"),
        left_out("shop", "ConfigMap/shop/m", "quay.io/example/${NEVER}:1", ""),
    ],
)
def test_a_string_that_nobody_explained_is_refused(noted: NotedDiscovery) -> None:
    (problem,) = judged(CONFIG, noted)
    assert problem.startswith(
        "shop/app: ConfigMap/shop/m data.proxyImage: 'quay.io/example/${NEVER}:1': "
    )


@pytest.mark.parametrize(
    "noted",
    [
        no_image("shop", "ConfigMap/shop/n", "quay.io/example/${NEVER}:1", "placeholder"),
        left_out("shop", "ConfigMap/shop/n", "quay.io/example/${NEVER}:1", "a test"),
    ],
)
def test_a_string_that_the_component_explained_is_fine(noted: NotedDiscovery) -> None:
    assert judged(CONFIG, noted) == ()


def test_only_the_source_that_was_rendered_again_is_judged() -> None:
    both = discover([("shop/app", CONFIG), ("shop/other", POD)])
    assert refusals(both, "shop/other", frozenset(), NotedDiscovery()) == (
        MISSING.replace("shop/app", "shop/other"),
    )
