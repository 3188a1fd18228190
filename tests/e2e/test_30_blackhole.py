"""The same bundle at another site: one control plane, two workers, a default route to nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab import Lab
from tests.lab.scenario import BUNDLE, TRUST, Scenario

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def site(carried: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """A closed side of its own; the former lab makes room for it, its bundle is kept."""
    disc = tmp_path_factory.mktemp("disc")
    carried.lab.node("jump").pull(BUNDLE, disc / "bundle")
    carried.lab.node("jump").pull(TRUST, disc / "trust")
    lab = Lab.up(gateway="blackhole", names=["jump", "n1", "n2", "n3"])
    _carry_in(lab, disc)
    scenario = Scenario(
        lab, carried.wheels, control_planes=("n1",), workers=("n2", "n3"), registries=("n1",)
    )
    scenario.verify_script()
    scenario.bootstrap()
    scenario.init()
    yield scenario
    lab.clean()


def _carry_in(lab: Lab, disc: Path) -> None:
    jump = lab.node("jump")
    jump.run(["mkdir", "-p", str(Path(BUNDLE).parent), str(Path(TRUST).parent)])
    jump.push(disc / "bundle", BUNDLE)
    jump.push(disc / "trust", TRUST)


def test_site_with_a_default_route_to_nowhere_is_installed_and_checked(site: Scenario) -> None:
    site.install("preflight")
    site.install("load")
    site.install("apply")
    report = site.install_json("check")
    assert report["failed"] == 0 and report["passed"] > 10
    assert {node["name"] for node in report["nodes"]} == {"n1", "n2", "n3"}


def test_second_apply_changes_nothing_there(site: Scenario) -> None:
    assert site.install_json("apply")["changed"] == 0


def test_no_packet_left_though_there_was_a_gateway(site: Scenario) -> None:
    escapes = site.lab.closed_side_escapes()
    assert escapes["packets"]["watched"] > 1000
    assert escapes["attempts"] == [], escapes
    assert escapes["packets"]["outside_ipv4"] == 0
