"""What the catalog says about coherence: products of a component, acceptances of a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.review.coherence.rules import Acceptance, Product, Same

COMPONENT = """\
name: shop
title: Shop
version: "1.0"
licence: MIT
source: https://example.org/shop
phase: minio
images:
  - {reference: "quay.io/example/shop:1.0", why: it sells}
coherence:
  - product: db
    images: [docker.io/db/router, "container-registry.example/*/server"]
    same: minor
    evidence: the router speaks only to servers of its series
"""
RELEASE = """\
name: "1"
number: 1
platforms: [linux/amd64]
minimum_installer: 0.1.0
jump_host: {pythons: ["3.11"]}
components: [shop]
accept:
  - finding: mixed-versions:gcr.io/mesh
    reason: upstream ships it so, and both are carried
"""


def loaded(folder: Path, component: str = COMPONENT, release: str = RELEASE) -> Release:
    root = folder / "manifests"
    (root / "shop").mkdir(parents=True)
    (root / "releases").mkdir()
    (root / "shop" / "component.yaml").write_text(component)
    (root / "releases" / "1.yaml").write_text(release)
    return load_release(load_catalog(root), "1")


def test_products_and_acceptances_are_read(tmp_path: Path) -> None:
    release = loaded(tmp_path)
    images = ("docker.io/db/router", "container-registry.example/*/server")
    evidence = "the router speaks only to servers of its series"
    assert release.component("shop").products == (Product("db", images, Same.MINOR, evidence),)
    assert release.acceptances == (
        Acceptance("mixed-versions:gcr.io/mesh", "upstream ships it so, and both are carried"),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("same: minor", "same: roughly", "coherence[0].same: Input should be 'version'"),
        ("docker.io/db/router", "Router", "coherence[0].images[0]: String should match"),
        ("    evidence: the", "    why: the", "coherence[0].evidence: Field required"),
        ("mixed-versions:gcr.io/mesh", "everything", "accept[0].finding: String should match"),
        ("    reason: upstream", "    because: upstream", "accept[0].reason: Field required"),
        (
            "    reason: upstream",
            "    reason: x\n  - finding: mixed-versions:gcr.io/mesh\n    reason: upstream",
            "mixed-versions:gcr.io/mesh is accepted twice",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, COMPONENT.replace(old, new), RELEASE.replace(old, new))
    assert caught.value.code == "bad-catalog"
    assert any(says in problem for problem in caught.value.problems), caught.value.problems
