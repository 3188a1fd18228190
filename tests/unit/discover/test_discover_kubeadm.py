"""kubeadm is asked for its images: the very bytes, in a clean environment."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from perimeter_bundle.discover.kubeadm import list_kubeadm_images, this_platform
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.platform import Platform


def kubeadm(folder: Path, script: str) -> tuple[Path, Digest]:
    path = folder / "kubeadm-download"
    path.write_text(f"#!/bin/sh\n{script}\n")
    return path, Digest.of_bytes(path.read_bytes())


def test_kubeadm_is_asked_in_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    path, digest = kubeadm(
        tmp_path,
        '[ "$*" = "config images list --kubernetes-version v9.9.9" ] || exit 3\n'
        '[ -z "${KUBECONFIG:-}" ] || exit 4\n'
        "echo registry.k8s.io/pause:3.10\necho registry.k8s.io/etcd:3.6",
    )
    found = list_kubeadm_images(path, digest, "v9.9.9", this_platform(), tmp_path)
    assert [str(image) for image in found] == [
        "registry.k8s.io/etcd:3.6",
        "registry.k8s.io/pause:3.10",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["kubeadm-download"]
    assert not path.stat().st_mode & stat.S_IXUSR


def test_a_kubeadm_with_other_bytes_is_not_run(tmp_path: Path) -> None:
    path, _ = kubeadm(tmp_path, f"touch {tmp_path}/was-run")
    with pytest.raises(IntegrityError) as caught:
        list_kubeadm_images(path, Digest.of_bytes(b""), "v1", this_platform(), tmp_path)
    assert caught.value.code == "digest-mismatch"
    assert not (tmp_path / "was-run").exists()


def test_a_kubeadm_for_another_machine_is_a_clear_error(tmp_path: Path) -> None:
    path, digest = kubeadm(tmp_path, "true")
    with pytest.raises(HostError) as caught:
        list_kubeadm_images(path, digest, "v1", Platform("linux", "s390x"), tmp_path)
    assert caught.value.code == "wrong-platform"
    assert "linux/s390x" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo 'unable to reach the API' >&2; exit 1", "tool-failed"),
        ("echo 'W1122 something odd'", "bad-kubeadm-output"),
        ("true", "bad-kubeadm-output"),
    ],
)
def test_a_kubeadm_that_does_not_answer_is_told(tmp_path: Path, script: str, code: str) -> None:
    path, digest = kubeadm(tmp_path, script)
    with pytest.raises((IntegrityError, HostError)) as caught:
        list_kubeadm_images(path, digest, "v1", this_platform(), tmp_path)
    assert caught.value.code == code
