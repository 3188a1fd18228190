"""The installer renders a source of an opened bundle again, with the bundle's kustomize."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import MINIO, make_bundle
from tests.support.kustomize import kustomize_archive

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.rules import ComposeRule, ExcludeRule, NotImageRule, Rules, TakeFrom
from perimeter_bundle.format.discovery_file import DISCOVERY_FORMAT
from perimeter_bundle.format.layout import DISCOVERY, RENDERED
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.errors import PerimeterError
from perimeter_installer.run.render import SiteRender, render_for_site

POD = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: shop}}
spec:
  containers:
  - name: c
    image: {MINIO}
    env:
    - {{name: HELPER_IMAGE, value: "quay.io/example/${{NEVER}}:1"}}
  - {{name: test, image: "docker.io/bats/bats:1.4"}}
  - {{name: odd, image: "quay.io/example/sentinel:0"}}
"""
TREE = {"app/kustomization.yaml": b"resources: [pod.yaml]\n", "app/pod.yaml": POD.encode()}
RULES = Rules(
    exclude=(ExcludeRule("docker.io/bats/bats:*", "a test hook"),),
    not_images=(
        NotImageRule("quay.io/example/sentinel:0", "never pulled"),
        NotImageRule("quay.io/example/${NEVER}:1", "a pattern"),
    ),
)


def bundle_of(
    folder: Path,
    tree: Mapping[str, bytes] = TREE,
    rules: Rules = RULES,
    others: Mapping[str, str] | None = None,
    rendered: str = POD,
) -> VerifiedBundle:
    """A bundle as the builder leaves one: gate passed, written down, signed; opened as verified."""
    parts = {"app": rendered, **(others or {})}
    found = discover([(f"shop/{name}", data.encode()) for name, data in parts.items()], rules)
    components = {"shop": found.to_dict()}
    extra = {f"{RENDERED}/shop/{name}.yaml": data.encode() for name, data in parts.items()}
    document = {"format": DISCOVERY_FORMAT, "components": components}
    extra[DISCOVERY] = json.dumps(document).encode()
    made = make_bundle(folder, tree=tree, kustomize=kustomize_archive(), extra_files=extra)
    return open_bundle(made.root, made.trust)


def site(*patches: Mapping[str, object], path: str = "app") -> SiteRender:
    return SiteRender("shop", "app", "trees", path, patches)


def patch(container: Mapping[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop", "labels": {"site": "plant"}},
        "spec": {"containers": [{"name": "c", **container}]},
    }


def refused(bundle: VerifiedBundle, wanted: SiteRender) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        render_for_site(bundle, wanted)
    return caught.value


def test_refuses_images_in_any_place_and_unexplained_strings_all_at_once(tmp_path: Path) -> None:
    variables = [
        {"name": "SIDECAR_IMAGE", "value": "quay.io/example/sidecar:3.0"},
        {"name": "PROXY_IMAGE", "value": "quay.io/example/${WHO_KNOWS}:3.0"},
    ]
    wanted = site(patch({"image": "quay.io/example/other:2.0", "env": variables}))
    error = refused(bundle_of(tmp_path), wanted)
    assert error.code == "image-not-in-bundle"
    assert error.problems == (
        "shop/app: Pod/shop/p spec.containers[0].env[0].value: 'quay.io/example/sidecar:3.0': "
        "the bundle does not hold quay.io/example/sidecar:3.0",
        "shop/app: Pod/shop/p spec.containers[0].env[1].value: 'quay.io/example/${WHO_KNOWS}:3.0': "
        "no value for WHO_KNOWS in these objects",
        "shop/app: Pod/shop/p spec.containers[0].image: 'quay.io/example/other:2.0': "
        "the bundle does not hold quay.io/example/other:2.0",
    )


def test_refuses_an_image_that_was_left_out_only_in_another_object(tmp_path: Path) -> None:
    other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q", "namespace": "shop"}}
    tree = {
        "app/kustomization.yaml": b"resources: [pod.yaml, q.yaml]\n",
        "app/pod.yaml": POD.encode(),
        "app/q.yaml": json.dumps(
            {**other, "spec": {"containers": [{"name": "c", "image": "bats/bats:1.4"}]}}
        ).encode(),
    }
    error = refused(bundle_of(tmp_path, tree), site())
    assert error.problems == (
        "shop/app: Pod/shop/q spec.containers[0].image: 'bats/bats:1.4': "
        "the bundle does not hold docker.io/bats/bats:1.4",
    )


def test_renders_with_the_values_of_the_site_what_the_builder_explained(tmp_path: Path) -> None:
    objects = render_for_site(bundle_of(tmp_path), site(patch({"image": MINIO})))
    assert b"site: plant" in objects
    assert f"image: {MINIO}".encode() in objects


def test_what_only_another_part_of_the_component_explains_is_fine(tmp_path: Path) -> None:
    values = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: v, namespace: shop}\n"
    name, _, tag = MINIO.rpartition(":")
    values += f"data: {{MINIO_TAG: {tag}}}\n"
    variable = {"name": "HELPER_IMAGE", "value": f"{name}:${{MINIO_TAG}}"}
    wanted = site(patch({"env": [variable]}))
    opened = bundle_of(tmp_path / "with", others={"values": values})
    assert b"MINIO_TAG" in render_for_site(opened, wanted)
    error = refused(bundle_of(tmp_path / "without"), wanted)
    assert len(error.problems) == 1
    assert "no value for MINIO_TAG" in error.problems[0]


def test_what_a_rule_puts_together_is_put_together_again_from_the_values_of_the_site(
    tmp_path: Path,
) -> None:
    name, _, tag = MINIO.rpartition(":")
    pod = POD.replace("name: p, namespace: shop", f"name: p, namespace: shop, labels: {{v: {tag}}}")
    take = TakeFrom("Pod/*/p", "metadata.labels.v")
    rule = ComposeRule("helper", name + ":{version}", "a program makes it", {"version": take})
    tree = {**TREE, "app/pod.yaml": pod.encode()}
    bundle = bundle_of(tmp_path, tree, replace(RULES, compose=(rule,)), rendered=pod)
    label = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}}
    assert render_for_site(bundle, site(label))

    label["metadata"] = {"name": "p", "namespace": "shop", "labels": {"v": "RELEASE.next"}}
    error = refused(bundle, site(label))
    assert error.problems == (
        f"shop/app: Pod/shop/p metadata.labels.v: '{name}:{{version}}': "
        f"the bundle does not hold {name}:RELEASE.next",
    )


def test_a_bundle_without_notes_explains_nothing(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, tree=TREE, kustomize=kustomize_archive())
    error = refused(open_bundle(made.root, made.trust), site())
    assert len(error.problems) == 3


def test_a_program_that_changed_after_verification_is_not_run(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    item = next(i for i in bundle.manifest.items if "/kustomize:" in i.name)
    blob = bundle.blob(item.payload)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert refused(bundle, site()).code == "digest-mismatch"


def test_says_what_kustomize_says(tmp_path: Path) -> None:
    error = refused(bundle_of(tmp_path), site(path="gone"))
    assert error.code == "not-rendered"
    assert "/tmp" not in "".join(error.problems)


def test_a_source_that_is_not_carried_is_named(tmp_path: Path) -> None:
    error = refused(bundle_of(tmp_path), SiteRender("shop", "app", "shrubs", "app"))
    assert error.message == "source shrubs is not in this bundle"


def test_a_bundle_without_the_program_is_refused(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, tree=TREE)
    error = refused(open_bundle(made.root, made.trust), site())
    assert error.message == "this bundle has no kustomize for linux/amd64"


def test_a_tree_with_a_folder_called_as_the_overlay_is_refused(tmp_path: Path) -> None:
    error = refused(bundle_of(tmp_path, {**TREE, "perimeter-site/x": b""}), site())
    assert error.code == "bad-source"
