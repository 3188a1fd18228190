"""What preflight asks of a host, and what a site needs there: the tables, no logic.

One place for ports, programs, kernel modules and the traces other clusters leave.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from perimeter_installer.site.model import Host, Site

GIB = 1024**3

OWN_PROGRAMS = "/opt/perimeter/"  # where roles put what a release brings along

CONTAINERD_DIR = "/var/lib/containerd"
ETCD_DIR = "/var/lib/etcd"
KUBELET_DIR = "/var/lib/kubelet"

# https://kubernetes.io/docs/reference/networking/ports-and-protocols/
CONTROL_PLANE_PORTS = ("tcp/6443", "tcp/2379", "tcp/2380", "tcp/10257", "tcp/10259")
NODE_PORTS = ("tcp/10250", "tcp/10248", "tcp/10249", "tcp/10256", "udp/8472")

# what the release's own binaries do not bring along, and why it is asked for
REQUIRED_PROGRAMS = {
    "systemctl": "everything runs as a systemd service",
    "tar": "archives are unpacked with it",
    "mount": "the kubelet mounts volumes with it",
    "losetup": "the kubelet keeps block devices with it, and kubeadm refuses without it",
    "cp": "kubeadm refuses without it",
    "ip": "service addresses get their route with it",
    "modprobe": "kernel modules are loaded with it",
}
USEFUL_PROGRAMS = {
    "iptables": "the kubelet complains once a minute; kube-proxy and flannel bring their own",
    "conntrack": "nothing of ours needs it, people who look for faults do",
    "ethtool": "nothing of ours needs it, people who look for faults do",
}
NODE_ONLY_PROGRAMS = frozenset({"losetup", "cp", "ip", "modprobe", *USEFUL_PROGRAMS})
MODULES = {
    "overlay": "containerd keeps images in overlay file systems",
    "br_netfilter": "traffic between pods on one bridge must pass iptables",
    "vxlan": "flannel connects the nodes with it",
    "nf_conntrack": "services are translated with it",
}
CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")

LEFTOVER_PATHS = (
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/etcd/member",
    "/etc/cni/net.d",
    "/var/lib/cni",
    "/etc/rancher/k3s",
    "/var/lib/rancher/k3s",
    "/etc/rancher/rke2",
    "/var/lib/rancher/rke2",
    "/var/snap/microk8s",
    "/var/lib/k0s",
    "/sys/class/net/flannel.1",
    "/sys/class/net/cni0",
)
LEFTOVER_PROCESSES = (
    "kubelet",
    "kube-apiserver",
    "kube-controller",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
    "flanneld",
    "containerd",
    "dockerd",
    "crio",
    "k3s-server",
    "k3s-agent",
    "rke2",
    "k0s",
)

# what kubeadm itself asks for, and what a real node needs beside it
LEAST_CPUS = 2
LEAST_CONTROL_PLANE_MEMORY = 1700 * 1024**2  # kubeadm refuses below
GOOD_CONTROL_PLANE_MEMORY = 4 * GIB
GOOD_WORKER_MEMORY = 2 * GIB
ETCD_BYTES = 2 * GIB  # etcd's own quota
ROOT_BYTES = 1 * GIB  # logs, programs, rotation
LEAST_INODES = 100_000
LEAST_FREE_SHARE = 0.15  # below, the kubelet evicts pods (imagefs.available<15%)
OLDEST_PYTHON = (3, 8)  # of ansible-core 2.19 on hosts
OLDEST_KERNEL = (4, 19)  # https://kubernetes.io/docs/reference/node/kernel-version-requirements/
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
TRIED_SYSTEMS = {("debian", "12"), ("debian", "13")}
KNOWN_FAMILIES = {"debian", "ubuntu", "rhel", "fedora", "centos", "rocky", "almalinux", "suse"}

CLOCK_WARNING_S = 1.0  # etcd complains from here
CLOCK_ERROR_S = 30.0  # certificates made here are not valid there yet
SLOW_RESOLUTION_S = 1.0
LEAST_MTU = 1280
VXLAN_OVERHEAD = 50


def ports_of(host: Host, site: Site) -> tuple[str, ...]:
    """The ports that must be free on ``host`` before a first install."""
    ports: tuple[str, ...] = ()
    if "control_plane" in host.groups:
        ports += CONTROL_PLANE_PORTS
    if host.is_node:
        ports += NODE_PORTS
    if site.registry.mode == "embedded" and "registry" in host.groups:
        ports += (f"tcp/{site.registry.port}",)
    return ports


def programs_of(host: Host) -> tuple[str, ...]:
    """The programs that are looked for on ``host``."""
    names = (*REQUIRED_PROGRAMS, *USEFUL_PROGRAMS)
    return tuple(name for name in names if host.is_node or name not in NODE_ONLY_PROGRAMS)


def paths_of(host: Host, site: Site) -> tuple[str, ...]:
    """The folders whose file systems matter on ``host``."""
    paths = ["/"]
    if host.is_node:
        paths += [CONTAINERD_DIR, KUBELET_DIR]
    if "control_plane" in host.groups:
        paths.append(ETCD_DIR)
    paths += registry_paths_of(host, site)
    if "worker" in host.groups:
        paths.append(site.storage.path)
    return tuple(paths)


def registry_paths_of(host: Host, site: Site) -> tuple[str, ...]:
    """Where the registry keeps its content on ``host``."""
    here = site.registry.mode == "embedded" and "registry" in host.groups
    return (site.registry.data_dir,) if here else ()


def names_of(site: Site) -> tuple[str, ...]:
    """Names every node must be able to resolve before anything of ours helps it to."""
    hosts = [site.endpoint.host] if site.endpoint.external else []
    hosts += [registry_server(site)[0]] if site.registry.mode == "external" else []
    return tuple(host for host in hosts if not host.replace(".", "").isdigit())


def registry_server(site: Site) -> tuple[str, int]:
    """Host and port of an external registry."""
    parts = urlsplit(site.registry.url)
    return parts.hostname or "", parts.port or 443


def peers_of(host: Host, site: Site) -> list[tuple[str, str, int]]:
    """Name, address and port of everything ``host`` must reach."""
    peers = [
        (other.name, str(other.address), other.ssh_port)
        for other in site.hosts
        if other.name != host.name
    ]
    if site.registry.mode == "external":
        peers.append(("the registry", *registry_server(site)))
    return peers
