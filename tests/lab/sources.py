"""Where charts and manifests come from that the lab serves as they are.

A folder `../shared/upstream` beside the checkout is used when it is there: it holds exactly the
files below. Otherwise they are fetched from the project's own repository, at a fixed commit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .host import alive
from .state import REPOSITORY, LabError, cache_folder

BESIDE = REPOSITORY.parent / "shared" / "upstream"
FETCH_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or file of a public repository at one commit."""

    beside: str  # path in the folder beside the checkout
    repository: str  # empty: it is published in another form only, and must lie beside
    commit: str
    path: str


SOURCES = {
    "charts/flannel": Source(
        "charts/flannel",
        "https://github.com/flannel-io/flannel",
        "5cd0d52648e891d73a6dcb9bb2c67d7c365cf7aa",
        "chart/kube-flannel",
    ),
    "charts/minio": Source(
        "charts/minio",
        "https://github.com/minio/minio",
        "9e49d5e7a648f00e26f2246f4dc28e6b07f8c84a",
        "helm/minio",
    ),
    "charts/gpu-operator": Source(
        "charts/gpu-operator",
        "https://github.com/NVIDIA/gpu-operator",
        "10ee5b3638b89e11e949412aafa5ba99279c3721",
        "deployments/gpu-operator",
    ),
    "charts/local-path-provisioner": Source(
        "charts/local-path-provisioner",
        "https://github.com/rancher/local-path-provisioner",
        "49b2be8e26d6d34c9afaa21fa33108d2e82f8955",
        "deploy/chart/local-path-provisioner",
    ),
    "manifests/local-path-storage.yaml": Source(
        "manifests/local-path-provisioner/local-path-storage.yaml",
        "https://github.com/rancher/local-path-provisioner",
        "49b2be8e26d6d34c9afaa21fa33108d2e82f8955",
        "deploy/local-path-storage.yaml",
    ),
    "charts/kube-prometheus-stack": Source(
        "charts/kube-prometheus-stack",
        "https://github.com/prometheus-community/helm-charts",
        "ea930baeebeba39f56d6b44e351f23b2a072a600",
        "charts/kube-prometheus-stack",
    ),
    "charts/metrics-server": Source(
        "charts/metrics-server",
        "https://github.com/kubernetes-sigs/metrics-server",
        "842dcc8c42f22cc19f10c7d5f2d32a9f4b6013b0",
        "charts/metrics-server",
    ),
    "charts/mysql-operator": Source(
        "charts/mysql-operator",
        "https://github.com/mysql/mysql-operator",
        "aec777a1f91d2c26c1d3470d97ec77899d73eadf",
        "helm/mysql-operator",
    ),
    "charts/mysql-innodbcluster": Source(
        "charts/mysql-innodbcluster",
        "https://github.com/mysql/mysql-operator",
        "aec777a1f91d2c26c1d3470d97ec77899d73eadf",
        "helm/mysql-innodbcluster",
    ),
    "manifests/calico": Source(
        "manifests/calico/calico.yaml",
        "https://github.com/projectcalico/calico",
        "0ca9d1b93644778cafdf1812f3dda02ac0c361e8",
        "manifests/calico.yaml",
    ),
    "trees/kubeflow-manifests": Source(
        "kubeflow-manifests-26.03.tar.gz",
        "https://github.com/kubeflow/manifests",
        "d68ebc7fab366ab40ddd1541d2ec22febb31bc83",
        "",
    ),
    "trees/argo-workflows": Source(
        "remote-bases/argo-workflows-3.7.3-manifests.tar.gz",
        "https://github.com/argoproj/argo-workflows",
        "bded09fe4abd37cb98d7fc81b4c14a6f5034e9ab",
        "",
    ),
    "trees/jobset": Source(
        "remote-bases/jobset-v0.10.1-manifests.yaml.gz",
        "",
        "",
        "",
    ),
}


def upstream_path(name: str) -> Path:
    """The file or folder of that name, fetched on first use; raises LabError if it cannot be."""
    source = SOURCES.get(name)
    if source is None:
        raise LabError(f"no upstream source {name!r}; there are: {', '.join(SOURCES)}")
    beside = BESIDE / source.beside
    if beside.exists():
        return beside
    if not source.repository:
        raise LabError(f"{name} has no other source: put it at {beside}")
    checkout = cache_folder() / "sources" / source.commit
    if not checkout.is_dir():
        _fetch(source, checkout)
    found = checkout / source.path
    if not found.exists():
        raise LabError(f"{source.repository} has no {source.path} at {source.commit}")
    return found


def _fetch(source: Source, checkout: Path) -> None:
    checkout.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkout.parent, prefix=".fetch-") as work:
        folder = Path(work) / "checkout"
        steps = (
            ["init", "--quiet", str(folder)],
            ["-C", str(folder), "fetch", "--quiet", "--depth=1", source.repository, source.commit],
            ["-C", str(folder), "checkout", "--quiet", "--detach", "FETCH_HEAD"],
        )
        with alive(f"fetch {source.repository} at {source.commit[:12]}"):
            for step in steps:
                _git(step, source)
        shutil.rmtree(folder / ".git")
        folder.rename(checkout)


def _git(arguments: list[str], source: Source) -> None:
    # HOME as it is: a proxy or a mirror is configured there; a prompt would wait for ever
    env = dict(os.environ) | {"GIT_TERMINAL_PROMPT": "0", "LANG": "C.UTF-8"}
    hint = f"put {source.path} of that commit at {BESIDE / source.beside}, or allow the address"
    try:
        done = subprocess.run(
            ["git", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as err:
        raise LabError("git is not installed on this host") from err
    except subprocess.TimeoutExpired as err:
        raise LabError(
            f"{source.repository} gave nothing in {FETCH_TIMEOUT_S:.0f} s: {hint}"
        ) from err
    if done.returncode != 0:
        raise LabError(
            f"cannot fetch {source.commit} of {source.repository}: {done.stderr.strip()}: {hint}"
        )
