"""Which images objects name, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from perimeter_bundle.discover.images import find_images, missing_images
from perimeter_bundle.discover.kubeadm import list_kubeadm_images, this_platform
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

WORKLOADS = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers: [{name: i, image: quay.io/a/init:1}]
      containers: [{name: c, image: nginx}]
      volumes: [{name: m, image: {reference: quay.io/a/model:2}}]
---
apiVersion: v1
kind: List
items:
  - kind: CronJob
    metadata: {name: nightly}
    spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: quay.io/a/job:3}]}}}}}
  - kind: Pod
    metadata: {name: p}
    spec: {ephemeralContainers: [{image: quay.io/a/debug:4}]}
---
kind: ConfigMap
metadata: {name: helper}
data:
  pod.yaml: |
    kind: Pod
    spec:
      containers:
      - image: docker.io/library/busybox
  note: "containers: are not yaml here: ["
  other: plain text
---
kind: CustomThing
metadata: {name: c}
spec:
  image: quay.io/not/found:by-this-rule
  worker: {podTemplate: {containers: [{image: x.io/w:5}]}}
"""


def test_finds_images_of_every_pod_specification_and_names_the_place() -> None:
    found = {image.written: image.where for image in find_images(WORKLOADS, "web")}
    assert set(found) == {
        "quay.io/a/init:1",
        "nginx",
        "quay.io/a/model:2",
        "quay.io/a/job:3",
        "quay.io/a/debug:4",
        "docker.io/library/busybox",
        "x.io/w:5",
    }
    assert found["nginx"] == "web: Deployment/web spec.template.spec.containers[0].image"
    assert found["docker.io/library/busybox"] == (
        "web: ConfigMap/helper data[pod.yaml] -.spec.containers[0].image"
    )


def test_an_image_that_is_not_listed_is_named_with_its_place() -> None:
    listed = [ImageReference.parse("nginx:latest"), ImageReference.parse("busybox")]
    problems = missing_images(find_images(WORKLOADS, "web"), listed)
    assert len(problems) == 5
    assert problems[0] == (
        "quay.io/a/debug:4 is not listed: web: Pod/p spec.ephemeralContainers[0].image"
    )


def test_an_image_that_is_no_reference_is_a_problem() -> None:
    data = b"kind: Pod\nspec: {containers: [{image: '{{ image }}'}]}"
    assert (
        "'{{ image }}' is not an image reference" in missing_images(find_images(data, "x"), [])[0]
    )


def test_a_bomb_of_aliases_is_refused_instead_of_walked() -> None:
    bomb = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for number in range(1, 12):
        alias = b"*a%d" % (number - 1)
        bomb += b"a%d: &a%d [%s]\n" % (number, number, b", ".join([alias] * 10))
    with pytest.raises(IntegrityError) as caught:
        find_images(bomb, "bomb")
    assert caught.value.code == "bad-manifest-file"


def test_what_is_not_yaml_is_refused_by_name() -> None:
    with pytest.raises(IntegrityError) as caught:
        find_images(b"<html>log in</html>: [", "calico")
    assert "calico is not YAML" in caught.value.message


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
