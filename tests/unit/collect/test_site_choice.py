"""Which driver images a site gets: judged with the GPU operator's own rendered ClusterPolicy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.lab.sources import BESIDE

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog
from perimeter_bundle.catalog.site_tags import (
    SiteTag,
    SystemPackages,
    make_tag,
    os_tag,
    template_problem,
)
from perimeter_bundle.catalog.values import Component, Phase, Release
from perimeter_bundle.collect.site_choice import (
    SiteChoice,
    asked_tags,
    candidates,
    check_platforms,
    choose,
    values_lines,
    with_packages,
)
from perimeter_bundle.format.site_facts import (
    DriverChoice,
    Gpu,
    Machine,
    PrecompiledChoice,
    SiteFacts,
    SiteHost,
    group_hosts,
)
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference

H100 = (Gpu("10de:2330", "H100", 8),)
UBUNTU = Machine(
    ("gpu", "worker"), "ubuntu", "22.04", "5.15.0-78-generic", "amd64", H100, secure_boot="off"
)
RHEL = replace(UBUNTU, os_id="rhel", os_version="9.6", kernel="5.14.0-570.12.1.el9_6.x86_64")
CONTROL = Machine(("control_plane",), "ubuntu", "22.04", "5.15.0-78-generic", "amd64")
DRIVER = SiteTag(
    name="driver",
    image="nvcr.io/nvidia/driver",
    version="595.91.07",
    tag="{version}-{os_tag}",
    precompiled_tag="{branch}-{kernel}-{os_tag}",
    choice="gpu",
    only_groups=("gpu",),
    why="the driver of the GPUs",
    evidence="resolveDriverTag of the operator",
    asked_by="ClusterPolicy/*",
    path="spec.driver",
    not_precompiled_with=("spec.gds.enabled", "spec.gdrcopy.enabled", "spec.vgpuManager.enabled"),
    values={
        "precompiled": {"driver": {"usePrecompiled": True, "version": "{branch}"}},
        "host": {"driver": {"enabled": False}},
        "several_os": {"driver": {"nvidiaDriverCRD": {"enabled": True}}},
    },
)
GDS = replace(
    DRIVER,
    name="gds",
    image="nvcr.io/nvidia/cloud-native/nvidia-fs",
    version="2.29.4",
    precompiled_tag="",
    path="spec.gds",
    why="GPUDirect Storage",
    values={},
)
ORDINARY = "nvcr.io/nvidia/driver:595.91.07-ubuntu22.04"
COMPILED = "nvcr.io/nvidia/driver:595-5.15.0-78-generic-ubuntu22.04"


def cluster_policy() -> dict[str, Any]:
    """The real one."""
    path = BESIDE / "rendered-charts" / "gpu-operator.yaml"
    assert path.is_file(), f"there is no {path}: the rendered charts are needed beside the checkout"
    documents = yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader)
    return next(one for one in documents if one and one["kind"] == "ClusterPolicy")


@pytest.fixture(scope="module")
def real_policy() -> dict[str, Any]:
    return cluster_policy()


@pytest.fixture
def policy(real_policy: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(real_policy)


def release(*tags: SiteTag) -> Release:
    component = Component(
        name="gpu-operator", title="GPU operator", version="v26.7.0", licence="Apache-2.0",
        source="https://github.com/NVIDIA/gpu-operator", phase=Phase.STORAGE, needs=(), images=(),
        kubeadm_file="", charts=(), files=(), manifests=(), kustomizations=(),
        licences=(), ready=(), provides=(), folder=Path("x"),
        site_tags=tags or (DRIVER, GDS),
    )  # fmt: skip
    return Release("r", 1, (LINUX_AMD64,), "0.1.0", ("3.11",), (component,))


def facts(
    *machines: Machine,
    driver: DriverChoice = DriverChoice.CONTAINER,
    precompiled: PrecompiledChoice = PrecompiledChoice.PREFER,
) -> SiteFacts:
    hosts = [(machine, SiteHost(f"n{number}")) for number, machine in enumerate(machines, 1)]
    return SiteFacts("plant", driver, precompiled, group_hosts(hosts))


def chosen(
    policy: Mapping[str, Any], site: SiteFacts, *there: str, wish: PrecompiledChoice | None = None
) -> SiteChoice:
    asked = asked_tags(release(), {"gpu-operator": [policy]})
    exists = {one: str(one) in there for one in candidates(asked, site)}
    return choose(asked, site, wish or site.precompiled, exists)


def names(choice: SiteChoice) -> list[str]:
    return [str(image.reference) for image in choice.images]


def test_the_real_cluster_policy_asks_for_the_driver_and_not_for_gds(
    policy: dict[str, Any],
) -> None:
    asked = asked_tags(release(), {"gpu-operator": [policy]})
    assert [(one.component, one.tag.name, one.conflicts) for one in asked] == [
        ("gpu-operator", "driver", ())
    ]


def test_the_catalogs_own_site_tags_are_those_of_the_real_cluster_policy(
    policy: dict[str, Any],
) -> None:
    name = "nvidia-gpu-operator"
    own = load_catalog(content_root() / "manifests").components[name]
    policy["spec"]["gds"]["enabled"] = policy["spec"]["gdrcopy"]["enabled"] = True
    asked = asked_tags(replace(release(), components=(own,)), {name: [policy]})
    assert [one.tag.name for one in asked] == ["driver", "gds", "gdrcopy"]
    assert asked[0].conflicts == ("spec.gds.enabled", "spec.gdrcopy.enabled")
    assert asked[0].tag.packages["rhel"].for_kernel(RHEL.kernel).needed[-1] == (
        "kernel-5.14.0-570.12.1.el9_6.x86_64"
    )


def test_hosts_that_compile_are_told_with_the_packages_of_their_kernel(
    policy: dict[str, Any],
) -> None:
    packages = SystemPackages(("linux-headers-{kernel}",), ("linux-image-{kernel}",))
    tag = replace(
        DRIVER, packages={"ubuntu": packages}, values={"packages": {"driver": {"x": "{branch}"}}}
    )
    asked = asked_tags(release(tag), {"gpu-operator": [policy]})
    site = facts(UBUNTU, RHEL)
    exists = dict.fromkeys(candidates(asked, site), True)
    choice = choose(asked, site, PrecompiledChoice.NEVER, exists)
    (one,) = choice.compiling
    assert one.profile.machine == UBUNTU
    assert one.packages.needed == (
        "linux-headers-5.15.0-78-generic", "linux-image-5.15.0-78-generic"
    )  # fmt: skip
    assert choice.values == {}
    assert with_packages(choice).values == {"gpu-operator": {"driver": {"x": "595"}}}
    assert choose(asked, site, PrecompiledChoice.PREFER, exists).compiling == ()


def test_precompiled_is_taken_where_it_exists(policy: dict[str, Any]) -> None:
    choice = chosen(policy, facts(UBUNTU, CONTROL), ORDINARY, COMPILED)
    assert names(choice) == [COMPILED]
    assert choice.values == {"gpu-operator": {"driver": {"usePrecompiled": True, "version": "595"}}}
    assert choice.images[0].why == (
        "site-facts profile gpu-1 (ubuntu 22.04, kernel 5.15.0-78-generic, amd64):"
        " the driver of the GPUs"
    )
    assert choice.missing == choice.notes == ()


def test_the_ordinary_one_is_taken_where_it_does_not_or_is_not_wanted(
    policy: dict[str, Any],
) -> None:
    assert names(chosen(policy, facts(UBUNTU), ORDINARY)) == [ORDINARY]
    never = chosen(policy, facts(UBUNTU), ORDINARY, COMPILED, wish=PrecompiledChoice.NEVER)
    assert names(never) == [ORDINARY]
    assert never.values == {}


def test_one_kernel_without_a_precompiled_driver_decides_for_all(policy: dict[str, Any]) -> None:
    other = replace(UBUNTU, kernel="6.8.0-40-generic")
    choice = chosen(policy, facts(UBUNTU, other), ORDINARY, COMPILED)
    assert names(choice) == [ORDINARY, ORDINARY]
    assert choice.notes == (
        "gpu-operator: no precompiled modules anywhere, since there are none for gpu-2",
    )


def test_required_and_not_there_is_missing_with_what_was_looked_for(
    policy: dict[str, Any],
) -> None:
    choice = chosen(policy, facts(UBUNTU), ORDINARY, wish=PrecompiledChoice.REQUIRE)
    assert choice.images == ()
    assert [(m.profile.name, m.wanted) for m in choice.missing] == [
        ("gpu-1", ("595-5.15.0-78-generic-ubuntu22.04",))
    ]


def test_no_precompiled_modules_beside_gds(policy: dict[str, Any]) -> None:
    policy["spec"]["gds"]["enabled"] = True
    gds = "nvcr.io/nvidia/cloud-native/nvidia-fs:2.29.4-ubuntu22.04"
    choice = chosen(policy, facts(UBUNTU), ORDINARY, COMPILED, gds)
    assert names(choice) == [ORDINARY, gds]
    assert choice.notes == ("gpu-operator: no precompiled modules, since spec.gds.enabled is on",)
    with pytest.raises(InputError) as caught:
        chosen(policy, facts(UBUNTU), ORDINARY, wish=PrecompiledChoice.REQUIRE)
    assert caught.value.code == "precompiled-impossible"
    assert caught.value.problems == ("ClusterPolicy/*: spec.gds.enabled",)


def test_a_driver_of_the_host_needs_no_image(policy: dict[str, Any]) -> None:
    policy["spec"]["gds"]["enabled"] = True
    loaded = replace(UBUNTU, nvidia_driver="580.105.08")
    choice = chosen(policy, facts(loaded, driver=DriverChoice.HOST))
    assert choice.images == choice.missing == choice.notes == ()
    assert choice.values == {"gpu-operator": {"driver": {"enabled": False}}}
    warned = chosen(policy, facts(UBUNTU, driver=DriverChoice.HOST))
    assert warned.notes == (
        "profile gpu-1 (n1): gpu.driver is host, and no driver is loaded there yet",
    )


def test_two_systems_get_an_image_each_and_the_operator_is_told(policy: dict[str, Any]) -> None:
    rhel = "nvcr.io/nvidia/driver:595.91.07-rhel9.6"
    choice = chosen(policy, facts(UBUNTU, RHEL), ORDINARY, rhel)
    assert sorted(names(choice)) == sorted([ORDINARY, rhel])
    assert choice.values == {"gpu-operator": {"driver": {"nvidiaDriverCRD": {"enabled": True}}}}


def test_a_node_with_a_gpu_counts_whatever_its_groups_and_a_registry_does_not(
    policy: dict[str, Any],
) -> None:
    worker = replace(UBUNTU, groups=("worker",))
    assert names(chosen(policy, facts(worker), ORDINARY)) == [ORDINARY]
    registry = replace(UBUNTU, groups=("registry",))
    nothing = chosen(policy, facts(registry, CONTROL), ORDINARY)
    assert (nothing.images, nothing.values) == ((), {})


def test_people_are_warned_of_what_will_not_work(policy: dict[str, Any]) -> None:
    secure = replace(UBUNTU, secure_boot="on")
    bare = replace(UBUNTU, gpus=(), kernel="5.15.0-79-generic")
    loaded = replace(UBUNTU, nvidia_driver="550.54", kernel="5.15.0-80-generic")
    notes = "\n".join(chosen(policy, facts(secure, bare, loaded), ORDINARY).notes)
    assert "secure boot is on" in notes
    assert "no NVIDIA GPU was seen there" in notes
    assert "driver 550.54 is loaded already" in notes


def test_a_system_without_a_version_has_no_tag(policy: dict[str, Any]) -> None:
    rolling = replace(UBUNTU, os_id="arch", os_version="")
    choice = chosen(policy, facts(rolling))
    assert [one.wanted for one in choice.missing] == [()]


def test_a_catalog_that_says_another_version_than_the_render_is_refused(
    policy: dict[str, Any],
) -> None:
    policy["spec"]["driver"]["version"] = "580.105.08"
    with pytest.raises(InputError) as caught:
        asked_tags(release(), {"gpu-operator": [policy]})
    assert caught.value.code == "site-tag-mismatch"
    assert caught.value.problems == (
        "gpu-operator: site tag driver: ClusterPolicy/cluster-policy: spec.driver asks for"
        " nvcr.io/nvidia/driver:580.105.08, the catalog says nvcr.io/nvidia/driver:595.91.07",
    )


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "no rendered object is called ClusterPolicy/*"),
        (["text", {"kind": "ClusterPolicy"}], "ClusterPolicy/None has nothing at spec.driver"),
        ([{"kind": "ClusterPolicy", "metadata": {"name": "x"}, "spec": []}], "nothing at"),
    ],
)
def test_a_render_without_the_place_is_refused(objects: list[object], said: str) -> None:
    if objects and objects[0] == "text":
        objects[1] = {"kind": "ClusterPolicy", "metadata": {}}
    with pytest.raises(InputError) as caught:
        asked_tags(release(DRIVER), {"gpu-operator": objects})
    assert said in caught.value.problems[0]


def test_hosts_of_a_processor_that_is_not_collected_are_named() -> None:
    check_platforms(facts(UBUNTU), (LINUX_AMD64,))
    with pytest.raises(InputError) as caught:
        check_platforms(facts(replace(UBUNTU, architecture="arm64")), (LINUX_AMD64,))
    assert caught.value.code == "platform-missing"
    assert caught.value.problems == ("profile gpu-1 (n1): linux/arm64",)


@pytest.mark.parametrize(
    ("os_id", "version", "expected"),
    [
        ("ubuntu", "22.04", "ubuntu22.04"),
        ("rhel", "9.6", "rhel9.6"),
        ("rhel", "10.1", "rhel10"),
        ("rocky", "9.6", "rocky9"),
        ("sles", "15.6", "sles15.6"),
        ("rhel", "x", "rhelx"),
    ],
)
def test_systems_are_named_as_the_operator_names_them(
    os_id: str, version: str, expected: str
) -> None:
    assert os_tag(replace(UBUNTU, os_id=os_id, os_version=version)) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{version}", "depends on no host"),
        ("{version}-{colour}", "unknown placeholder {colour}"),
        ("{}-{os_tag}", "unknown placeholder {}"),
        ("{version", "is not a template"),
        ("{os_tag} x", "does not give a tag"),
        ("{os_tag}" * 30, "does not give a tag"),
    ],
)
def test_templates_that_make_no_tag_are_refused(template: str, said: str) -> None:
    assert said in (template_problem(template) or "")


def test_a_kernel_that_no_tag_can_hold_gives_none() -> None:
    assert template_problem("{version}-{os_tag}") is None
    assert make_tag("{kernel}-{os_tag}", "1", replace(UBUNTU, kernel="6.1+deb~x")) == ""


@pytest.mark.parametrize(
    ("tag", "can"),
    [
        ("595.91.07-ubuntu24.04", True),
        ("595-6.8.0-40-generic-ubuntu24.04", True),
        ("595x91.07-ubuntu24.04", False),
        ("580.105.08-ubuntu24.04", False),
        ("595.91.07", False),
    ],
)
def test_a_lock_of_another_version_is_seen(tag: str, can: bool) -> None:
    assert DRIVER.could_make(tag) is can


def test_values_are_the_same_lines_each_time() -> None:
    assert values_lines({"b": {"x": True}, "a": [1]}) == ("a:", "- 1", "b:", "  x: true")


def test_references_are_parsed_once_and_sorted() -> None:
    asked = asked_tags(release(DRIVER), {"gpu-operator": [cluster_policy()]})
    assert candidates(asked, facts(UBUNTU)) == (
        ImageReference.parse(COMPILED),
        ImageReference.parse(ORDINARY),
    )
