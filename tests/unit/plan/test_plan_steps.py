"""Bundle, site and history to steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.sites import make_site

from perimeter_bundle.format.manifest import BundleComponent, BundleManifest, Room
from perimeter_bundle.model.errors import InputError
from perimeter_installer.plan import History, Step, plan
from perimeter_installer.plan.steps import carried, refuse_carried
from perimeter_installer.site.model import Site

COMPONENTS = {
    "tools": "helm",
    "registry": "registry",
    "containerd": "containerd",
    "kubernetes": "kubernetes",
    "network": "flannel",
    "storage": "local-path-provisioner",
    "minio": "minio",
}
PHASES = ("minio", "storage", "network", "tools", "kubernetes", "containerd", "registry")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def manifest(*phases: str, number: int = 3) -> BundleManifest:
    components = tuple(
        BundleComponent(
            COMPONENTS.get(phase, f"the-{phase}"), "1.0", "MIT", "https://example.org", phase
        )
        for phase in phases
    )
    return BundleManifest("2026.11", number, "0.1.0", components, (), Room(0, 0, 0))


def names(steps: tuple[Step, ...]) -> list[str]:
    return [step.name for step in steps]


def test_steps_come_in_the_order_of_installation_whatever_the_order_of_components(
    site: Site,
) -> None:
    steps = plan(manifest(*PHASES), site, History())
    assert names(steps) == [
        *("registry", "node", "containerd", "kubernetes", "network", "storage", "minio")
    ]
    assert steps[0].hosts == ("n1", "n2")
    assert steps[-1].hosts == ("localhost",)
    assert steps[2].why == "release 2026.11 has containerd 1.0"
    assert steps[2].playbook == "containerd.yml"


def test_a_phase_without_component_is_left_out_and_node_never(site: Site) -> None:
    assert names(plan(manifest("kubernetes"), site, History())) == ["node", "kubernetes"]


def test_a_site_with_its_own_registry_gets_none(site: Site) -> None:
    external = replace(site, registry=replace(site.registry, mode="external"))
    assert "registry" not in names(plan(manifest(*PHASES), external, History()))


def test_what_an_interrupted_run_finished_is_marked(site: Site) -> None:
    history = History(finished_steps=frozenset({"registry", "node"}))
    steps = plan(manifest(*PHASES), site, history)
    assert [step.name for step in steps if step.done] == ["registry", "node"]


def test_one_step_alone(site: Site) -> None:
    assert names(plan(manifest(*PHASES), site, History(), only=["network"])) == ["network"]


def test_refuses_a_step_that_is_not_in_the_plan(site: Site) -> None:
    with pytest.raises(InputError, match="there is no step minio in this plan") as raised:
        plan(manifest("kubernetes"), site, History(), only=["minio"])
    assert raised.value.code == "unknown-step"
    assert raised.value.hint == "steps are: node, kubernetes"


def test_refuses_an_older_release_unless_it_is_asked_for(site: Site) -> None:
    history = History(newest_number=4, newest_release="2026.12")
    with pytest.raises(InputError, match=r"release 2026\.11 is older than what") as raised:
        plan(manifest(*PHASES), site, history)
    assert raised.value.code == "older-release"
    assert raised.value.context["installed"] == "2026.12 (number 4)"
    assert plan(manifest(*PHASES), site, history, allow_older=True)
    assert plan(manifest(*PHASES, number=4), site, history)


def test_what_no_role_installs_has_no_step_and_is_named(site: Site) -> None:
    bundle = manifest(*PHASES, "kubeflow", "gpu")
    assert names(plan(bundle, site, History())) == names(plan(manifest(*PHASES), site, History()))
    assert [one.name for one in carried(bundle)] == ["the-kubeflow", "the-gpu"]
    with pytest.raises(InputError) as raised:
        refuse_carried(bundle, only=())
    assert raised.value.code == "carried-only"
    assert raised.value.message == (
        "parts of release 2026.11 are carried, not installed by this version"
    )
    assert raised.value.problems == (
        "the-kubeflow 1.0 (phase kubeflow): carried, not installed by this version",
        "the-gpu 1.0 (phase gpu): carried, not installed by this version",
    )
    assert raised.value.hint == (
        "load brings them to the site's registries; apply the rest by --step registry "
        "--step node --step containerd --step kubernetes --step network --step storage --step minio"
    )
    refuse_carried(bundle, only=["network"])
    refuse_carried(manifest(*PHASES), only=())


def test_another_pod_network_than_the_role_knows_is_carried_only(site: Site) -> None:
    calico = BundleComponent("calico", "v3.32.1", "Apache-2.0", "https://example.org", "network")
    bundle = replace(manifest("kubernetes"), components=(calico,))
    assert names(plan(bundle, site, History())) == ["node"]
    with pytest.raises(InputError) as raised:
        plan(bundle, site, History(), only=["network"])
    assert raised.value.code == "carried-only"
    assert raised.value.problems == (
        "calico v3.32.1 (phase network): carried, not installed by this version",
    )


def test_refuses_a_phase_that_a_newer_installer_would_know(site: Site) -> None:
    with pytest.raises(InputError, match="phases that this installer does not know") as raised:
        plan(manifest("kubernetes", "quantum"), site, History())
    assert raised.value.code == "unknown-phase"
    assert raised.value.context["found"] == "quantum"
