"""Kubeflow's own tree, vendored and rendered, against what upstream's kustomizations give.

Every kustomization that the catalog takes from it is rendered with the real kustomize, without a
network, and compared object for object.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
import yaml
from tests.lab.sources import upstream_path
from tests.lab.trees import ARGO, KUBEFLOW, tree_files, upstream_render
from tests.support.kustomize import kustomize_program
from tests.support.upstream_renders import is_seaweedfs

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog
from perimeter_bundle.discover.discover import discover
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.render.kustomize import Kustomize, RenderTree
from perimeter_bundle.sources.remote import RemoteFile, RemoteTree
from perimeter_bundle.sources.vendor import vendor

SOURCE = "kubeflow-manifests"
ARGO_COMMIT = "bded09fe4abd37cb98d7fc81b4c14a6f5034e9ab"
SEAWEEDFS = "seaweedfs"  # upstream has no render of it alone
LABEL = "application-crd-id"
# where the two have different names
RENDERED = {
    "cert-manager": "cert-manager-kubeflow",
    "cluster-local-gateway": "istio-cluster-local-gateway-base",
    "post-install-jobs": "knative-eventing-post-install-jobs",
}


class Shared:
    """What the remote references of the tree stand for; a RemoteSource."""

    def tree(self, remote: RemoteTree, reference: str) -> tuple[str, FileTree]:
        assert remote.url == "https://github.com/argoproj/argo-workflows", reference
        return ARGO_COMMIT, tree_files(ARGO)

    def file(self, remote: RemoteFile, reference: str) -> bytes:
        assert remote.url.endswith("/jobset/releases/download/v0.10.1/manifests.yaml"), reference
        return gzip.decompress(upstream_path("trees/jobset").read_bytes())


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
    vendored = vendor(tree_files(KUBEFLOW), kustomizations().values(), Shared(), SOURCE)
    assert len(vendored.remote) == 4
    kustomize = Kustomize(kustomize_program(), tmp_path_factory.mktemp("kubeflow"))
    with kustomize.tree(vendored.files, SOURCE) as written:
        yield written


def objects(data: bytes) -> dict[tuple[str, ...], object]:
    found = {}
    for one in yaml.load_all(data, Loader=yaml.CSafeLoader):
        metadata = one["metadata"]
        key = (one["apiVersion"], one["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found
        found[key] = one
    return found


def without_labels_of_pipelines(value: object) -> object:
    """The value without the label that upstream's overlay of the pipelines adds everywhere."""
    if isinstance(value, dict):
        kept = {key: without_labels_of_pipelines(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if key != LABEL and inner != {}}
    if isinstance(value, list):
        return [without_labels_of_pipelines(inner) for inner in value]
    return value


def test_seaweedfs_alone_is_what_the_pipelines_bring_but_for_their_labels(tree: RenderTree) -> None:
    alone = list(objects(tree.render(kustomizations()[SEAWEEDFS])).values())
    brought = [
        one
        for one in yaml.load_all(upstream_render("pipelines"), Loader=yaml.CSafeLoader)
        if is_seaweedfs(one)
    ]
    assert len(alone) == 6
    plain = [without_labels_of_pipelines(one) for one in brought]
    assert [without_labels_of_pipelines(one) for one in alone] == plain
    found = discover([(SEAWEEDFS, yaml.dump_all(alone).encode())])
    assert [str(image) for image in found.references()] == ["docker.io/chrislusf/seaweedfs:4.00"]
    assert found.complete


@pytest.mark.parametrize("name", sorted(set(kustomizations()) - {SEAWEEDFS}))
def test_gives_what_upstream_gives(tree: RenderTree, name: str) -> None:
    data, wanted = tree.render(kustomizations()[name]), upstream_render(name)
    if data != wanted:  # parsing the larger ones takes seconds
        assert objects(data) == objects(wanted)
