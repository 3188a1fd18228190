"""What the roles write onto hosts, rendered by Ansible itself and read back by strict parsers."""

from __future__ import annotations

import json
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from tests.support.collections import REPOSITORY

REPLICAS = ["https://10.99.0.11:5000", "https://10.99.0.12:5000"]
ADDRESSES = {"n1": "10.99.0.11", "n2": "10.99.0.12", "n3": "10.99.0.13"}
FILE = {"version": "v1", "sha256": "a" * 64, "size_bytes": 1, "blob": "/blob", "urls": []}
OLD_HOST = {
    "cgroup_version": 1,
    "conntrack_is_writable": False,
    "oom_score_is_adjustable": False,
    "interface": "eth0",
}
NEW_HOST = OLD_HOST | {
    "cgroup_version": 2,
    "conntrack_is_writable": True,
    "oom_score_is_adjustable": True,
}
FILES = [
    "containerd/containerd",
    "runc/runc",
    "cni-plugins/cni-plugins",
    "cri-tools/crictl",
    "kubernetes/kubeadm",
    "kubernetes/kubelet",
    "kubernetes/kubectl",
    "registry/registry",
]
JOIN = "kubeadm join api.plant.internal:6443 --token abc.def --hash sha256:1"
COMMON: dict[str, Any] = {
    "perimeter_registry_urls": REPLICAS,
    "perimeter_registry_prefix": "",
    "perimeter_registry_username": "",
    "perimeter_registry_password": "",
    "perimeter_registry_ca_file": "",
    "perimeter_registry_port": 5000,
    "perimeter_registry_data_dir": "/var/lib/perimeter/registry",
    "perimeter_registry_certificates": {},
    "perimeter_image_hosts": ["docker.io", "quay.io"],
    "perimeter_images": {
        "registry.k8s.io/pause:3.10.1": "sha256:x",
        "quay.io/minio/minio:R": "sha256:y",
    },
    "perimeter_files": dict.fromkeys(FILES, FILE),
    "perimeter_component_versions": {"kubernetes": "v1.34.4"},
    "perimeter_cluster_name": "plant",
    "perimeter_release": "2026.11",
    "perimeter_ca_certificate": "PEM",
    "perimeter_host_addresses": ADDRESSES,
    "perimeter_control_plane_endpoint": "api.plant.internal:6443",
    "perimeter_control_plane_endpoint_host": "api.plant.internal",
    "perimeter_control_plane_endpoint_port": 6443,
    "perimeter_control_plane_endpoint_external": False,
    "perimeter_pod_cidr": "10.244.0.0/16",
    "perimeter_service_cidr": "10.96.0.0/16",
    "perimeter_dns_domain": "cluster.local",
    "perimeter_dns_servers": [],
    "perimeter_node_interface": "",
    "perimeter_node_labels": {},
    "perimeter_host": OLD_HOST,
    "__kubernetes_certificate_key": "0123456789abcdef" * 4,
    "__kubernetes_words": JOIN.split(),
}
# name of the output → role, template, host, and what differs
RENDERED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "mirror": ("containerd", "etc/containerd/certs.d/hosts.toml.j2", "n2", {"item": "quay.io"}),
    "mirror-default": (
        *("containerd", "etc/containerd/certs.d/hosts.toml.j2", "n3"),
        {"item": "_default"},
    ),
    "mirror-login": (
        *("containerd", "etc/containerd/certs.d/hosts.toml.j2", "n3"),
        {
            "item": "docker.io",
            "perimeter_registry_urls": ["https://harbor.plant"],
            "perimeter_registry_prefix": "perimeter/",
            "perimeter_registry_username": "robot$pull",
            "perimeter_registry_password": "word",
            "perimeter_registry_ca_file": "/ca.crt",
        },
    ),
    "containerd-old": ("containerd", "etc/containerd/config.toml.j2", "n1", {}),
    "containerd-new": (
        *("containerd", "etc/containerd/config.toml.j2", "n1"),
        {"perimeter_host": NEW_HOST},
    ),
    "registry": ("registry", "etc/perimeter/registry/config.yml.j2", "n1", {}),
    "hosts-n2": ("node", "etc/hosts.j2", "n2", {}),
    "hosts-external": (
        *("node", "etc/hosts.j2", "n2"),
        {"perimeter_control_plane_endpoint_external": True},
    ),
    "init-old": ("kubernetes", "kubeadm/init.yaml.j2", "n1", {}),
    "init-new": ("kubernetes", "kubeadm/init.yaml.j2", "n1", {"perimeter_host": NEW_HOST}),
    "upload": ("kubernetes", "kubeadm/upload-certs.yaml.j2", "n2", {}),
    "join-control-plane": ("kubernetes", "kubeadm/join.yaml.j2", "n2", {}),
    "join-worker": ("kubernetes", "kubeadm/join.yaml.j2", "n3", {}),
    "cluster": (
        *("kubernetes", "cluster.yaml.j2", "n1"),
        {"perimeter_node_labels": {"rack": "7"}},
    ),
    "cluster-dns": (
        *("kubernetes", "cluster.yaml.j2", "n1"),
        {"perimeter_dns_servers": ["10.0.0.53", "10.0.1.53"]},
    ),
}


@pytest.fixture(scope="module")
def rendered(
    ansible_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Every template of RENDERED, in one run: n1 and n2 are control planes, n1 and n3 workers."""
    folder = tmp_path_factory.mktemp("rendered")
    # where a role finds what its templates include
    (folder / "templates").symlink_to(REPOSITORY / "roles" / "kubernetes" / "templates")
    plays = []
    for name, (role, template, host, different) in RENDERED.items():
        path = REPOSITORY / "roles" / role
        loaded: dict[str, Any] = {}
        for part in ("defaults", "vars"):
            if (path / part / "main.yml").exists():
                loaded |= yaml.safe_load((path / part / "main.yml").read_text())
        # group variables, as the inventory gives them: other hosts are asked for them too
        plays.append(
            {
                "hosts": "all",
                "gather_facts": False,
                "vars": loaded | different,
                "tasks": [
                    {"ansible.builtin.set_fact": {key: value}}
                    for key, value in different.items()
                    if key.startswith("perimeter_")
                ]
                + [
                    {
                        "ansible.builtin.template": {
                            "src": str(path / "templates" / template),
                            "dest": str(folder / name),
                            "mode": "0600",
                        },
                        "when": f"inventory_hostname == '{host}'",
                    }
                ]
                + [
                    {"ansible.builtin.set_fact": {key: COMMON[key]}}
                    for key in different
                    if key in COMMON
                ],
            }
        )
    inventory = {
        "all": {
            "hosts": {
                name: {
                    "perimeter_node_name": name,
                    "perimeter_node_address": address,
                    "ansible_connection": "local",
                    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                }
                for name, address in ADDRESSES.items()
            },
            "vars": COMMON,
            "children": {
                "registry": {"hosts": {"n1": {}, "n2": {}}},
                "control_plane": {"hosts": {"n1": {}, "n2": {}}},
                "worker": {"hosts": {"n1": {}, "n3": {}}},
                "kubernetes": {"children": {"control_plane": {}, "worker": {}}},
            },
        }
    }
    (folder / "inventory.json").write_text(json.dumps(inventory))
    (folder / "play.json").write_text(json.dumps(plays))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(folder / "inventory.json"), "play.json"],
        cwd=folder,
        env=ansible_environment | {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / name).read_text() for name in RENDERED}


def documents(text: str) -> dict[str, Any]:
    """YAML documents by kind; a key that stands twice is a mistake kubeadm refuses."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    Strict.add_constructor(
        yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
        lambda loader, node: mapping(loader, node, True),
    )
    found = [one for one in yaml.load_all(text, Loader=Strict) if one]
    return {one["kind"]: one for one in found}


def test_replica_on_the_host_itself_is_asked_first(rendered: dict[str, str]) -> None:
    mirror = tomllib.loads(rendered["mirror"])
    assert list(mirror["host"]) == ["https://10.99.0.12:5000/v2/quay.io"]
    assert mirror["server"] == "https://10.99.0.11:5000/v2/quay.io"
    for entry in (mirror, *mirror["host"].values()):
        assert entry["capabilities"] == ["pull", "resolve"]
        assert entry["override_path"] is True
        assert entry["ca"] == "/etc/perimeter/ca.crt"


def test_unknown_hosts_lead_to_a_place_where_no_image_is(rendered: dict[str, str]) -> None:
    mirror = tomllib.loads(rendered["mirror-default"])
    for url in (mirror["server"], *mirror["host"]):
        assert url.startswith(tuple(REPLICAS))
        assert url.endswith("/v2/perimeter.internal/not-in-the-bundle")


def test_external_registry_gets_its_folder_login_and_ca(rendered: dict[str, str]) -> None:
    mirror = tomllib.loads(rendered["mirror-login"])
    assert mirror["server"] == "https://harbor.plant/v2/perimeter/docker.io"
    assert mirror["ca"] == "/etc/perimeter/registry-ca.crt"
    assert mirror["header"] == {"Authorization": "Basic cm9ib3QkcHVsbDp3b3Jk"}
    assert "host" not in mirror


def test_containerd_has_the_bundles_sandbox_and_the_hosts_limits(
    rendered: dict[str, str],
) -> None:
    old, new = (tomllib.loads(rendered[f"containerd-{one}"]) for one in ("old", "new"))
    images = old["plugins"]["io.containerd.cri.v1.images"]
    assert old["version"] == 3
    assert images["pinned_images"]["sandbox"] == "registry.k8s.io/pause:3.10.1"
    assert images["registry"]["config_path"] == "/etc/containerd/certs.d"
    runtime = "io.containerd.cri.v1.runtime"
    assert old["plugins"][runtime]["restrict_oom_score_adj"] is True
    assert "restrict_oom_score_adj" not in new["plugins"][runtime]


def test_registry_takes_an_index_whose_platforms_are_not_all_there(
    rendered: dict[str, str],
) -> None:
    found = yaml.safe_load(rendered["registry"])
    assert found["validation"]["manifests"]["indexes"]["platforms"] == "none"
    assert found["storage"]["delete"]["enabled"] is True
    assert found["http"]["addr"] == "10.99.0.11:5000"
    assert found["http"]["relativeurls"] is True
    assert "debug" not in found["http"]


def test_control_plane_asks_itself_first_for_the_api(rendered: dict[str, str]) -> None:
    lines = rendered["hosts-n2"].splitlines()
    assert lines[:3] == [f"{address} {name}" for name, address in ADDRESSES.items()]
    assert lines[3:] == ["10.99.0.12 api.plant.internal", "10.99.0.11 api.plant.internal"]
    assert "api.plant.internal" not in rendered["hosts-external"]


def test_init_is_five_documents_that_name_every_address(rendered: dict[str, str]) -> None:
    found = documents(rendered["init-old"])
    assert set(found) == {
        *("InitConfiguration", "ClusterConfiguration"),
        *("KubeletConfiguration", "KubeProxyConfiguration"),
    }
    init, cluster = found["InitConfiguration"], found["ClusterConfiguration"]
    assert init["localAPIEndpoint"] == {"advertiseAddress": "10.99.0.11", "bindPort": 6443}
    assert init["nodeRegistration"]["taints"] == []
    assert cluster["kubernetesVersion"] == "v1.34.4"
    assert set(cluster["apiServer"]["certSANs"]) == {
        *("127.0.0.1", "api.plant.internal", "10.99.0.11", "10.99.0.12")
    }


def test_weak_hosts_are_spared_and_others_are_not(rendered: dict[str, str]) -> None:
    old, new = documents(rendered["init-old"]), documents(rendered["init-new"])
    assert old["KubeletConfiguration"]["failCgroupV1"] is False
    assert old["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0}
    assert "failCgroupV1" not in new["KubeletConfiguration"]
    assert "conntrack" not in new["KubeProxyConfiguration"]


def test_certificates_are_uploaded_as_the_first_control_plane(rendered: dict[str, str]) -> None:
    found = documents(rendered["upload"])
    init = found["InitConfiguration"]
    assert init["certificateKey"] == "0123456789abcdef" * 4
    assert init["localAPIEndpoint"]["advertiseAddress"] == "10.99.0.11"
    assert found["ClusterConfiguration"]["kubernetesVersion"] == "v1.34.4"


def test_control_plane_joins_with_a_key_and_a_worker_without(rendered: dict[str, str]) -> None:
    control = documents(rendered["join-control-plane"])["JoinConfiguration"]
    worker = documents(rendered["join-worker"])["JoinConfiguration"]
    assert control["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "10.99.0.12"
    assert "taints" not in control["nodeRegistration"]  # n2 takes no workloads: kubeadm's taint
    assert "controlPlane" not in worker
    assert "certificateKey" not in rendered["join-worker"]
    assert worker["discovery"]["bootstrapToken"] == {
        "apiServerEndpoint": "api.plant.internal:6443",
        "token": "abc.def",
        "caCertHashes": ["sha256:1"],
    }


def test_name_service_forwards_nothing_without_name_servers(rendered: dict[str, str]) -> None:
    corefile = documents(rendered["cluster"])["ConfigMap"]["data"]["Corefile"]
    inside, outside = corefile.split("\n.:53 {")
    assert "forward" not in corefile
    assert "kubernetes cluster.local" in inside and "template" not in inside
    assert "template IN ANY ." in outside and "rcode NXDOMAIN" in outside


def test_name_service_forwards_to_the_sites_name_servers(rendered: dict[str, str]) -> None:
    corefile = documents(rendered["cluster-dns"])["ConfigMap"]["data"]["Corefile"]
    assert "forward . 10.0.0.53 10.0.1.53 {" in corefile.split("\n.:53 {")[1]
    assert "template" not in corefile


def test_labels_of_the_site_are_put_on_nodes(rendered: dict[str, str]) -> None:
    assert documents(rendered["cluster"])["Node"]["metadata"]["labels"] == {"rack": "7"}
    assert "Node" not in documents(rendered["cluster-dns"])
