"""The control plane's images, from the kubeadm that is shipped: no table of ours can be right.

etcd's tag depends on the patch version of kubeadm itself, so the program is asked; with an
explicit version it needs no network.
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.tools.run import clean_environment, run_tool

KUBEADM_TIMEOUT_S = 60.0
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def this_platform() -> Platform:
    """What programs this machine runs."""
    machine = platform.machine().lower()
    return Platform(platform.system().lower(), _MACHINES.get(machine, machine))


def list_kubeadm_images(
    kubeadm: Path, expected: Digest, version: str, built_for: Platform, work: Path
) -> tuple[ImageReference, ...]:
    """What ``kubeadm config images list`` of exactly these bytes prints, sorted.

    ``kubeadm`` is copied into a folder under ``work`` (which must not be mounted noexec) and
    checked against ``expected`` before it runs. Raises HostError[wrong-platform] where the
    program cannot run, IntegrityError[digest-mismatch], IntegrityError[bad-kubeadm-output].
    """
    here = this_platform()
    if not here.serves(built_for):
        raise HostError(
            "wrong-platform",
            "kubeadm must be asked which images it needs, and cannot run on this machine",
            context={"this machine": here, "kubeadm is for": built_for},
            hint=f"run perimeter-bundle on a {built_for} machine",
        )
    with tempfile.TemporaryDirectory(prefix="kubeadm-", dir=work) as folder_name:
        folder = Path(folder_name)
        program = folder / "kubeadm"
        _copy_checked(kubeadm, program, expected)
        done = run_tool(
            [program, "config", "images", "list", "--kubernetes-version", version],
            folder=folder,
            environment=clean_environment(folder),
            timeout_s=KUBEADM_TIMEOUT_S,
            what="list the control plane's images",
        )
    return _parse(done.stdout)


def _copy_checked(source: Path, target: Path, expected: Digest) -> None:
    hasher = expected.new_hasher()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(1 << 20):
            hasher.update(chunk)
            writer.write(chunk)
        os.fchmod(writer.fileno(), 0o700)
    got = Digest.of_hasher(hasher)
    if got != expected:
        raise IntegrityError(
            "digest-mismatch",
            "refused to run a kubeadm that is not the locked one",
            context={"expected": expected, "got": got, "file": source},
        )


def _parse(output: bytes) -> tuple[ImageReference, ...]:
    lines = output.decode("utf-8", "replace").split("\n")
    try:
        images = sorted({ImageReference.parse(line.strip()) for line in lines if line.strip()})
    except InputError as error:
        raise IntegrityError(
            "bad-kubeadm-output", f"kubeadm printed something else than images: {error.message}"
        ) from error
    if not images:
        raise IntegrityError("bad-kubeadm-output", "kubeadm listed no images")
    return tuple(images)
