"""The part of a lock that is for one site: there and back, and every contradiction named."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.model.test_model_lock import IMAGE, KUBEADM, LOCK, refused

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.locked_site import LockedSite, LockedSiteComponent, SitePackage

PACKAGE = SitePackage("ubuntu22.04", "linux-headers-5", "1:5.15~x+b", "amd64", KUBEADM.reference)
GPU = LockedSiteComponent(
    "gpu-operator", (IMAGE.reference,), ("driver:", "  usePrecompiled: true"), (PACKAGE,)
)
SITE = LockedSite("plant", Digest.of_bytes(b"facts"), "ab" * 32, (GPU,))
WITH_SITE = dataclasses.replace(LOCK, site=SITE)


def test_the_site_comes_back_as_it_was_written() -> None:
    assert Lock.parse(WITH_SITE.to_bytes()) == WITH_SITE
    assert SITE.images == {IMAGE.reference}
    assert SITE.packages == {KUBEADM.reference}
    assert GPU.values_bytes == b"driver:\n  usePrecompiled: true\n"


def test_a_lock_for_every_site_reads_as_it_always_did() -> None:
    assert b"[site]" not in LOCK.to_bytes()
    assert Lock.parse(LOCK.to_bytes()).site is None


def test_the_order_of_components_and_images_does_not_change_the_bytes() -> None:
    other = LockedSiteComponent("aaa", (), ("a: 1",))
    one = dataclasses.replace(SITE, components=(GPU, other))
    two = dataclasses.replace(SITE, components=(other, GPU))
    assert one.to_tables() == two.to_tables()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[site]\n", "[site]\nmore = 1\n", "[site]: unknown key 'more'"),
        ('name = "plant"\n', "", "[site]: name must be a string with text"),
        ('facts = "sha256:', 'facts = "md5:', "[site]: facts:"),
        ('name = "gpu-operator"', 'name = "../x"', "'../x' is not the name of a component"),
        ('name = "gpu-operator"', 'name = "gp\u00fc"', "is not the name of a component"),
        ('images = [\n  "quay.io', 'images = [\n  "quay.io/', "images: not an image reference"),
        ("1:5.15~x+b", "", "is not system, name, version, architecture, reference"),
        ("1:5.15~x+b", "a/b", "is not system, name, version, architecture, reference"),
        ("amd64 perimeter", "amd64 /perimeter", "packages: not an image reference"),
        ('"driver:"', '"dri\\u001bver"', "is not a line of YAML"),
        ('"driver:"', f'"{"x" * 501}"', "is not a line of YAML"),
        ("[[site_component]]\n", "[[site_component]]\nmore = 1\n", "unknown key 'more'"),
        ("[[site_component]]\n", "[site_component]\n", "must be an array of tables"),
    ],
)
def test_what_cannot_be_is_named(old: str, new: str, said: str) -> None:
    text = WITH_SITE.to_bytes().decode()
    before, site, after = text.rpartition("[site]")
    changed = f"{before}{(site + after).replace(old, new)}"
    assert changed != text
    assert said in str(refused(changed.encode()))


def test_contradictions_are_named() -> None:
    text = WITH_SITE.to_bytes().decode()
    before, _, after = text.rpartition("[site]")
    alone = before + "[[site_component]]" + after.partition("[[site_component]]")[2]
    assert "[[site_component]] stands there without [site]" in str(refused(alone.encode()))
    table = after.partition("[[site_component]]")[2]
    assert "gpu-operator stands there twice" in str(
        refused(f"{text}\n[[site_component]]{table}".encode())
    )
    lacking = dataclasses.replace(WITH_SITE, images=())
    assert f"no [[image]] {IMAGE.reference}" in str(refused(lacking.to_bytes()))
    lacking = dataclasses.replace(WITH_SITE, files=())
    assert f"no [[file]] {KUBEADM.reference}" in str(refused(lacking.to_bytes()))
    wrong = f'{before}site = "x"\n'.replace("format =", 'site = "y"\nformat =', 1)
    wrong = wrong.rpartition("site =")[0]
    assert "lock: site must be a table" in str(refused(wrong.encode()))
