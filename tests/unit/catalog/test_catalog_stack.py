"""The catalog of this repository, compared with what its upstreams really hold."""

from __future__ import annotations

import csv
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.licenses import canonicalize_license_expression
from tests.support.stack import DEFAULT_RELEASE, PAGE, stack_page
from tests.support.upstream_renders import catalog, discovered, documents, upstream

from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Component, Release
from perimeter_bundle.collect.coherence import gather_facts, judge_release
from perimeter_bundle.collect.complete import Rendered
from perimeter_bundle.collect.wanted import wanted_images
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.phases import Phase
from perimeter_bundle.review.coherence.judge import refuse_incoherent
from perimeter_bundle.review.coherence.values import Severity


def components() -> list[Component]:
    return list(catalog().components.values())


@cache
def objects(component: str) -> tuple[dict[str, Any], ...]:
    return tuple(
        found
        for _, data in documents(component)
        for found in yaml.load_all(data, Loader=yaml.CBaseLoader)
        if found
    )


def strings(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                yield key, inner
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def test_every_kustomization_stands_in_the_tree_of_its_source() -> None:
    with tarfile.open(upstream("kubeflow-manifests-26.03.tar.gz")) as archive:
        names = set(archive.getnames())
    missing = [
        f"{one.name}: {kustomization.path}"
        for one in components()
        for kustomization in one.kustomizations
        if f"{kustomization.path}/kustomization.yaml" not in names
    ]
    assert missing == []


def test_no_two_components_claim_one_kustomization_chart_or_manifest() -> None:
    claims = Counter(
        claim
        for one in components()
        for claim in (
            *((k.source.name, k.path) for k in one.kustomizations),
            *(("chart", c.name) for c in one.charts),
            *(("manifest", m.full_url()) for m in one.manifests),
        )
    )
    assert [claim for claim, count in claims.items() if count > 1] == []


def test_every_part_of_upstream_s_example_is_in_the_default_release() -> None:
    """Its kustomization lists paths below ../; none of them may be forgotten."""
    example = upstream("rendered/kubeflow-all.kustomization.example.yaml.txt").read_text()
    wanted = set(re.findall(r"^- \.\./([^\s#]+)", example, flags=re.M))
    release = load_release(catalog(), DEFAULT_RELEASE)
    have = {k.path for c in release.components for k in c.kustomizations}
    assert len(wanted) > 25
    assert wanted - have == set()


@pytest.mark.parametrize("name", sorted(catalog().components))
def test_nothing_a_component_renders_is_left_unexplained(name: str) -> None:
    if (
        not catalog().components[name].rules.exclude
    ):  # of charts' crds/, which are not rendered here
        assert discovered(name).unused_rules == ()
    assert discovered(name).unclassified == ()


def test_the_default_release_finds_all_images_of_the_core() -> None:
    with upstream("images.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["set"] == "kubeflow-core"]
    wanted = {row["normalized"] for row in rows}
    release = load_release(catalog(), DEFAULT_RELEASE)
    found: set[str] = set()
    for component in release.components:
        if component.kustomizations:
            discovery = discovered(component.name)
            found |= {str(reference) for reference in discovery.references()}
    assert len(wanted) == 105
    assert wanted - found == set()


@pytest.mark.parametrize("name", sorted(catalog().components))
def test_what_a_component_waits_for_is_among_what_it_renders(name: str) -> None:
    component = catalog().components[name]
    there = {(o["kind"], o["metadata"]["name"]) for o in objects(name)} if component.ready else ()
    namespaces = {
        (o["kind"], o["metadata"]["name"]): o["metadata"].get("namespace")
        for o in (objects(name) if component.ready else ())
    }
    for ready in component.ready:
        if ready.kind == "InnoDBCluster":  # the role makes it
            continue
        key = (ready.kind, ready.name)
        assert key in there, ready
        if namespaces[key]:
            assert namespaces[key] == ready.namespace, ready


def test_a_component_that_runs_something_says_when_it_is_ready() -> None:
    silent = [
        one.name
        for one in components()
        if one.kustomizations
        and not one.ready
        and any(o["kind"] in ("Deployment", "StatefulSet", "DaemonSet") for o in objects(one.name))
    ]
    assert silent == []


def test_licences_are_spdx_and_every_licence_rule_speaks_of_some_image() -> None:
    for one in components():
        licences = [
            *(one.licence, *(rule.licence for rule in one.licences)),
            *(image.licence for image in one.images),
            *(item.licence for item in (*one.charts, *one.files, *one.manifests)),
            *(k.source.licence for k in one.kustomizations),
        ]
        for licence in licences:
            assert canonicalize_license_expression(licence) == licence, one.name
        if one.licences:
            images = discovered(one.name).references()
            for rule in one.licences:
                assert any(rule.matches(image) for image in images), (one.name, rule)


def test_versions_in_values_are_those_the_component_names_or_upstream_s_own() -> None:
    for one in components():
        known = {one.version, *(chart.version for chart in one.charts)}
        known |= {image.reference.tag for image in one.images}
        for chart in one.charts:
            for key, text in strings(dict(chart.values)):
                if key in ("tag", "version") and text not in known:
                    named = {inner for o in objects(one.name) for _, inner in strings(o)}
                    assert any(text in inner for inner in named), (one.name, key, text)


def test_every_chart_is_fetched_from_its_own_repository_and_says_the_version() -> None:
    stamped = {"gpu-operator"}  # upstream writes its version when it is released
    for one in components():
        for chart in one.charts:
            about = yaml.safe_load(upstream(f"charts/{chart.name}/Chart.yaml").read_text())
            assert about["name"] == chart.name
            if chart.name not in stamped:
                assert about["version"] == chart.version


def test_a_component_stands_in_a_phase_not_before_that_of_anything_it_needs() -> None:
    for one in components():
        for needed in one.needs:
            for name in (needed, *catalog().providers(needed)):
                if name in catalog().components:
                    assert catalog().components[name].phase.place <= one.phase.place, one.name


@pytest.mark.parametrize("left_out", ["istio", "cert-manager", "network", "kubeflow-namespace"])
def test_a_release_without_a_part_names_each_part_that_needs_it(
    tmp_path: Path, left_out: str
) -> None:
    providers = catalog().providers(left_out) or (left_out,)
    needing = [c.name for c in components() if left_out in c.needs]
    lines = (catalog().releases_folder / f"{DEFAULT_RELEASE}.yaml").read_text().splitlines()
    kept = [line for line in lines if line.split("#")[0].strip("- ") not in providers]
    subprocess.run(["cp", "-r", str(catalog().root), str(tmp_path)], check=True)
    root = tmp_path / catalog().root.name
    (root / "releases" / f"{DEFAULT_RELEASE}.yaml").write_text("\n".join(kept) + "\n")
    with pytest.raises(InputError) as caught:
        load_release(load_catalog(root), DEFAULT_RELEASE)
    assert caught.value.code == "bad-catalog"
    release = load_release(catalog(), DEFAULT_RELEASE)
    for component in release.components:
        if component.name in needing:
            pair = f"{component.name} needs {left_out}, "
            assert any(pair in problem for problem in caught.value.problems), pair


def test_a_release_may_have_the_other_network_and_storage(tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(catalog().root), str(tmp_path)], check=True)
    root = tmp_path / catalog().root.name
    path = root / "releases" / f"{DEFAULT_RELEASE}.yaml"
    text = path.read_text()
    text = text.replace("- flannel #", "- calico #").replace(
        "- local-path-provisioner #", "- external-storage-class #"
    )
    path.write_text(text)
    names = [one.name for one in load_release(load_catalog(root), DEFAULT_RELEASE).components]
    assert "calico" in names
    assert "flannel" not in names


PIPELINES = ("kubeflow-pipelines", "kubeflow-user-namespace")  # one needs the other


def release_with_seaweedfs(tmp_path: Path, left_out: tuple[str, ...]) -> Release:
    """The default release with SeaweedFS, and without some parts."""
    subprocess.run(["cp", "-r", str(catalog().root), str(tmp_path)], check=True)
    root = tmp_path / catalog().root.name
    path = root / "releases" / f"{DEFAULT_RELEASE}.yaml"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line.removeprefix("  - ").split(" #")[0] not in left_out]
    namespace = kept.index("  - kubeflow-namespace")
    kept.insert(namespace + 1, "  - seaweedfs")
    path.write_text("\n".join(kept) + "\n")
    return load_release(load_catalog(root), DEFAULT_RELEASE)


def test_a_release_may_have_seaweedfs_in_place_of_minio_and_pipelines(tmp_path: Path) -> None:
    release = release_with_seaweedfs(tmp_path, ("minio", *PIPELINES))
    assert "seaweedfs" in {one.name for one in release.components}
    found = {str(reference) for reference in discovered("seaweedfs").references()}
    assert found == {"docker.io/chrislusf/seaweedfs:4.00"}


@pytest.mark.parametrize(
    ("left_out", "pair"),
    [(PIPELINES, "minio and seaweedfs"), (("minio",), "seaweedfs and kubeflow-pipelines")],
)
def test_seaweedfs_is_refused_beside_minio_and_beside_the_pipelines_that_bring_it(
    tmp_path: Path, left_out: tuple[str, ...], pair: str
) -> None:
    with pytest.raises(InputError) as caught:
        release_with_seaweedfs(tmp_path, left_out)
    assert caught.value.code == "bad-catalog"
    assert len(caught.value.problems) == 1
    assert pair in caught.value.problems[0]


def test_the_base_release_is_the_beginning_of_the_default_one() -> None:
    base = load_release(catalog(), f"{DEFAULT_RELEASE}-base").components
    whole = load_release(catalog(), DEFAULT_RELEASE).components
    assert whole[: len(base)] == base
    assert {one.phase for one in whole} == set(Phase) - {Phase.NODE}


def test_what_does_not_belong_together_in_the_default_release_is_accepted_with_a_reason() -> None:
    release = load_release(catalog(), DEFAULT_RELEASE)
    rendered = [
        Rendered(component, name.partition("/")[2], data)
        for component in release.components
        for name, data in documents(component.name)
    ]
    found = {component.name: discovered(component.name) for component in release.components}
    judgement = judge_release(
        release, gather_facts(release, rendered, found), wanted_images(release)
    )
    refuse_incoherent(judgement, release.name)
    assert judgement.open(Severity.WARNING) == ()
    istio = "gcr.io/istio-release: 3 parts are at 1.28.0, but proxyv2 1.29.0"
    assert istio in {one.title for one in judgement.findings}


def test_the_page_about_the_stack_is_what_the_catalog_says() -> None:
    assert PAGE.read_text() == stack_page(catalog()), "run python -m tests.support.stack"
