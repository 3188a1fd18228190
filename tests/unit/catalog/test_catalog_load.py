"""component.yaml and release files: what is read, and that every problem is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release, with_platforms
from perimeter_bundle.catalog.values import ReadyCondition, Release
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.phases import Phase
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

COMPONENT = """\
name: shop
title: Shop
version: "1.0"
licence: MIT
source: https://example.org/shop
phase: minio
images:
  - reference: quay.io/example/shop:1.0
    why: sells
files:
  - name: shopctl
    url: https://example.org/{version}/shopctl-{arch}
    platforms: [linux/amd64]
"""
RELEASE = """\
name: "1"
number: 1
platforms: [linux/amd64]
minimum_installer: 0.1.0
jump_host:
  pythons: ["3.11"]
components: [shop]
"""


def catalog(folder: Path, component: str = COMPONENT, release: str = RELEASE) -> Path:
    root = folder / "manifests"
    (root / "shop").mkdir(parents=True)
    (root / "releases").mkdir()
    (root / "shop" / "component.yaml").write_text(component)
    (root / "releases" / "1.yaml").write_text(release)
    return root


def loaded(root: Path) -> Release:
    return load_release(load_catalog(root), "1")


def problems_of(root: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(root)
    assert caught.value.code == "bad-catalog"
    return list(caught.value.problems)


def test_reads_a_component(tmp_path: Path) -> None:
    shop = loaded(catalog(tmp_path)).component("shop")
    assert shop.phase is Phase.MINIO
    assert shop.images[0].licence == "MIT"
    assert shop.files[0].version == "1.0"
    url = shop.files[0].url_for(Platform("linux", "amd64"))
    assert url == "https://example.org/1.0/shopctl-amd64"


def test_the_catalog_of_this_repository_is_good() -> None:
    found = load_catalog(content_root() / "manifests")
    for name in found.release_names():
        release = load_release(found, name)
        assert {component.name for component in release.components} <= set(found.components)
        for component in release.components:
            for chart in component.charts:
                assert chart.values_path is not None
                assert chart.values_path.is_file()


def test_no_values_file_of_this_repository_holds_a_secret() -> None:
    for path in (content_root() / "manifests").glob("*/*.yaml"):
        for line in path.read_text().splitlines():
            assert not line.strip().lower().startswith(("rootpassword", "password", "secretkey"))


def test_every_problem_of_every_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    component = (
        COMPONENT.replace('version: "1.0"', "version: 1.0")
        .replace("quay.io/example/shop:1.0", "example/shop")
        .replace("https://example.org/{version}", "http://example.org/{release}")
        .replace("phase: minio", "phase: lunch\nextra: 1")
    )
    assert problems_of(catalog(tmp_path, component)) == [
        "manifests/shop/component.yaml:3: version: must be a string; put 1.0 in quotes",
        "manifests/shop/component.yaml:6: phase: Input should be 'tools', 'registry', 'node', "
        "'containerd', 'kubernetes', 'network', 'storage', 'minio', 'cert-manager', 'istio', "
        "'auth', 'knative', 'kubeflow', 'gpu', 'mysql' or 'monitoring'",
        "manifests/shop/component.yaml:9: images[0].reference: write the complete reference: "
        "docker.io/example/shop:latest",
        "manifests/shop/component.yaml:13: files[0].url: must be a full address beginning with "
        "https://",
        "manifests/shop/component.yaml:7: extra: unknown key; there are name, title, version, "
        "licence, source, phase, needs, provides, images, built_images, images_from, charts, "
        "files, manifests, kustomizations, licences, ready, coherence, "
        "rules, site_tags",
    ]


def test_an_unknown_key_inside_a_list_names_the_keys_there_are(tmp_path: Path) -> None:
    component = COMPONENT.replace("    why: sells", "    why: sells\n    tag: x")
    assert problems_of(catalog(tmp_path, component)) == [
        "manifests/shop/component.yaml:10: images[0].tag: unknown key; "
        "there are reference, why, licence, alternates, digest"
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: shop\n", "name: store\n", "must be shop, as its folder is called"),
        ("{arch}", "{cpu}", "unknown placeholder {cpu}"),
        ("    platforms: [linux/amd64]\n", "", "has {arch}, so platforms must be given"),
        ("[linux/amd64]\n", "[amd64]\n", "not a platform: 'amd64'"),
        ("https://example.org/{v", "https://user:pw@example.org/{v", "must not hold a user name"),
        ("images:", "images_from: {kubeadm: kubeadm}\nimages:", "there is no file kubeadm"),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', repository: 'https://c.example', namespace: n,"
            " values: gone.yaml}\nimages:",
            "charts[0].values: there is no file gone.yaml beside it",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', repository: 'oci://c.example', namespace: n,"
            " values: ../../etc/passwd}\nimages:",
            "must be the name of a file beside component.yaml",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', namespace: n}\nimages:",
            "needs repository, or source with path",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', repository: 'https://c.example', namespace: n,"
            " source: gone, path: x}\nimages:",
            "needs repository, or source with path",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', namespace: n, source: gone}\nimages:",
            "source and path belong together",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', namespace: n, source: gone, path: x}\nimages:",
            "charts[0].source: there is no sources/gone.yaml",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', namespace: n, source: gone, path: ../x}\nimages:",
            "must be a plain relative path",
        ),
        (
            "images:",
            "charts:\n  - {name: c, version: '1', repository: 'https://c.example', namespace: n,"
            " alternates: {'@x': ['http://c.example']}}\nimages:",
            "must be a full address beginning with https:// or oci://",
        ),
        (
            "images:\n",
            "images:\n  - {reference: 'quay.io/example/shop:1.0', why: again}\n",
            "quay.io/example/shop:1.0 stands there twice",
        ),
    ],
)
def test_refuses_a_component_that_contradicts_itself(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert reason in "\n".join(problems_of(catalog(tmp_path, COMPONENT.replace(old, new))))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name: "1"', 'name: "2"', "must be '1', as the file is called"),
        ("[shop]", "[shop, gone]", "the catalog has no component gone"),
        ("[shop]", "[shop, shop]", "shop stands there twice"),
        ("number: 1", "number: 0", "greater than or equal to 1"),
        ('"3.11"', '"3.9"', "pattern"),
        ("[linux/amd64]", "[linux/amd64, linux/arm64]", "shop has no file shopctl for linux/arm64"),
    ],
)
def test_refuses_a_release_that_does_not_fit_the_catalog(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert reason in "\n".join(problems_of(catalog(tmp_path, release=RELEASE.replace(old, new))))


def test_refuses_an_order_in_which_something_needed_comes_later(tmp_path: Path) -> None:
    root = catalog(
        tmp_path, COMPONENT + "needs: [base]\n", RELEASE.replace("[shop]", "[shop, base]")
    )
    (root / "base").mkdir()
    (root / "base" / "component.yaml").write_text(COMPONENT.replace("name: shop\n", "name: base\n"))
    assert problems_of(root) == [
        "manifests/releases/1.yaml:7: components: shop needs base, which stands after it"
    ]


OTHER = """\
name: {name}
title: Another
version: "1.0"
licence: MIT
source: https://example.org/other
phase: {phase}
"""


def with_other(root: Path, name: str, text: str, phase: str = "storage") -> Path:
    (root / name).mkdir()
    (root / name / "component.yaml").write_text(OTHER.format(name=name, phase=phase) + text)
    return root


def test_what_is_needed_may_be_what_any_component_provides(tmp_path: Path) -> None:
    root = catalog(
        tmp_path, COMPONENT + "needs: [volumes]\n", RELEASE.replace("[shop]", "[disc, shop]")
    )
    with_other(root, "disc", "provides: [volumes]\n")
    assert [one.name for one in loaded(root).components] == ["disc", "shop"]


def test_every_part_that_lacks_what_it_needs_is_named_with_the_choices(tmp_path: Path) -> None:
    root = catalog(tmp_path, COMPONENT + "needs: [volumes, base]\n")
    with_other(root, "base", "provides: [other]\nneeds: [volumes]\n")
    with_other(root, "disc", "provides: [volumes]\n")
    with_other(root, "cloud", "provides: [volumes]\n")
    assert problems_of(root) == [
        "manifests/releases/1.yaml:7: components: shop needs volumes, and nothing provides it: "
        "choose cloud or disc",
        "manifests/releases/1.yaml:7: components: shop needs base, which stands not at all "
        "beside it",
    ]
    (root / "releases" / "1.yaml").write_text(RELEASE.replace("[shop]", "[base, disc, shop]"))
    assert problems_of(root) == [
        "manifests/releases/1.yaml:7: components: base needs volumes, which stands after it"
    ]


def test_two_components_that_provide_the_same_exclude_each_other(tmp_path: Path) -> None:
    root = catalog(tmp_path, release=RELEASE.replace("[shop]", "[disc, cloud, shop]"))
    with_other(root, "disc", "provides: [volumes]\n")
    with_other(root, "cloud", "provides: [volumes]\n")
    assert problems_of(root) == [
        "manifests/releases/1.yaml:7: components: disc and cloud all provide volumes; choose one"
    ]


def test_a_need_that_nobody_can_meet_is_refused_before_any_release(tmp_path: Path) -> None:
    root = catalog(tmp_path, COMPONENT + "needs: [lunch]\nprovides: [disc]\n")
    with_other(root, "disc", "provides: [volumes]\n")
    with pytest.raises(InputError) as caught:
        load_catalog(root)
    assert caught.value.problems == (
        "manifests/shop/component.yaml: provides: disc is a component already",
        "manifests/shop/component.yaml: needs: lunch is no component, and none provides it",
    )


def test_components_stand_in_the_order_of_their_phases(tmp_path: Path) -> None:
    root = catalog(tmp_path, release=RELEASE.replace("[shop]", "[shop, disc, tool]"))
    with_other(root, "disc", "provides: [volumes]\n")
    with_other(root, "tool", "provides: [tool-of-all]\n", phase="tools")
    assert problems_of(root) == [
        "manifests/releases/1.yaml:7: components: disc (phase storage) stands after shop "
        "(phase minio), which is installed later"
    ]


def test_reads_what_a_component_is_when_it_is_ready(tmp_path: Path) -> None:
    text = (
        COMPONENT + "ready:\n"
        "  - {kind: Deployment, namespace: shop, name: till, condition: Available}\n"
        "  - {kind: CustomResourceDefinition, name: tills.example.org, condition: Established}\n"
        "  - {kind: Till, api_version: example.org/v1, name: main, condition: Open}\n"
    )
    ready = loaded(catalog(tmp_path, text)).component("shop").ready
    assert ready[0] == ReadyCondition("Deployment", "shop", "till", "Available")
    assert ready[2] == ReadyCondition("Till", "", "main", "Open", "example.org/v1")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{kind: Till, name: a, condition: Open}", "Till is no kind of Kubernetes itself"),
        ("{kind: Deployment, name: a, condition: Available}", "a Deployment has a namespace"),
        (
            "{kind: Deployment, namespace: b, name: a, condition: Ready}",
            "a Deployment is waited for until it is Available",
        ),
        (
            "{kind: CustomResourceDefinition, namespace: b, name: a, condition: Established}",
            "a CustomResourceDefinition has no namespace",
        ),
        (
            "{kind: Job, api_version: batch/v1, namespace: b, name: a, condition: Complete}",
            "leave api_version out",
        ),
        ("{kind: Job, namespace: b, name: ../a, condition: Complete}", "pattern"),
    ],
)
def test_refuses_a_condition_that_could_never_be_waited_for(
    tmp_path: Path, entry: str, reason: str
) -> None:
    problems = problems_of(catalog(tmp_path, f"{COMPONENT}ready:\n  - {entry}\n"))
    assert problems[0].startswith("manifests/shop/component.yaml:15: ready[0]")
    assert reason in problems[0]


def test_images_that_a_render_names_get_the_licence_of_the_first_rule(tmp_path: Path) -> None:
    text = COMPONENT + (
        "licences:\n"
        "  - {image: 'docker.io/library/mysql:*', licence: GPL-2.0-only}\n"
        "  - {image: 'docker.io/*', licence: BSD-3-Clause}\n"
    )
    shop = loaded(catalog(tmp_path, text)).component("shop")
    licences = {
        name: shop.licence_of(ImageReference.parse(name))
        for name in ("mysql:8.4", "redis:8", "quay.io/example/shop:1.0", "quay.io/other:1")
    }
    assert list(licences.values()) == ["GPL-2.0-only", "BSD-3-Clause", "MIT", "MIT"]


def test_a_licence_is_an_spdx_expression(tmp_path: Path) -> None:
    problems = problems_of(catalog(tmp_path, COMPONENT.replace("MIT", "see the web site")))
    assert problems[0].startswith("manifests/shop/component.yaml:4: licence: ")


def test_an_unknown_release_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_release(load_catalog(catalog(tmp_path)), "2")
    assert caught.value.code == "unknown-release"
    assert caught.value.context["releases"] == "1"


def test_a_release_name_cannot_climb_out(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_release(load_catalog(catalog(tmp_path)), "../shop/component")
    assert caught.value.code == "unknown-release"


def test_no_catalog_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_catalog(tmp_path)
    assert caught.value.code == "no-catalog"


def test_platforms_can_be_chosen_as_far_as_files_exist(tmp_path: Path) -> None:
    release = loaded(catalog(tmp_path))
    with pytest.raises(InputError) as caught:
        with_platforms(release, ["linux/riscv64"])
    assert caught.value.problems == ("shop has no file shopctl for linux/riscv64",)


SOURCE = """\
name: trees
licence: Apache-2.0
git: https://example.org/trees
tag: "1.0"
commit: 0123456789abcdef0123456789abcdef01234567
keep: [applications]
alternates: [https://mirror.example/trees]
"""
KUSTOMIZE = """\
name: kustomize
title: kustomize
version: v1
licence: Apache-2.0
source: https://example.org/kustomize
phase: tools
files:
  - {name: kustomize, url: "https://example.org/kustomize-{arch}.tgz", platforms: [linux/amd64]}
"""
KUSTOMIZATION = """\
kustomizations:
  - name: oak
    source: trees
    path: applications/oak
"""


def with_source(
    folder: Path, kustomization: str = KUSTOMIZATION, source: str = SOURCE, name: str = "trees"
) -> Path:
    release = RELEASE.replace("[shop]", "[kustomize, shop]")
    root = catalog(folder, COMPONENT + kustomization, release)
    (root / "kustomize").mkdir()
    (root / "kustomize" / "component.yaml").write_text(KUSTOMIZE)
    (root / "sources").mkdir()
    (root / "sources" / f"{name}.yaml").write_text(source)
    return root


def test_reads_a_kustomization_and_its_source(tmp_path: Path) -> None:
    release = loaded(with_source(tmp_path))
    (one,) = release.component("shop").kustomizations
    assert (one.name, one.path) == ("oak", "applications/oak")
    assert one.source.commit == "0123456789abcdef0123456789abcdef01234567"
    assert one.source.addresses == ("https://example.org/trees", "https://mirror.example/trees")
    assert release.sources == (one.source,)


@pytest.mark.parametrize("path", ["../secret", "/etc", "applications/../..", "a//b", "./a", "-o"])
def test_a_kustomization_outside_its_source_is_refused(tmp_path: Path, path: str) -> None:
    text = KUSTOMIZATION.replace("applications/oak", path)
    (problem,) = problems_of(with_source(tmp_path, text))
    assert "kustomizations[0].path: must be a plain relative path" in problem


def test_a_kustomization_of_an_unknown_source_is_refused(tmp_path: Path) -> None:
    text = KUSTOMIZATION.replace("source: trees", "source: shrubs")
    (problem,) = problems_of(with_source(tmp_path, text))
    assert "component.yaml:16: kustomizations[0].source: there is no sources/shrubs.yaml" in problem


def test_a_kustomization_in_a_folder_that_is_not_kept_is_refused(tmp_path: Path) -> None:
    text = KUSTOMIZATION.replace("applications/oak", "applications-old/oak")
    (problem,) = problems_of(with_source(tmp_path, text))
    assert "path: is not among what source trees keeps: applications" in problem


def test_every_problem_of_a_source_is_told_at_once(tmp_path: Path) -> None:
    bad = SOURCE.replace("https://example.org/trees", "git@example.org:trees")
    bad = bad.replace("0123456789abcdef0123456789abcdef01234567", "main")
    bad = bad.replace("[applications]", "[../applications]") + "branch: main\n"
    problems = problems_of(with_source(tmp_path, source=bad))
    for where in ("git: must be a full address", "commit: ", "keep[0]: must be", "branch: unknown"):
        assert any(f"sources/trees.yaml:{n}: {where}" in p for p in problems for n in range(9))


def test_a_source_is_called_as_its_file(tmp_path: Path) -> None:
    root = with_source(tmp_path, "", name="shrubs")
    assert problems_of(root) == [
        "manifests/sources/shrubs.yaml:1: name: must be shrubs, as the file is called"
    ]


def test_two_renders_of_one_component_cannot_have_one_name(tmp_path: Path) -> None:
    manifest = "manifests:\n  - name: oak\n    url: https://example.org/oak.yaml\n"
    (problem,) = problems_of(with_source(tmp_path, KUSTOMIZATION + manifest))
    assert "oak is rendered twice" in problem


RULES = """\
rules:
  compose:
    - name: server
      image: "quay.io/a/server:{version}"
      take: {version: {object: "ConfigMap/*/settings", path: data.version}}
      evidence: server.go line 7
  exclude:
    - {image: "docker.io/bats/bats:*", reason: test hook}
  not_images:
    - {text: "a/b:c", object: "ConfigMap/*", reason: a key}
"""


def test_rules_of_discovery_are_read(tmp_path: Path) -> None:
    rules = loaded(catalog(tmp_path, COMPONENT + RULES)).components[0].rules
    assert rules.compose[0].take["version"].path == "data.version"
    assert rules.exclude[0].object == "*"
    assert rules.not_images[0].text == "a/b:c"


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("{version: {object", "{other: {object", "take must name each {field}"),
        ("quay.io/a/server", "server", "must be a complete reference"),
        ("reason: test hook", "why: test hook", "unknown key"),
        ("evidence: server.go line 7", "evidence: ''", "at least 1 character"),
    ],
)
def test_rules_that_cannot_work_are_refused(
    tmp_path: Path, before: str, after: str, problem: str
) -> None:
    problems = problems_of(catalog(tmp_path, COMPONENT + RULES.replace(before, after)))
    assert problem in "\n".join(problems)
    assert "shop/component.yaml:" in problems[0]


def test_kustomizations_need_the_program_that_renders_them(tmp_path: Path) -> None:
    root = with_source(tmp_path)
    (root / "releases" / "1.yaml").write_text(RELEASE)
    (problem,) = problems_of(root)
    assert "shop: kustomizations need component kustomize, which brings file kustomize" in problem
