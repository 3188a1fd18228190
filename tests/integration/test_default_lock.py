"""images.lock of this repository is what the command makes of the catalog today."""

from __future__ import annotations

from pathlib import Path

from tests.support.default_lock import LOCK_FILE, WRITE_IT, default_lock

from perimeter_bundle.model.lock import Lock


def test_the_lock_of_this_repository_is_what_the_command_writes(tmp_path: Path) -> None:
    assert LOCK_FILE.read_bytes() == default_lock(tmp_path), f"run {WRITE_IT}"


def test_it_names_the_control_plane_and_is_all_unresolved() -> None:
    lock = Lock.parse(LOCK_FILE.read_bytes())
    names = {one.reference.repository for one in lock.images if one.components == ("kubernetes",)}
    assert {"pause", "etcd", "coredns/coredns", "kube-apiserver", "kube-proxy"} <= names
    entries = (*lock.images, *lock.charts, *lock.files, *lock.sources)
    assert len(lock.unresolved()) == len(entries)
    pinned = [one for one in lock.images if one.digest]
    assert {one.reference.host for one in pinned} == {"gcr.io"}  # Knative's
