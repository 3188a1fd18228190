"""A release with kustomizations: locked, built and verified against a real git server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.git_server import GitServer
from tests.support.kustomize import kustomize_archive
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.kustomizations import build_source, lock_source
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.plan import ask_upstream, plan_release
from perimeter_bundle.collect.wanted import wanted_sources
from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.source_tree import unpack_tree
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.lock import Lock, LockedSource

APP = "resources: [pod.yaml, 'https://github.com/argo/flows//base?ref=v1']\n"
POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n"
    "spec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
)
D = Digest.of_bytes(b"x")
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-argo}\n"
SOURCE = """\
name: trees
licence: BSD-3-Clause
git: https://git.example/org/trees
tag: "1.0"
commit: {commit}
"""
COMPONENT = """\
name: trees
title: Trees
version: "1.0"
licence: MIT
source: https://example.org/trees
phase: kubeflow
needs: [cluster, kustomize]
images:
  - {{reference: "{host}/example/shop:1.0", why: it grows}}
kustomizations:
  - {{name: app, source: trees, path: app}}
"""
KUSTOMIZE = """\
name: kustomize
title: kustomize
version: v1
licence: Apache-2.0
source: https://example.org/kustomize
phase: tools
files:
  - name: kustomize
    url: "{url}/files/kustomize.tar.gz"
    checksum_url: "{url}/files/kustomize.sums"
    platforms: [linux/amd64]
"""


@dataclass(slots=True)
class Forest:
    """A mini upstream whose release also has a kustomization of a git source."""

    mini: MiniUpstream
    git: GitServer
    commit: str


@pytest.fixture
def forest(tmp_path: Path) -> Iterator[Forest]:
    server, ca_file = tls_server(tmp_path)
    with server, GitServer(tmp_path / "server") as git:
        yield plant(mini_upstream(server, tmp_path, ca_file), git)


def plant(mini: MiniUpstream, git: GitServer) -> Forest:
    """Adds the kustomization, its git server and a kustomize to a mini upstream."""
    both = mini.folder / "both.crt"
    both.write_bytes(mini.ca_file.read_bytes() + git.ca_file.read_bytes())
    mini.ca_file = both
    mini.mirrors = {host: (f"{git.base}/{host}",) for host in ("github.com", "git.example")}
    return Forest(mini, git, _publish(mini, git))


def _publish(mini: MiniUpstream, git: GitServer) -> str:
    pod = POD.format(image=f"{mini.host}/example/shop:1.0")
    git.publish(
        "github.com/argo/flows",
        {"base/kustomization.yaml": "resources: [crd.yaml]\n", "base/crd.yaml": CONFIG},
        "v1",
    )
    commit = git.publish(
        "git.example/org/trees", {"app/kustomization.yaml": APP, "app/pod.yaml": pod}, "1.0"
    )
    archive = kustomize_archive()
    mini.server.serve("/files/kustomize.tar.gz", archive)
    sums = f"{hashlib.sha256(archive).hexdigest()}  kustomize.tar.gz\n"
    mini.server.serve("/files/kustomize.sums", sums.encode())
    root = mini.catalog_root
    (root / "sources").mkdir()
    (root / "sources" / "trees.yaml").write_text(SOURCE.format(commit=commit))
    for name, text in (
        ("trees", COMPONENT.format(host=mini.host)),
        ("kustomize", KUSTOMIZE.format(url=mini.server.url)),
    ):
        (root / name).mkdir()
        (root / name / "component.yaml").write_text(text)
    release = root / "releases" / "mini.yaml"
    text = release.read_text().replace("[cluster, shop]", "[cluster, kustomize, shop, trees]")
    release.write_text(text)
    mini.server.seen.clear()
    return commit


def test_a_source_is_locked_built_rendered_and_verified(forest: Forest, tmp_path: Path) -> None:
    lock, out = forest.mini.lock(), tmp_path / "out"
    (source,) = lock.sources
    assert (source.commit, source.version) == (forest.commit, "1.0")
    assert [line.split(" ")[0] for line in source.remote] == [
        "https://github.com/argo/flows//base?ref=v1"
    ]
    assert Lock.parse(lock.to_bytes()) == lock
    forest.mini.build(lock, out)
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    item = bundle.manifest.find("perimeter.internal/sources/trees:1.0")
    assert (item.kind, item.licence, item.component) == (ItemKind.SOURCE, "BSD-3-Clause", "trees")
    assert item.source == f"https://git.example/org/trees@{forest.commit}"
    assert item.why == ("trees: installs Trees",)
    files = unpack_tree(bundle.blob(item.payload).read_bytes(), "trees")
    assert any(path.startswith("perimeter-remote/github.com/argo/flows/") for path in files)
    rendered = bundle.read(f"{layout.RENDERED}/trees/app.yaml").decode()
    assert f"image: {forest.mini.host}/example/shop:1.0" in rendered
    assert "name: from-argo" in rendered
    assert (out / layout.CATALOG / "sources" / "trees.yaml").is_file()
    assert bundle.manifest.find("perimeter.internal/files/kustomize/kustomize:v1-amd64")


def test_an_image_that_only_a_kustomization_names_is_locked_with_its_place(forest: Forest) -> None:
    path = forest.mini.catalog_root / "trees" / "component.yaml"
    path.write_text(path.read_text().replace("example/shop:1.0", "example/zcopy:1.0"))
    images = {str(image.reference): image for image in forest.mini.lock().images}
    why = images[f"{forest.mini.host}/example/shop:1.0"].why
    assert any(line.startswith("trees: ") and "image: trees/" in line for line in why), why


def brought(forest: Forest, locked: LockedSource, target: Path, *, check_tag: bool = True) -> None:
    """What ``build`` does for a source, without the rest of a bundle."""
    (wanted,) = wanted_sources(forest.mini.release())
    work = target.parent / "work"
    build_source(wanted, locked, forest.mini.upstream().files, target, work, check_tag=check_tag)


def locked_of(forest: Forest, tmp_path: Path) -> LockedSource:
    (wanted,) = wanted_sources(forest.mini.release())
    return lock_source(wanted, forest.mini.upstream().files, tmp_path / "locking")[0]


def test_what_is_locked_is_built_though_its_branch_moved(forest: Forest, tmp_path: Path) -> None:
    locked = locked_of(forest, tmp_path)
    forest.git.publish("github.com/argo/flows", {"base/kustomization.yaml": "{}"}, "v1")
    brought(forest, locked, tmp_path / "blob")
    assert Digest.of_bytes((tmp_path / "blob").read_bytes()) == locked.digest
    assert locked_of(forest, tmp_path).digest != locked.digest


def test_a_tag_that_moved_fails_the_build_unless_tags_are_not_asked(
    forest: Forest, tmp_path: Path
) -> None:
    locked = locked_of(forest, tmp_path)
    forest.git.publish("git.example/org/trees", {"x": "y"}, "1.0")
    with pytest.raises(PerimeterError) as caught:
        brought(forest, locked, tmp_path / "blob")
    assert (caught.value.code, caught.value.context["expected"]) == ("tag-moved", forest.commit)
    assert not (tmp_path / "blob").exists()
    brought(forest, locked, tmp_path / "blob", check_tag=False)


def test_a_build_goes_on_without_fetching_a_source_again(forest: Forest, tmp_path: Path) -> None:
    locked = locked_of(forest, tmp_path)
    brought(forest, locked, tmp_path / "blob")
    forest.git.down = True
    brought(forest, locked, tmp_path / "blob")
    (tmp_path / "blob").write_bytes(b"half")
    with pytest.raises(PerimeterError) as caught:
        brought(forest, locked, tmp_path / "blob")
    assert caught.value.code == "source-gone"


def test_a_lock_whose_digest_is_another_is_refused(forest: Forest, tmp_path: Path) -> None:
    locked = replace(locked_of(forest, tmp_path), digest=Digest.of_bytes(b"another"))
    with pytest.raises(PerimeterError) as caught:
        brought(forest, locked, tmp_path / "blob")
    assert caught.value.code == "digest-mismatch"
    assert "source trees 1.0: it does not pack to what is locked" in caught.value.message


def test_a_lock_of_another_commit_or_without_the_source_is_not_of_this_release(
    forest: Forest,
) -> None:
    release = forest.mini.release()
    lock = unresolved_lock(release)
    known = tuple(replace(one, digest=Digest.of_bytes(b"x")) for one in lock.sources)
    rest = {
        "images": tuple(
            replace(one, digest=D, manifests=dict.fromkeys(lock.platforms, D))
            for one in lock.images
        ),
        "charts": tuple(replace(one, digest=D) for one in lock.charts),
        "files": tuple(replace(one, digest=D) for one in lock.files),
    }
    other = replace(lock, sources=(replace(known[0], commit="0" * 40),), **rest)
    for changed, text in (
        (other, "the lock has it from"),
        (replace(lock, sources=(), **rest), "not in"),
    ):
        with pytest.raises(InputError) as caught:
            check_lock(changed, release)
        assert any("sources/trees:1.0" in p and text in p for p in caught.value.problems)


def test_plan_and_an_unresolved_lock_name_the_source(forest: Forest) -> None:
    release = forest.mini.release()
    name = "perimeter.internal/sources/trees:1.0"
    assert name in unresolved_lock(release).unresolved()
    plan = plan_release(release, None)
    (item,) = [item for item in plan.items if item.kind == "source"]
    assert (item.name, item.source) == (name, "https://git.example/org/trees")
    assert item.size_bytes is None
    assert f"the size of {name}" in plan.unknown


def test_a_plan_renders_kustomizations_and_fetches_nothing_large(
    forest: Forest, tmp_path: Path
) -> None:
    path = forest.mini.catalog_root / "trees" / "component.yaml"
    path.write_text(path.read_text().replace("example/shop:1.0", "example/zcopy:1.0"))
    release = forest.mini.release()
    plan = plan_release(release, None, ask_upstream(release, forest.mini.upstream(), tmp_path))
    sizes = {(item.kind, item.name): item.size_bytes for item in plan.items}
    assert sizes["source", "perimeter.internal/sources/trees:1.0"]
    assert all(sizes.values())
    image = next(item for item in plan.items if item.name.endswith("/example/shop:1.0"))
    assert "trees" in image.component
    assert set(forest.mini.blob_requests()) == {
        "/files/extra.yaml",
        "/files/kustomize.sums",
        "/files/kustomize.tar.gz",
    }
    assert [text for text in plan.unknown if "the size of" in text] == []
