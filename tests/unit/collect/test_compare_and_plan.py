"""Locks compared, and plans made from them; nothing here touches a network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.compiled import as_compiled

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.compare import check_lock, diff_locks
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.plan import Asked, plan_release
from perimeter_bundle.collect.room import (
    BUILD_EXTRA_BYTES,
    CONTENT_BYTES,
    FILES_FACTOR,
    UNPACKED_FACTOR,
    room_needed,
)
from perimeter_bundle.collect.wanted import wanted_images
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import Facts

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def release() -> Release:
    return load_release(load_catalog(content_root() / "manifests"), "2026.11-base")


def digest_of(name: object) -> Digest:
    return Digest.of_bytes(str(name).encode())


@pytest.fixture
def lock(release: Release) -> Lock:
    """The lock of the release as if upstream had answered; each thing has one MiB."""
    bare = unresolved_lock(release)
    images = [
        replace(
            image,
            digest=digest_of(image.reference),
            media_type="application/vnd.oci.image.index.v1+json",
            manifests={p: digest_of(f"{image.reference} {p}") for p in release.platforms},
            size_bytes=MIB,
        )
        for image in bare.images
    ]
    charts = [
        replace(c, digest=digest_of(c.reference), url="https://x.example/c", size_bytes=MIB)
        for c in bare.charts
    ]
    files = [replace(f, digest=digest_of(f.reference), size_bytes=MIB) for f in bare.files]
    pinned = replace(bare, images=tuple(images), charts=tuple(charts), files=tuple(files))
    return as_compiled(pinned)


def test_an_unresolved_lock_is_refused_with_the_command_that_mends_it(release: Release) -> None:
    with pytest.raises(InputError) as caught:
        check_lock(unresolved_lock(release), release)
    assert caught.value.code == "lock-unresolved"
    assert caught.value.hint == "run perimeter-bundle lock 2026.11-base"


def test_a_lock_of_the_release_passes(release: Release, lock: Lock) -> None:
    check_lock(lock, release)


def test_images_that_kubeadm_asked_for_are_in_no_catalog(release: Release, lock: Lock) -> None:
    pause = replace(
        lock.images[0],
        reference=ImageReference.parse("registry.k8s.io/pause:3.10.1"),
        components=("kubernetes",),
    )
    check_lock(replace(lock, images=(*lock.images, pause)), release)
    by_render = replace(pause, components=("flannel",))  # found in objects; compared by build
    check_lock(replace(lock, images=(*lock.images, by_render)), release)
    stranger = replace(pause, components=("runc",))
    with pytest.raises(InputError) as caught:
        check_lock(replace(lock, images=(*lock.images, stranger)), release)
    assert caught.value.problems == (
        "registry.k8s.io/pause:3.10.1 is in the lock, not in the catalog",
    )


def test_a_lock_without_one_of_the_platforms_is_refused(release: Release, lock: Lock) -> None:
    first = replace(lock.images[0], manifests={})
    with pytest.raises(InputError) as caught:
        check_lock(replace(lock, images=(first, *lock.images[1:])), release)
    assert caught.value.problems == (f"{first.reference} is not locked for linux/amd64",)


def test_a_difference_tells_added_removed_resolved_and_moved(release: Release, lock: Lock) -> None:
    before = unresolved_lock(release)
    assert len(diff_locks(before, lock).resolved) == len(lock.images) + len(lock.charts) + len(
        lock.files
    )
    moved = replace(lock.charts[0], digest=digest_of("other"))
    now = replace(lock, images=lock.images[1:], charts=(moved, *lock.charts[1:]))
    difference = diff_locks(lock, now)
    assert difference.removed == (str(lock.images[0].reference),)
    assert [(one.name, one.now) for one in difference.moved] == [
        (str(moved.reference), digest_of("other"))
    ]
    assert diff_locks(lock, lock).is_empty
    assert str(lock.images[0].reference) in diff_locks(None, lock).added


def test_an_image_two_components_need_is_wanted_once_with_both_reasons(release: Release) -> None:
    shop = release.component("minio")
    twin = replace(
        release, components=(*release.components, replace(shop, name="twin", kubeadm_file=""))
    )
    wanted = {str(image.reference): image for image in wanted_images(twin)}
    image = wanted["quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z"]
    assert image.components == ("minio", "twin")
    assert len(image.why) == 2


def test_a_plan_from_a_lock_knows_everything(release: Release, lock: Lock) -> None:
    plan = plan_release(release, lock)
    assert plan.locked
    assert plan.unknown == ()
    assert {item.size_bytes for item in plan.items} == {MIB}
    assert plan.room == room_needed(
        len(lock.images) * MIB, len(lock.files) * MIB, len(lock.charts) * MIB
    )


def test_a_plan_without_a_lock_names_what_it_cannot_know(release: Release) -> None:
    images = wanted_images(release)
    names = [str(image.reference) for image in images]
    plan = plan_release(release, None, Asked(images, {names[0]: 5 * MIB}, Facts()))
    assert not plan.locked
    assert plan.unknown[0].startswith("the images kubeadm v1.34.4 asks for")
    assert f"the size of {names[1]}" in plan.unknown
    assert f"the size of {names[0]}" not in plan.unknown
    assert plan.room.registry_bytes == 5 * MIB


def test_a_plan_names_what_is_carried_and_not_installed(release: Release) -> None:
    assert plan_release(release, None).carried == ()
    whole = load_release(load_catalog(content_root() / "manifests"), "2026.11")
    carried = plan_release(whole, None).carried
    assert "kubeflow-pipelines 2.16.0 (phase kubeflow)" in carried
    assert len(carried) == len(whole.components) - len(release.components)


def test_a_plan_refuses_a_lock_of_something_else(release: Release, lock: Lock) -> None:
    with pytest.raises(InputError) as caught:
        plan_release(release, replace(lock, release="2026.05"))
    assert caught.value.code == "lock-mismatch"


def test_room_of_a_delta_is_less_where_bytes_move_and_the_same_where_they_are_unpacked() -> None:
    whole = room_needed(10 * MIB, 2 * MIB, MIB)
    delta = room_needed(10 * MIB, 2 * MIB, MIB, at_site_bytes=9 * MIB, read_here_bytes=MIB)
    assert whole.registry_bytes - delta.registry_bytes == 9 * MIB
    assert whole.carrier_bytes - delta.carrier_bytes == 9 * MIB
    assert whole.jump_bytes - delta.jump_bytes == 9 * MIB
    assert whole.volumes_bytes > delta.volumes_bytes
    assert whole.builder_bytes - delta.builder_bytes == 8 * MIB
    assert whole.node_bytes == delta.node_bytes
    assert room_needed(0, 0, MIB, at_site_bytes=9 * MIB).registry_bytes == 0


def test_room_counts_unpacked_images_on_nodes_and_everything_on_the_builder() -> None:
    room = room_needed(images_bytes=10 * MIB, files_bytes=2 * MIB, charts_bytes=MIB)
    assert room.registry_bytes == 13 * MIB
    assert room.node_bytes == 10 * MIB * UNPACKED_FACTOR + 2 * MIB * FILES_FACTOR
    assert room.builder_bytes == 13 * MIB + CONTENT_BYTES + BUILD_EXTRA_BYTES
    assert room.carrier_bytes < room.jump_bytes
    assert room.carrier_bytes < room.volumes_bytes < room.carrier_bytes * 1.01 + 17 * 1024**2
    assert room.jump_volumes_bytes == room.jump_bytes - room.carrier_bytes
