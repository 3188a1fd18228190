"""Source trees that the catalog's kustomizations are in, or name, as files in memory."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import yaml

from .sources import BESIDE, upstream_path
from .state import LabError

KUBEFLOW = "trees/kubeflow-manifests"
ARGO = "trees/argo-workflows"
_STRIPPED = {KUBEFLOW: 0, ARGO: 1}  # folders on top of an archive's files
_MULTI_USER = "applications/pipeline/upstream/base/installs/multi-user"
# What the tree beside the checkout lacks or has shortened stands in a ConfigMap of upstream's
# render, whose key is the file's name: path in the tree → name of the render.
_FROM_RENDERS = {
    "common/oauth2-proxy/base/kubeflow-logo.svg": "oauth2-proxy",
    f"{_MULTI_USER}/pipelines-profile-controller/sync.py": "pipelines",
}


def tree_files(name: str) -> dict[str, bytes]:
    """Path → bytes of every file of the tree; ``name`` as in sources.py."""
    source = upstream_path(name)
    if source.is_dir():  # a checkout, where the archives are not at hand
        inside = sorted(path for path in source.rglob("*") if path.is_file())
        return {path.relative_to(source).as_posix(): path.read_bytes() for path in inside}
    files = {}
    with tarfile.open(source) as tar:
        for member in tar:
            reader = tar.extractfile(member) if member.isfile() else None
            if reader is not None:
                files[member.name.split("/", _STRIPPED[name])[-1]] = reader.read()
    return files | (_from_renders() if name == KUBEFLOW else {})


def upstream_render(name: str) -> bytes:
    """What upstream's own kustomization of that name gives; raises LabError without it."""
    folder = BESIDE / "rendered"
    plain, packed = folder / f"{name}.yaml", folder / f"{name}.yaml.gz"
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    if not plain.is_file():
        raise LabError(f"upstream's render {plain} is missing: it cannot be made without a network")
    return plain.read_bytes()


def _from_renders() -> dict[str, bytes]:
    found = {}
    for path, render in _FROM_RENDERS.items():
        key = Path(path).name
        for one in yaml.load_all(upstream_render(render), Loader=yaml.CSafeLoader):
            if one["kind"] == "ConfigMap" and key in one.get("data", {}):
                found[path] = str(one["data"][key]).encode()
    return found
