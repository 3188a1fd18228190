"""References that float, that are pinned twice, and what the lock shows."""

from __future__ import annotations

import pytest

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import Use
from perimeter_bundle.review.coherence.locked import missing_platforms, old_manifests
from perimeter_bundle.review.coherence.references import (
    digest_only,
    floating_tags,
    is_moving,
    is_short,
    two_digests,
)
from perimeter_bundle.review.coherence.values import Severity

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


def used(image: str, component: str = "shop") -> Use:
    return Use(ImageReference.parse(image), component, "Deployment/ns/x", "spec.image", image)


@pytest.mark.parametrize(
    "tag", ["latest", "main", "main-latest", "nightly-gpu", "edge", "cuda-latest"]
)
def test_words_that_publishers_move_are_told(tag: str) -> None:
    assert is_moving(tag)


@pytest.mark.parametrize(
    "tag", ["1.2.3", "v1.2.3-stable", "3.12-slim", "v1-3f15cb8", "jammy", "RELEASE.2025-10-15"]
)
def test_a_number_or_an_unknown_word_is_not_told_as_moving(tag: str) -> None:
    assert not is_moving(tag)


def test_versions_without_a_patch_number_are_short() -> None:
    assert [tag for tag in ("8", "8.0", "v1.28", "3.12-slim", "3-alpine") if is_short(tag)] == [
        "8", "8.0", "v1.28", "3.12-slim", "3-alpine",
    ]  # fmt: skip
    assert [tag for tag in ("1.2.3", "1.2.3-4", "v1-3f15cb8", "x8.0") if is_short(tag)] == []


def test_a_floating_tag_is_a_warning_and_so_is_none_at_all() -> None:
    (written,) = floating_tags([used("kserve/explainer:latest")])
    assert (written.id, written.severity) == (
        "floating-tag:docker.io/kserve/explainer:latest",
        Severity.WARNING,
    )
    assert written.title == "docker.io/kserve/explainer floats: its tag is latest"
    (bare,) = floating_tags([used("ghcr.io/containerd/busybox")])
    assert bare.id == "floating-tag:ghcr.io/containerd/busybox:latest"
    (short,) = floating_tags([used("mysql:8.0")])
    assert (short.rule, short.severity) == ("short-version", Severity.NOTE)


def test_a_digest_holds_a_floating_tag() -> None:
    assert list(floating_tags([used(f"kserve/explainer:latest@{DIGEST}")])) == []


def test_digests_alone_are_one_note_for_each_component() -> None:
    uses = [
        used(f"a.io/x@{DIGEST}", "one"),
        used(f"a.io/y@{OTHER}", "one"),
        used("a.io/z:1.0", "one"),
    ]
    (finding,) = digest_only(uses)
    assert finding.id == "digest-only:one"
    assert finding.title == "one asks for 2 images by digest alone"
    assert len(finding.spots) == 2


def test_one_tag_with_two_digests_is_an_error() -> None:
    (finding,) = two_digests([used(f"a.io/x:1.0@{DIGEST}"), used(f"a.io/x:1.0@{OTHER}", "two")])
    assert (finding.id, finding.severity) == ("two-digests:a.io/x:1.0", Severity.ERROR)
    assert list(two_digests([used(f"a.io/x:1.0@{DIGEST}"), used(f"a.io/x:1.0@{DIGEST}")])) == []


def lock_with(media_type: str, *has: str) -> Lock:
    manifests = {Platform.parse(text): Digest.parse(DIGEST) for text in has}
    reference = ImageReference.parse("a.io/x:1.0")
    image = LockedImage(reference, Digest.parse(DIGEST), media_type, manifests, 1, ("shop",), ())
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
    return Lock("r", 1, platforms, (image,), (), ())


def test_a_platform_that_an_image_lacks_is_an_error() -> None:
    (finding,) = missing_platforms(lock_with("", "linux/amd64"))
    assert finding.severity is Severity.ERROR
    assert finding.title == "a.io/x:1.0 is not there for linux/arm64; it has linux/amd64"
    assert list(missing_platforms(lock_with("", "linux/amd64", "linux/arm64"))) == []


def test_manifests_of_schema_1_are_an_error() -> None:
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    (finding,) = old_manifests(lock_with(old, "linux/amd64"))
    assert finding.id == "old-manifest:a.io/x:1.0"
    new = "application/vnd.oci.image.index.v1+json"
    assert list(old_manifests(lock_with(new, "linux/amd64"))) == []
