"""site.yaml to a Site: every rule, with the line in the message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import ExitStatus, InputError
from perimeter_installer.site.load import load
from perimeter_installer.site.yaml_source import MAX_BYTES

GOOD = """\
site:
  name: lab
ssh:
  user: admin
hosts:
  n1:
    address: 10.99.0.11
    groups: [registry, control_plane, worker]
  n2:
    address: 10.99.0.12
    groups: [registry, control_plane, worker]
  n3:
    address: 10.99.0.13
    groups: [control_plane, worker]
    interface: eth0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text, "utf-8")
    return path


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(write(folder, text))
    assert caught.value.code == "bad-site"
    assert caught.value.exit_status is ExitStatus.INPUT
    return list(caught.value.problems)


def test_fills_in_what_a_small_file_leaves_out(tmp_path: Path) -> None:
    site = load(write(tmp_path, GOOD))
    assert [host.name for host in site.group("control_plane")] == ["n1", "n2", "n3"]
    assert [host.name for host in site.group("registry")] == ["n1", "n2"]
    assert site.group("gpu") == ()
    assert site.ssh.become is True
    assert str(site.endpoint) == "api.lab.internal:6443"
    assert site.endpoint.external is False
    assert site.registry_endpoints == ("https://10.99.0.11:5000", "https://10.99.0.12:5000")
    assert (site.minio.replicas, site.minio.drives_per_node) == (3, 2)
    assert str(site.networks.dns_address) == "10.96.0.10"
    assert site.known_hosts_file == tmp_path / "known_hosts"
    assert site.vault_key_file == tmp_path / "vault.key"


def test_root_needs_no_sudo_unless_told(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD.replace("admin", "root"))).ssh.become is False


def test_one_host_gets_one_server_with_four_drives(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("  n2:")]
    site = load(write(tmp_path, text))
    assert (site.minio.replicas, site.minio.drives_per_node) == (1, 4)


def test_files_are_meant_from_where_site_yaml_lies(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("x")
    key.chmod(0o600)
    site = load(write(tmp_path, GOOD.replace("  user: admin", "  user: admin\n  key_file: key")))
    assert site.ssh.key_file == key


def test_says_when_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path / "site.yaml")
    assert caught.value.code == "no-site-file"
    assert "perimeter-install init" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: lab", "name: Lab!", "line 2: site.name: 'Lab!' is not a name"),
        ("name: lab", "name: 12", "line 2: site.name: expected text (put it in quotes), found 12"),
        ("  name: lab", "  nam: lab", "line 2: site.nam: unknown key; did you mean name?"),
        ("  name: lab", "  nam: lab", "line 1: site.name: missing"),
        ("user: admin", "user: 'a b'", "line 4: ssh.user: 'a b' is not a user name"),
        (
            "user: admin",
            "user: admin\n  become: 'yes'",
            "line 5: ssh.become: expected true or false, found 'yes'",
        ),
        (
            "user: admin",
            "user: admin\n  key_file: gone",
            "line 5: ssh.key_file: there is no file",
        ),
        ("10.99.0.12", "10.99.0.11", "line 10: hosts.n2.address: 10.99.0.11 is the address of n1"),
        ("10.99.0.12", "n2.site", "line 10: hosts.n2.address: 'n2.site' is not an IP address"),
        ("10.99.0.12", "10.99.0.300", "'10.99.0.300' is not an IP address"),
        ("10.99.0.12", "fd00::1", "fd00::1 is IPv6; sites are IPv4 so far"),
        ("10.99.0.12", "127.0.0.1", "line 10: hosts.n2.address: 127.0.0.1 is not an address that"),
        ("10.99.0.12", "10.96.3.4", "lies inside networks.services 10.96.0.0/16"),
        ("10.99.0.12", "10.244.3.4", "lies inside networks.pods 10.244.0.0/16"),
        (
            "[control_plane, worker]\n    interface",
            "[control_plain]\n    interface",
            "line 14: hosts.n3.groups[0]: 'control_plain' is not one of 'registry'",
        ),
        (
            "[control_plane, worker]\n    interface",
            "[worker, worker, control_plane]\n    interface",
            "line 14: hosts.n3.groups: worker stands there twice",
        ),
        (
            "[control_plane, worker]\n    interface",
            "[control_plane, gpu]\n    interface",
            "line 14: hosts.n3.groups: a host with GPUs must be a worker too",
        ),
        (
            "[control_plane, worker]\n    interface",
            "[worker]\n    interface",
            "line 11: hosts: 2 control planes (n1, n2); etcd needs an odd number",
        ),
        ("control_plane, ", "", "line 5: hosts: no host is in the group control_plane"),
        (", worker", "", "line 5: hosts: no host is in the group worker"),
        ("registry, ", "", "line 5: hosts: no host is in the group registry"),
        ("  n3:", "  N_3:", "line 12: hosts.N_3: 'N_3' cannot name a node"),
        ("  n3:", "  all:", "line 12: hosts.all: 'all' means something else already"),
        ("  n3:", "  n2:", "line 12: hosts.n2: stands there twice (first in line 9)"),
        ("  n3:", "  3:", "line 12: a key must be text; put it in quotes"),
        ("interface: eth0", "interface: 'eth 0'", "line 15: hosts.n3.interface: 'eth 0' is not"),
        ("interface: eth0", "ssh_port: 70000", "line 15: hosts.n3.ssh_port: 70000: input should"),
        ("interface: eth0", "labels: {a b: c}", "line 15: hosts.n3.labels.a b: 'a b' is not the"),
        ("interface: eth0", "adress: x", "line 15: hosts.n3.adress: unknown key; did you mean"),
    ],
)
def test_refuses_with_the_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    problems = problems_of(tmp_path, GOOD.replace(old, new))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("networks: {pods: 10.244.0.1/16}", "did you mean 10.244.0.0/16?"),
        ("networks: {pods: 10.244.0.0}", "networks.pods: '10.244.0.0' is not a network"),
        (
            "networks: {pods: 10.96.0.0/14}",
            "networks.services: 10.96.0.0/16 overlaps networks.pods",
        ),
        ("networks: {pods: 10.244.0.0/23}", "too small: each of the 3 nodes gets a /24"),
        ("networks: {pods: 0.0.0.0/4, services: 192.168.0.0/16}", "larger than Kubernetes takes"),
        ("networks: {services: 10.0.0.0/11}", "larger than Kubernetes takes (/12)"),
        ("networks: {services: 10.96.0.0/28}", "too small; give it a /26 or more"),
        ("networks: {mtu: 100}", "networks.mtu: 100: input should be greater than"),
        ("networks: {mtu: '1400'}", "networks.mtu: expected a whole number, found '1400'"),
        ("dns: {servers: 10.0.0.1}", "dns.servers: expected a list, found '10.0.0.1'"),
        ("dns: {servers: [127.0.0.53]}", "dns.servers[0]: 127.0.0.53 is not an address that"),
        ("dns: {servers: [10.1.0.1, 10.1.0.1]}", "dns.servers: 10.1.0.1 stands there twice"),
        (
            "dns: {servers: [10.96.0.10]}",
            "dns.servers[0]: 10.96.0.10 lies inside networks.services",
        ),
        ("dns: {domain: 'no domain'}", "dns.domain: 'no domain' is not a domain name"),
        ("kubernetes: {endpoint: api.site}", "kubernetes.endpoint: 'api.site' is not host:port"),
        ("kubernetes: {endpoint: '10.99.0.11:8443'}", "the API server on n1 listens on 6443"),
        ("kubernetes: {endpoint: '10.244.0.9:6443'}", "lies inside networks.pods"),
        ("registry: {mode: external}", "registry.url: missing; mode is external"),
        ("registry: {mode: external, url: 'http://r.site'}", "is not an https:// URL"),
        ("registry: {mode: external, url: 'https://u:p@r.site'}", "carries credentials"),
        ("registry: {url: 'https://r.site'}", "registry.url: means nothing when registry.mode is"),
        ("registry: {port: 6443}", "registry.port: 6443 is needed by Kubernetes"),
        ("registry: {data_dir: relative}", "'relative' is not an absolute path"),
        ("registry: {data_dir: /srv/../etc/x}", "is not an absolute path written plainly"),
        ("registry: {data_dir: /}", "is no place to keep data"),
        ("registry: {data_dir: /tmp/registry}", "is no place to keep data"),
        ("registry: {data_dir: /var/lib/etcd/x}", "/var/lib/etcd (etcd) lie in one another"),
        (
            "storage: {path: /var/lib/perimeter/registry/v}",
            "(registry.data_dir) lie in one another",
        ),
        ("storage: {class: ceph}", "storage.class: 'ceph' is not one of 'local-path'"),
        ("minio: {volume_size: 10G}", "'10G' is not a size: write 10Gi"),
        ("minio: {replicas: 4}", "minio.replicas: 4 servers on 3 workers"),
        ("minio: {replicas: 3, drives_per_node: 1}", "3 drives; it takes four"),
        ("ca: {mode: files}", "ca.cert_file: missing; ca.mode is files"),
        ("ca: {cert_file: x}", "ca.cert_file: means nothing when ca.mode is generated"),
        ("ca: {mode: files, cert_file: x, key_file: y}", "ca.cert_file: there is no file"),
        ("nonsense: 1", "nonsense: unknown key; known are site, ssh, hosts"),
        ("networks: 3", "networks: expected keys and values, found 3"),
        ("site: {name: other}", "site: stands there twice (first in line 1)"),
    ],
)
def test_refuses_one_more_line(tmp_path: Path, more: str, expected: str) -> None:
    problems = problems_of(tmp_path, f"{GOOD}{more}\n")
    found = [problem for problem in problems if expected in problem]
    assert found, problems
    assert found[0].startswith("line 16: ")


def test_refuses_registry_hosts_beside_an_external_registry(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, f"{GOOD}registry: {{mode: external, url: 'https://r.site'}}\n")
    assert problems == [
        "line 8: hosts.n1.groups: registry means nothing when registry.mode is external"
    ]


def test_reports_every_problem_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("name: lab", "name: lab\n  nam: x").replace("10.99.0.12", "10.99.0.11")
    problems = problems_of(tmp_path, f"{text}minio: {{replicas: 9}}\n")
    assert [problem.partition(":")[0] for problem in problems] == ["line 3", "line 11", "line 17"]


def test_refuses_a_private_key_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("x")
    key.chmod(0o644)
    text = GOOD.replace("  user: admin", "  user: admin\n  key_file: key")
    assert "ssh refuses that; chmod 600 it" in problems_of(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x\n", "line 2: aliases (*name) are not taken"),
        ("a: !!python/object:os.system x\n", "line 1: tags ("),
        ("a: [1\nb: {\n", "line 2: expected"),
        ("- a\n- b\n", "line 1: expected one document"),
        ("a: 1\n---\nb: 1\n", "expected one document"),
        ("", "expected one document"),
        ("a: " + "[" * 500 + "]" * 500, "nested deeper than 12 levels"),
        ("a: \x07\n", "bad-site"),
        ("a: 1\n" * (MAX_BYTES // 5 + 2), "larger than"),
    ],
)
def test_refuses_yaml_that_is_not_a_site(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, text))
    assert caught.value.code == "bad-site"
    assert expected in str(caught.value)


def test_refuses_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"site: \xff\xfe\n")
    with pytest.raises(InputError) as caught:
        load(path)
    assert "not UTF-8 text (byte 6)" in str(caught.value)


def test_many_aliases_do_not_grow(tmp_path: Path) -> None:
    """The classic bomb: nine levels of nine aliases stand for a thousand million values."""
    levels = ["a0: &a0 [x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    problems = problems_of(tmp_path, "\n".join(levels))
    assert problems[0].startswith("line 1: anchors")


def test_no_means_text_in_yaml_1_2(tmp_path: Path) -> None:
    """A host in Norway: YAML 1.1 would read the name as false."""
    site = load(write(tmp_path, GOOD.replace("name: lab", "name: no")))
    assert site.name == "no"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give up root to be refused a file")
def test_says_when_the_file_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert caught.value.code == "no-site-file"
    assert "Is a directory" in caught.value.message
