"""Is what runs what was reviewed?"""

from __future__ import annotations

import pytest

from perimeter_installer.check.images import judge_images, normal_name
from perimeter_installer.check.kube import ContainerState, PodState

INDEX, MANIFEST, OTHER = ("sha256:" + letter * 64 for letter in "abc")
MINIO = "quay.io/minio/minio:R1"
BUSYBOX = "docker.io/library/busybox:latest"
ALLOWED = {MINIO: (INDEX, MANIFEST), BUSYBOX: (INDEX,)}


def pod(image: str, image_id: str, name: str = "minio-0") -> PodState:
    container = ContainerState("minio", image, image_id, ready=True, waiting="")
    return PodState(
        "minio", name, "n1", "Running", "", "10.244.0.5",
        terminating=False, containers=(container,), init_containers=(),
    )  # fmt: skip


@pytest.mark.parametrize("digest", [INDEX, MANIFEST])
def test_index_and_platform_manifest_are_both_the_bundles(digest: str) -> None:
    judgement = judge_images([pod(MINIO, f"quay.io/minio/minio@{digest}")], ALLOWED)
    assert judgement.wrong == ()
    assert [one.reference for one in judgement.right] == [MINIO]


def test_short_names_are_written_in_full() -> None:
    image_id = f"docker.io/library/busybox@{INDEX}"
    for image in ("busybox", "library/busybox", "docker.io/library/busybox"):
        assert normal_name(image) == BUSYBOX
        assert judge_images([pod(image, image_id)], ALLOWED).wrong == ()


def test_other_digest_under_a_known_name_is_wrong() -> None:
    judgement = judge_images([pod(MINIO, f"quay.io/minio/minio@{OTHER}")], ALLOWED)
    assert judgement.right == ()
    assert judgement.wrong == (
        f"minio/minio-0/minio runs {MINIO}: found {OTHER}, the bundle has {INDEX} or {MANIFEST}",
    )


def test_digest_of_another_image_of_the_bundle_is_wrong() -> None:
    judgement = judge_images([pod(BUSYBOX, f"x@{MANIFEST}")], ALLOWED)
    assert "found" in judgement.wrong[0]


def test_unknown_name_is_wrong_and_counted_once() -> None:
    image, image_id = "evil.example/miner:1", f"evil.example/miner@{OTHER}"
    judgement = judge_images([pod(image, image_id), pod(image, image_id, "minio-1")], ALLOWED)
    assert judgement.wrong == (
        "minio/minio-0/minio and 1 more runs evil.example/miner:1: it is not in the bundle",
    )


def test_runtime_that_names_no_digest_is_wrong() -> None:
    judgement = judge_images([pod(MINIO, "something")], ALLOWED)
    assert "the runtime names no digest for it (something)" in judgement.wrong[0]


def test_image_named_by_digest_may_be_any_of_the_bundle() -> None:
    image = f"quay.io/minio/minio@{INDEX}"
    assert judge_images([pod(image, image)], ALLOWED).wrong == ()
    assert judge_images([pod(f"quay.io/minio/minio@{OTHER}", f"x@{OTHER}")], ALLOWED).wrong


def test_container_that_waits_for_its_image_does_not_run_yet() -> None:
    judgement = judge_images([pod("evil.example/miner:1", "")], ALLOWED)
    assert (judgement.right, judgement.wrong) == ((), ())
