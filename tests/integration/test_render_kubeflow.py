"""Kubeflow's own tree, vendored and rendered, against what upstream's kustomizations give.

Every kustomization that the catalog takes from it is rendered with the real kustomize, without a
network, and compared object for object.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.lab.sources import BESIDE, upstream_path
from tests.support.kustomize import kustomize_program

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.render.kustomize import Kustomize, RenderTree
from perimeter_bundle.sources.remote import RemoteFile, RemoteTree
from perimeter_bundle.sources.vendor import vendor

SOURCE = "kubeflow-manifests"
ARGO_COMMIT = "bded09fe4abd37cb98d7fc81b4c14a6f5034e9ab"
# where the two have different names
RENDERED = {
    "cert-manager": "cert-manager-kubeflow",
    "cluster-local-gateway": "istio-cluster-local-gateway-base",
    "post-install-jobs": "knative-eventing-post-install-jobs",
}
MULTI_USER = "applications/pipeline/upstream/base/installs/multi-user"
# what the shared tree lacks or has shortened stands in a ConfigMap of the render: it is an input
INPUTS = {
    "common/oauth2-proxy/base/kubeflow-logo.svg": "oauth2-proxy",
    f"{MULTI_USER}/pipelines-profile-controller/sync.py": "pipelines",
}


class Shared:
    """What the remote references of the tree stand for; a RemoteSource."""

    def tree(self, remote: RemoteTree, reference: str) -> tuple[str, FileTree]:
        assert remote.url == "https://github.com/argoproj/argo-workflows", reference
        return ARGO_COMMIT, _unpacked(upstream_path("trees/argo-workflows"), 1)

    def file(self, remote: RemoteFile, reference: str) -> bytes:
        assert remote.url.endswith("/jobset/releases/download/v0.10.1/manifests.yaml"), reference
        return gzip.decompress(upstream_path("trees/jobset").read_bytes())


def _unpacked(archive: Path, strip: int = 0) -> FileTree:
    if archive.is_dir():  # a checkout, where the archives are not at hand
        inside = sorted(path for path in archive.rglob("*") if path.is_file())
        return {path.relative_to(archive).as_posix(): path.read_bytes() for path in inside}
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            reader = tar.extractfile(member) if member.isfile() else None
            if reader is not None:
                files[member.name.split("/", strip)[-1]] = reader.read()
    return files


def kustomizations() -> dict[str, str]:
    """Path in the tree by the name of upstream's render."""
    catalog = load_catalog(content_root() / "manifests")
    found = [
        one
        for component in catalog.components.values()
        for one in component.kustomizations
        if one.source.name == SOURCE
    ]
    return {RENDERED.get(one.name, one.name): one.path for one in found}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RenderTree]:
    files = dict(_unpacked(upstream_path("trees/kubeflow-manifests")))
    for path, name in INPUTS.items():
        key = path.rpartition("/")[2]
        for one in yaml.load_all(expected(name), Loader=yaml.CSafeLoader):
            if one["kind"] == "ConfigMap" and key in one.get("data", {}):
                files[path] = one["data"][key].encode()
    vendored = vendor(files, kustomizations().values(), Shared(), SOURCE)
    assert len(vendored.remote) == 4
    kustomize = Kustomize(kustomize_program(), tmp_path_factory.mktemp("kubeflow"))
    with kustomize.tree(vendored.files, SOURCE) as written:
        yield written


def expected(name: str) -> bytes:
    folder = BESIDE / "rendered"
    plain, packed = folder / f"{name}.yaml", folder / f"{name}.yaml.gz"
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    if not plain.is_file():
        pytest.fail(f"upstream's render {plain} is missing: it cannot be made without a network")
    return plain.read_bytes()


def objects(data: bytes) -> dict[tuple[str, ...], object]:
    found = {}
    for one in yaml.load_all(data, Loader=yaml.CSafeLoader):
        metadata = one["metadata"]
        key = (one["apiVersion"], one["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found
        found[key] = one
    return found


@pytest.mark.parametrize("name", sorted(kustomizations()))
def test_gives_what_upstream_gives(tree: RenderTree, name: str) -> None:
    data, wanted = tree.render(kustomizations()[name]), expected(name)
    if data != wanted:  # parsing the larger ones takes seconds
        assert objects(data) == objects(wanted)
