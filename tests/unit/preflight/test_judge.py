"""Facts to findings: each check, first in order, then not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from tests.unit.preflight.factory import GIB, make_disc, make_facts, make_site

from perimeter_bundle.model.errors import HostError
from perimeter_installer.preflight.checks import RoomNeed
from perimeter_installer.preflight.facts import Disc, HostFacts, Interface, Listener, Resolution
from perimeter_installer.preflight.findings import Finding, Severity
from perimeter_installer.preflight.judge import CHECKS, COMPARISONS, judge
from perimeter_installer.site.model import Dns, Endpoint, Minio, Networks, Site

NEED = RoomNeed(registry_bytes=2 * GIB, node_bytes=3 * GIB, architectures=frozenset({"amd64"}))


def findings_of(
    facts: HostFacts | None = None, site: Site | None = None, need: RoomNeed = NEED, **changes: Any
) -> list[Finding]:
    """What is not in order on the one host n1 when its facts are changed so."""
    told = replace(facts or make_facts(), **changes)
    found = judge(site or make_site(), {"n1": told}, need)
    return [each for each in found if each.severity is not Severity.OK]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def test_a_ready_host_has_one_finding_for_each_check_and_all_are_in_order() -> None:
    found = judge(make_site(), {"n1": make_facts()}, NEED)
    assert {each.severity for each in found} == {Severity.OK}
    assert sorted(each.check for each in found) == sorted(["reachability", *CHECKS, *COMPARISONS])


@pytest.mark.parametrize(
    ("changes", "check", "severity", "what"),
    [
        ({"euid": 1000}, "privilege", "error", "user admin is not root there"),
        ({"python": (3, 7, 3)}, "python", "error", "Python 3.7.3"),
        ({"systemd": False}, "system", "error", "systemd does not run"),
        ({"machine": "aarch64"}, "system", "error", "architecture aarch64"),
        ({"machine": "riscv64"}, "system", "error", "architecture riscv64"),
        ({"os_id": "gentoo", "os_name": "Gentoo"}, "system", "warning", "system Gentoo"),
        ({"os_id": "ubuntu", "os_name": "Ubuntu 24.04"}, "system", "info", "system Ubuntu 24.04"),
        ({"kernel": "3.10.0-1160.el7"}, "kernel", "warning", "kernel 3.10.0"),
        ({"modules": frozenset({"overlay", "br_netfilter", "nf_conntrack"})}, "modules", "error",
         "kernel module vxlan is neither loaded nor there to load"),
        ({"cgroup_version": 1}, "cgroups", "warning", "cgroup v1"),
        ({"cgroup_controllers": frozenset({"cpu", "cpuset", "pids"})}, "cgroups", "error",
         "cgroup controllers missing: memory"),
        ({"cpus": 1}, "power", "error", "1 CPU"),
        ({"memory_bytes": 1 * GIB}, "power", "error", "1.0 GiB of memory"),
        ({"memory_bytes": 3 * GIB}, "power", "warning", "3.0 GiB of memory"),
        ({"swap": ("/dev/sda2",)}, "swap", "warning", "swap is on: /dev/sda2"),
        ({"missing_programs": ("ip",)}, "programs", "error", "program ip is missing"),
        ({"missing_programs": ("conntrack",)}, "programs", "info", "program conntrack is missing"),
        ({"listening": (Listener("tcp/6443", "haproxy"),)}, "ports", "error",
         "port tcp/6443 is taken (haproxy)"),
        ({"leftovers": ("/var/lib/etcd/member",)}, "leftovers", "error",
         "another cluster was here: /var/lib/etcd/member"),
        ({"processes": ("dockerd",)}, "leftovers", "error", "running already: dockerd"),
        ({"marker_site": "other"}, "leftovers", "error", "belongs to the site other"),
        ({"ip_forward_writable": False}, "kernel limits", "error", "ip_forward cannot be set"),
        ({"conntrack_writable": False}, "kernel limits", "warning", "nf_conntrack_max cannot"),
        ({"oom_score_adj": False}, "kernel limits", "warning", "cannot lower their oom_score_adj"),
        ({"firewalls": ("firewalld",)}, "protection", "warning", "firewalld is active"),
        ({"selinux_enforcing": True}, "protection", "warning", "SELinux is enforcing"),
        ({"machine_id": ""}, "identity", "error", "/etc/machine-id is empty"),
        ({"failed": {"discs": "OSError: x"}}, "facts", "warning", "discs could not be found out"),
        ({"default_route": ""}, "default route", "info", "no default route"),
        ({"resolver_present": False, "resolver_servers": ()}, "resolver", "info",
         "there is no resolv.conf"),
        ({"unreachable_peers": ("n2",)}, "peers", "error", "cannot reach n2 from here"),
        ({"clock_offset_s": -5.2}, "clock", "warning", "its clock is 5.2 s behind this machine"),
        ({"clock_offset_s": 90.0}, "clock", "error", "its clock is 90.0 s ahead of this machine"),
        ({"interfaces": (Interface("eth0", 1500, ("10.0.2.15",)),)}, "address", "error",
         "no interface carries 10.99.0.11 (there are eth0 10.0.2.15)"),
        ({"interfaces": (Interface("eth0", 1300, ("10.99.0.11",)),)}, "mtu", "warning",
         "eth0 has MTU 1300"),
    ],
)  # fmt: skip
def test_finds(changes: dict[str, Any], check: str, severity: str, what: str) -> None:
    found = [each for each in findings_of(**changes) if each.check == check]
    finding = only([each for each in found if what in each.what])
    assert finding.severity.word == severity
    assert finding.host == "n1"
    assert finding.why


def test_an_air_gap_is_normal() -> None:
    found = findings_of(default_route="", resolver_servers=())
    assert {each.severity for each in found} == {Severity.INFO}
    assert {each.check for each in found} == {"default route", "resolver"}


def test_a_host_of_this_site_is_not_taken_for_the_leftovers_of_another() -> None:
    found = findings_of(
        marker_site="lab",
        leftovers=("/etc/kubernetes/manifests", "/var/lib/etcd/member", "/sys/class/net/cni0"),
        processes=("kubelet", "etcd", "containerd"),
        listening=(Listener("tcp/6443", "kube-apiserver"), Listener("tcp/5000", "registry")),
        interfaces=(
            Interface("eth0", 1500, ("10.99.0.11",)),
            Interface("flannel.1", 1450, ("10.244.0.0",)),
            Interface("cni0", 1450, ("10.244.0.1",)),
        ),
    )
    assert found == []


def test_the_same_traces_without_the_mark_are_errors() -> None:
    found = findings_of(interfaces=(
        Interface("eth0", 1500, ("10.99.0.11",)), Interface("cni0", 1450, ("10.244.0.1",)),
    ))  # fmt: skip
    assert "cni0 has 10.244.0.1, inside networks.pods 10.244.0.0/16" in [e.what for e in found]


def test_an_interface_that_was_named_must_carry_the_address() -> None:
    site = make_site()
    site = replace(site, hosts=(replace(site.hosts[0], interface="eth1"),))
    finding = only([each for each in findings_of(site=site) if each.check == "address"])
    assert finding.what == "10.99.0.11 is on eth0, not on eth1"
    assert "interface: eth0" in finding.how


def test_an_mtu_larger_than_the_interface_has_is_an_error() -> None:
    networks = Networks(IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16"), mtu=9000)
    finding = only([e for e in findings_of(site=make_site(networks=networks)) if e.check == "mtu"])
    assert finding.severity is Severity.ERROR
    assert finding.what == "eth0 has MTU 1500, and networks.mtu says 9000"


def test_a_worker_alone_needs_less_than_a_control_plane() -> None:
    site = make_site()
    worker = replace(site.hosts[0], groups=frozenset({"worker"}))
    found = findings_of(site=replace(site, hosts=(worker,)), cpus=1, memory_bytes=1 * GIB)
    assert {each.severity for each in found if each.check == "power"} == {Severity.WARNING}


def test_a_registry_host_alone_needs_neither_modules_nor_cgroups() -> None:
    site = make_site()
    registry = replace(site.hosts[0], groups=frozenset({"registry"}))
    found = findings_of(
        site=replace(site, hosts=(registry,)),
        modules=frozenset(), cgroup_controllers=frozenset(), swap=("/dev/sda2",), cpus=1,
        memory_bytes=GIB,
    )  # fmt: skip
    assert found == []


def test_name_servers_that_pods_will_not_ask_are_a_remark() -> None:
    finding = only(findings_of(site=make_site(dns=Dns((), "cluster.local"))))
    assert finding.severity is Severity.INFO
    assert finding.what == "resolv.conf names 10.0.0.53, site.yaml no dns.servers"


def test_a_registry_that_load_has_started_is_a_remark() -> None:
    listener = Listener("tcp/5000", "registry", "/opt/perimeter/registry")
    finding = only(findings_of(listening=(listener,)))
    assert (finding.check, finding.severity) == ("ports", Severity.INFO)
    assert finding.what == "port tcp/5000 is served by /opt/perimeter/registry"


class TestRoom:
    def discs(self, **changes: Any) -> tuple[Disc, ...]:
        return tuple(replace(disc, **changes) for disc in make_facts().discs)

    def found(self, check: str, need: RoomNeed = NEED, **changes: Any) -> list[Finding]:
        found = findings_of(discs=self.discs(**changes), need=need)
        return [each for each in found if each.check == check]

    def test_claims_on_one_file_system_are_added_up(self) -> None:
        """1 GiB system, 3 images, 2 etcd, 2 registry: 8; each alone would fit into 7."""
        finding = only(self.found("room", free_bytes=7 * GIB))
        assert finding.severity is Severity.ERROR
        assert finding.what == "/: 7.0 GiB free, 8.0 GiB needed"
        assert "images 3.0 GiB, etcd 2.0 GiB, the registry 2.0 GiB" in finding.why

    def test_what_the_registry_holds_already_is_not_asked_for_again(self) -> None:
        discs = self.discs(free_bytes=7 * GIB, total_bytes=7 * GIB)
        found = findings_of(discs=discs, registry_bytes=1 * GIB)
        finding = only([each for each in found if each.check == "room"])
        assert finding.severity is Severity.WARNING
        assert "the registry 1.0 GiB" in finding.why

    def test_volumes_that_may_grow_too_large_are_a_warning(self) -> None:
        finding = only(self.found("room", free_bytes=9 * GIB, total_bytes=9 * GIB))
        assert finding.severity is Severity.WARNING
        assert finding.what == "/: 9.0 GiB free, 12.0 GiB promised"

    def test_a_disc_that_would_be_nearly_full_is_a_warning(self) -> None:
        finding = only(self.found("room", free_bytes=20 * GIB, total_bytes=100 * GIB))
        assert finding.what == "/: less than 15% of 100.0 GiB are free after the installation"

    def test_each_file_system_counts_its_own(self) -> None:
        discs = list(self.discs(free_bytes=20 * GIB, total_bytes=21 * GIB))
        discs[1] = make_disc(discs[1].path, mount="/var/lib/containerd", device=2,
                             free_bytes=2 * GIB, total_bytes=2 * GIB)  # fmt: skip
        found = [each for each in findings_of(discs=tuple(discs)) if each.check == "room"]
        assert only(found).what == "/var/lib/containerd: 2.0 GiB free, 3.0 GiB needed"

    def test_what_is_installed_already_is_not_asked_for_again(self) -> None:
        discs = self.discs(free_bytes=3 * GIB, total_bytes=10 * GIB)
        assert not [e for e in findings_of(discs=discs, marker_site="lab") if e.check == "room"]
        discs = self.discs(free_bytes=1 * GIB, total_bytes=10 * GIB)
        found = findings_of(discs=discs, marker_site="lab")
        finding = only([each for each in found if each.check == "room"])
        assert (finding.severity, finding.what) == (
            Severity.WARNING, "/: less than 15% of 10.0 GiB are free now"
        )  # fmt: skip

    def test_inodes_can_be_full_while_bytes_are_free(self) -> None:
        assert "/: 20 inodes free" in only(self.found("inodes", free_inodes=20)).what
        assert not self.found("inodes", free_inodes=-1)

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"options": ("ro", "relatime")}, "/var/lib/etcd is read-only (/)"),
            ({"kind": "tmpfs"}, "/var/lib/etcd is in memory (tmpfs)"),
            ({"kind": "overlay"}, "/var/lib/containerd is itself an overlay"),
            ({"kind": "nfs4"}, "/var/lib/etcd is on a network (nfs4)"),
        ],
    )
    def test_file_systems_that_do_not_do(self, changes: dict[str, Any], what: str) -> None:
        found = self.found("file systems", **changes)
        assert what in [each.what for each in found if each.severity is Severity.ERROR]


class TestNames:
    def found(self, answer: Resolution, site: Site | None = None) -> list[Finding]:
        found = findings_of(site=site, resolved=(answer,))
        return [each for each in found if each.check == "names"]

    def test_its_own_name_does_not_resolve(self) -> None:
        finding = only(self.found(Resolution("n1", (), 0.1)))
        assert finding.severity is Severity.WARNING
        assert finding.how == "add it to /etc/hosts: 10.99.0.11 n1"

    def test_its_own_name_is_slow(self) -> None:
        finding = only(self.found(Resolution("n1", ("10.99.0.11",), 5.01)))
        assert "n1 took 5.0 s to resolve" in finding.what

    def test_its_own_name_belongs_to_another(self) -> None:
        finding = only(self.found(Resolution("n1", ("10.99.0.77",), 0.0)))
        assert finding.what == "its own name n1 resolves to 10.99.0.77"

    def test_the_endpoint_must_resolve_on_every_host(self) -> None:
        site = make_site(endpoint=Endpoint("api.plant", 6443, external=True))
        finding = only(self.found(Resolution("api.plant", (), 0.0), site))
        assert finding.severity is Severity.ERROR
        assert finding.what == "api.plant does not resolve"


class TestComparisons:
    def found(self, *facts: HostFacts, site: Site | None = None) -> list[Finding]:
        told = {f"n{number}": each for number, each in enumerate(facts, 1)}
        found = judge(site or make_site(len(facts)), told, NEED)
        return [each for each in found if each.severity is not Severity.OK
                and each.check in COMPARISONS]  # fmt: skip

    def test_hosts_that_differ_are_in_order(self) -> None:
        assert self.found(make_facts(1), make_facts(2), make_facts(3)) == []

    def test_cloned_machine_ids_are_an_error(self) -> None:
        finding = only(self.found(make_facts(1), make_facts(2, machine_id=f"{1:032x}")))
        assert (finding.severity, finding.host) == (Severity.ERROR, "n1,n2")
        assert "machine-id" in finding.what

    def test_equal_product_uuids_are_a_remark(self) -> None:
        finding = only(self.found(make_facts(1), make_facts(2, product_uuid="uuid-1")))
        assert finding.severity is Severity.INFO

    def test_equal_host_names_are_a_warning(self) -> None:
        finding = only(self.found(make_facts(1), make_facts(2, hostname="n1")))
        assert finding.what == "the same host name n1"

    def test_clocks_are_compared_with_each_other(self) -> None:
        """Each is less than the limit off against this machine; together they are not."""
        slow, fast = make_facts(1, clock_offset_s=-0.8), make_facts(2, clock_offset_s=0.9)
        finding = only(self.found(slow, fast))
        assert (finding.host, finding.what) == ("n1,n2", "n2 is 1.7 s ahead of n1")

    def test_mtus_that_differ_are_a_warning(self) -> None:
        jumbo = make_facts(2, interfaces=(Interface("eth0", 9000, ("10.99.0.12",)),))
        finding = only(self.found(make_facts(1), jumbo))
        assert finding.what == "MTUs differ: 1500 on n1; 9000 on n2"

    def test_a_site_that_is_installed_in_part_is_a_remark(self) -> None:
        finding = only(self.found(make_facts(1, marker_site="lab"), make_facts(2)))
        assert finding.what == "n1 are of this site already, n2 not yet"


def test_a_host_that_could_not_be_asked_has_one_error_and_the_others_are_judged() -> None:
    gone = HostError("ssh-unreachable", "n2 cannot be reached: no answer", hint="is it up?",
                     context={"pinned": "SHA256:a", "offered": "SHA256:b"})  # fmt: skip
    told = make_facts(1, unreachable_peers=("n2",))
    found = judge(make_site(2), {"n1": told, "n2": gone}, NEED)
    errors = [each for each in found if each.severity is Severity.ERROR]
    finding = only(errors)
    assert (finding.host, finding.check, finding.how) == ("n2", "reachability", "is it up?")
    assert finding.what == ("n2 cannot be reached: no answer; pinned SHA256:a; offered SHA256:b")
    assert found[0] is finding


def test_nothing_is_compared_when_no_host_answered() -> None:
    gone = HostError("ssh-unreachable", "n1 cannot be reached", hint="")
    assert len(judge(make_site(), {"n1": gone}, NEED)) == 1


def test_room_is_not_asked_without_a_bundle() -> None:
    discs = tuple(replace(disc, free_bytes=5 * GIB, total_bytes=6 * GIB)
                  for disc in make_facts().discs)  # fmt: skip
    site = make_site(minio=Minio("minio", 1, 4, "1Mi"))
    found = findings_of(site=site, discs=discs, need=RoomNeed())
    assert found == []
