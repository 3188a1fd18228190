"""What the checks on hosts are told, and what is read out of their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.bundles import make_bundle

from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.errors import InputError
from perimeter_installer.check.expected import Expected, expected_of
from perimeter_installer.check.hosts import host_facts, parse_results, ssh_configuration
from perimeter_installer.check.network import probe_name
from perimeter_installer.check.scratch import pod_manifest
from perimeter_installer.report.model import Outcome
from perimeter_installer.site.load import load
from perimeter_installer.site.model import Site

SITE = """\
site: {name: plant}
ssh: {user: admin, key_file: keys/site key}
hosts:
  n1: {address: 10.99.0.11, groups: [registry, control_plane]}
  n2: {address: 10.99.0.12, groups: [worker], ssh_port: 2222}
  r1: {address: 10.99.0.20, groups: [registry]}
minio: {replicas: 1}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "site key").touch(mode=0o600)
    return load(tmp_path / "site.yaml")


@pytest.fixture
def expected(site: Site, tmp_path: Path) -> Expected:
    small = make_bundle(tmp_path / "bundle")
    return expected_of(site, open_bundle(small.root, small.trust))


def test_node_that_is_not_in_the_site_is_refused(expected: Expected, tmp_path: Path) -> None:
    small = make_bundle(tmp_path / "other")
    bundle = open_bundle(small.root, small.trust)
    with pytest.raises(InputError) as caught:
        expected_of(expected.site, bundle, ("n9", "r1"))
    assert caught.value.code == "unknown-node"
    assert caught.value.message == "no node of this site: n9, r1"


def test_hosts_are_asked_for_what_their_groups_bring(expected: Expected) -> None:
    facts = {host.name: host_facts(expected, host) for host in expected.site.hosts}
    assert facts["n1"]["services"] == [
        *("containerd", "kubelet", "perimeter-routes", "perimeter-registry")
    ]
    assert facts["n2"]["services"] == ["containerd", "kubelet", "perimeter-routes"]
    assert facts["r1"]["services"] == ["perimeter-registry"]
    assert facts["r1"]["is_node"] is False and facts["r1"]["programs"] == {}
    assert facts["r1"]["listens"] == ["10.99.0.20:5000"]
    assert facts["n2"]["listens"] == []
    assert facts["n2"]["image_hosts"] == ["docker.io", "quay.io"]


def test_keys_are_pinned_and_nothing_of_the_user_is_used(site: Site, tmp_path: Path) -> None:
    text = ssh_configuration(site, tmp_path)
    assert "Host n2\n  HostName 10.99.0.12\n  Port 2222\n" in text
    for line in (
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {tmp_path}/known_hosts",
        "GlobalKnownHostsFile /dev/null",
        "PasswordAuthentication no",
        "IdentitiesOnly yes",
        f'IdentityFile "{tmp_path}/keys/site key"',
    ):
        assert f"  {line}\n" in text


JUNIT = b"""<?xml version="1.0"?><testsuites><testsuite>
<testcase name="test_swap_is_off[ssh://n1]" time="0.25">
  <properties><property name="title" value="Swap is off"/><property name="host" value="n1"/>
  <property name="evidence" value="no swap"/></properties></testcase>
<testcase name="test_services_run[ssh://n2]" time="1">
  <properties><property name="title" value="Services run"/><property name="host" value="n2"/>
  </properties>
  <failure message="Failed: kubelet is failed, not active&#10;containerd is inactive">x</failure>
</testcase>
<testcase name="test_registry_listens[ssh://n2]" time="0"><skipped message="it has no registry"/>
</testcase>
<testcase name="test_x[ssh://n3]" time="0"><error message="RuntimeError: no answer">x</error>
</testcase></testsuite></testsuites>"""


def test_results_of_pytest_become_results_of_check() -> None:
    swap, services, registry, broken = parse_results(JUNIT)
    assert (swap.name, swap.title, swap.host) == ("hosts/swap-is-off", "Swap is off", "n1")
    assert (swap.outcome, swap.evidence, swap.seconds) == (Outcome.PASSED, ("no swap",), 0.25)
    assert services.outcome is Outcome.FAILED
    assert services.evidence == ("kubelet is failed, not active", "containerd is inactive")
    assert registry.outcome is Outcome.SKIPPED
    assert (broken.outcome, broken.evidence) == (Outcome.FAILED, ("RuntimeError: no answer",))


def test_names_of_probes_are_names_of_pods() -> None:
    name = probe_name("n" * 57 + "-x" + "y" * 4)
    assert len(name) <= 63 and name[-1].isalnum()


def test_pods_of_a_check_have_no_rights() -> None:
    pod = pod_manifest("ns", "p", "image", node="n1", secret="s", claim="c")
    spec = pod["spec"]
    assert isinstance(spec, dict)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    container = spec["containers"][0]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "env" not in container
    assert spec["tolerations"] == [{"operator": "Exists", "effect": "NoSchedule"}]
