"""Ansible and the kubeconfig over a real sshd, with pinned host keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.integration.preflight_sshd import ADMIN, Sshd, need_sshd, need_sudo
from tests.support.api_server import ApiServer
from tests.support.sites import make_site

from perimeter_bundle.model.errors import ClusterError, HostError
from perimeter_installer.run import kube
from perimeter_installer.run.ansible import PlaybookJob, PlaybookResult, run_playbook
from perimeter_installer.run.cluster import api_cluster
from perimeter_installer.run.kube import kube_access
from perimeter_installer.run.private import private_folder
from perimeter_installer.run.scrub import Scrubber
from perimeter_installer.run.status import status
from perimeter_installer.site.inventory import inventory
from perimeter_installer.site.model import Group, Site, Ssh

pytestmark = [need_sshd, need_sudo]

PLAYBOOK = """\
- hosts: n2
  gather_facts: false
  tasks:
    - name: Root is reached
      ansible.builtin.command: {argv: [id, -un]}
      changed_when: false
      register: who
    - ansible.builtin.assert: {that: who.stdout == 'root'}
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(sshd: Sshd, tmp_path: Path) -> Site:
    """n1 is switched off, n2 is this machine; both are control planes."""
    site = make_site(tmp_path / "site")
    groups: frozenset[Group] = frozenset({"control_plane", "worker"})
    hosts = (
        replace(site.hosts[0], address=IPv4Address("127.0.0.2"), ssh_port=1, groups=groups),
        replace(site.hosts[1], address=IPv4Address("127.0.0.1"), ssh_port=sshd.port, groups=groups),
    )
    key = (sshd.folder / "host_key.pub").read_text().strip()
    lines = [f"[{host.address}]:{host.ssh_port} {key}\n" for host in hosts]
    site.known_hosts_file.write_text("".join(lines))
    return replace(site, hosts=hosts, ssh=Ssh(ADMIN, sshd.user_key, become=True))


def run(site: Site, tmp_path: Path) -> PlaybookResult:
    (tmp_path / "step.yml").write_text(PLAYBOOK)
    job = PlaybookJob(
        name="step",
        playbook=tmp_path / "step.yml",
        roles=tmp_path,
        collections=tmp_path,
        inventory=inventory(site),
        variables={},
        log=tmp_path / "log",
    )
    with private_folder() as private:
        return run_playbook(job, private, Scrubber([]), lambda event: None)


def test_a_playbook_reaches_root_over_ssh_with_the_sites_inventory(
    site: Site, tmp_path: Path
) -> None:
    assert run(site, tmp_path).hosts["n2"].ok == 2


def test_a_host_with_another_key_than_the_pinned_one_is_not_worked_on(
    site: Site, tmp_path: Path
) -> None:
    pinned = site.known_hosts_file.read_text().splitlines()[1].split()
    other = Sshd(tmp_path / "other")
    pinned[2] = (other.folder / "host_key.pub").read_text().split()[1]
    site.known_hosts_file.write_text(" ".join(pinned) + "\n")
    with pytest.raises(HostError, match="step step: n2 did not answer") as raised:
        run(site, tmp_path)
    assert raised.value.code == "host-unreachable"
    assert "Host key verification failed" in raised.value.problems[0]


def test_the_kubeconfig_comes_from_the_control_plane_that_answers(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ApiServer(tmp_path / "api") as server:
        port = int(server.kubeconfig.read_text().split("https://127.0.0.1:")[1].split("\n")[0])
        monkeypatch.setattr(kube, "ADMIN_KUBECONFIG", str(server.kubeconfig))
        monkeypatch.setattr(kube, "API_PORT", port)
        with kube_access(site) as access:
            assert access.control_plane == "n2"
            assert str(access.kubeconfig).startswith("/dev/shm/")
            assert access.kubeconfig.stat().st_mode & 0o777 == 0o600
            with api_cluster(access.kubeconfig) as cluster:
                assert cluster.version() == "v1.34.4"
        assert not access.kubeconfig.exists()

        found = status(site).cluster
        assert (found.control_plane, found.version) == ("n2", "v1.34.4")
        assert found.problem == ""


def test_each_control_plane_that_does_not_answer_is_named_with_its_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "ADMIN_KUBECONFIG", "/nonexistent/admin.conf")
    with (
        pytest.raises(ClusterError, match="no control plane answers") as raised,
        kube_access(site),
    ):
        pass
    assert raised.value.code == "no-control-plane"
    first, second = raised.value.problems
    assert first.startswith("n1: n1 (") and "refuses the connection" in first
    assert second == "n2: it has no /nonexistent/admin.conf: it is no control plane yet"
