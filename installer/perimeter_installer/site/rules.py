"""What must fit together in a site; each rule gives back its problems with their lines.

A rule is a plain function of the parsed file and the lines. Rules that look at files on this
machine are in load.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

from perimeter_installer.site.model import Group
from perimeter_installer.site.schema import SiteFile, parse_endpoint, parse_network
from perimeter_installer.site.yaml_source import Problem, YamlSource

NODE_PREFIX = 24  # what each node gets out of the pods' network
# https://kubernetes.io/docs/reference/networking/ports-and-protocols/
KUBERNETES_PORTS = {6443, 2379, 2380, 2381, 10248, 10249, 10250, 10256, 10257, 10259}
MAX_DISC_SET = 16  # drives in one MinIO erasure set

Rule = Callable[[SiteFile, YamlSource], Iterator[Problem]]


def check_rules(file: SiteFile, source: YamlSource) -> list[Problem]:
    """Every problem of every rule."""
    return [problem for rule in RULES for problem in rule(file, source)]


def _addresses_differ(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for name, host in file.hosts.items():
        if host.address in first:
            other = first[host.address]
            yield Problem(
                source.line("hosts", name, "address"),
                f"hosts.{name}.address: {host.address} is the address of {other} already"
                f" (line {source.line('hosts', other, 'address')})",
            )
        first.setdefault(host.address, name)


def _groups_are_clean(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    for name, host in file.hosts.items():
        for number, group in enumerate(host.groups):
            if group in host.groups[:number]:
                yield Problem(
                    source.line("hosts", name, "groups", number),
                    f"hosts.{name}.groups: {group} stands there twice",
                )
        if "gpu" in host.groups and "worker" not in host.groups:
            yield Problem(
                source.line("hosts", name, "groups"),
                f"hosts.{name}.groups: a host with GPUs must be a worker too",
            )


def _enough_of_each_group(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    line = source.line("hosts")
    control_planes = _members(file, "control_plane")
    if not control_planes:
        yield Problem(line, "hosts: no host is in the group control_plane; one or three must be")
    elif len(control_planes) % 2 == 0 or len(control_planes) > 7:
        last = source.line("hosts", control_planes[-1], "groups")
        yield Problem(
            last,
            f"hosts: {len(control_planes)} control planes ({', '.join(control_planes)}); etcd needs"
            " an odd number: one, or three to outlive one",
        )
    if not _members(file, "worker"):
        yield Problem(line, "hosts: no host is in the group worker; nothing could run")
    registries = _members(file, "registry")
    if file.registry.mode == "embedded" and not registries:
        yield Problem(
            line, "hosts: no host is in the group registry, and registry.mode is embedded"
        )
    if file.registry.mode == "external" and registries:
        yield Problem(
            source.line("hosts", registries[0], "groups"),
            f"hosts.{registries[0]}.groups: registry means nothing when registry.mode is external",
        )


def _networks_have_room(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    pods, services = parse_network(file.networks.pods), parse_network(file.networks.services)
    nodes = sum(1 for host in file.hosts.values() if {"control_plane", "worker"} & {*host.groups})
    line = source.line("networks", "pods")
    if pods.prefixlen < 8:
        yield Problem(line, f"networks.pods: {pods} is larger than Kubernetes takes (/8)")
    elif pods.prefixlen > NODE_PREFIX or 2 ** (NODE_PREFIX - pods.prefixlen) < nodes:
        yield Problem(
            line, f"networks.pods: {pods} is too small: each of the {nodes} nodes gets a /24"
        )
    line = source.line("networks", "services")
    if services.prefixlen < 12:
        yield Problem(line, f"networks.services: {services} is larger than Kubernetes takes (/12)")
    elif services.prefixlen > 26:
        yield Problem(line, f"networks.services: {services} is too small; give it a /26 or more")


def _networks_do_not_overlap(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    ranges = {
        "pods": parse_network(file.networks.pods),
        "services": parse_network(file.networks.services),
    }
    if ranges["pods"].overlaps(ranges["services"]):
        yield Problem(
            source.line("networks", "services"),
            f"networks.services: {ranges['services']} overlaps networks.pods {ranges['pods']}",
        )
    taken = [
        (f"hosts.{name}.address", source.line("hosts", name, "address"), host.address)
        for name, host in file.hosts.items()
    ]
    taken += [
        (f"dns.servers[{number}]", source.line("dns", "servers", number), server)
        for number, server in enumerate(file.dns.servers)
    ]
    if file.kubernetes.endpoint:
        host_text, _ = parse_endpoint(file.kubernetes.endpoint)
        taken.append(("kubernetes.endpoint", source.line("kubernetes", "endpoint"), host_text))
    for where, line, text in taken:
        for name, network in ranges.items():
            if _inside(text, network):
                yield Problem(line, f"{where}: {text} lies inside networks.{name} {network}")


def _endpoint_is_reachable(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    if not file.kubernetes.endpoint:
        return
    host_text, port = parse_endpoint(file.kubernetes.endpoint)
    line = source.line("kubernetes", "endpoint")
    for name, host in file.hosts.items():
        if host.address != host_text:
            continue
        if "control_plane" not in host.groups:
            yield Problem(
                line, f"kubernetes.endpoint: {host_text} is {name}, which is no control plane"
            )
        elif port != 6443:
            yield Problem(
                line, f"kubernetes.endpoint: the API server on {name} listens on 6443, not {port}"
            )


def _dns_servers_differ(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    for number, server in enumerate(file.dns.servers):
        if server in file.dns.servers[:number]:
            yield Problem(
                source.line("dns", "servers", number), f"dns.servers: {server} stands there twice"
            )


def _registry_fits_its_mode(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    registry = file.registry
    given = registry.model_fields_set
    if registry.mode == "external":
        if not registry.url:
            yield Problem(source.line("registry"), "registry.url: missing; mode is external")
        wrong = given & {"port", "data_dir"}
    else:
        wrong = given & {"url", "ca_file"}
    for key in sorted(wrong):
        yield Problem(
            source.line("registry", key),
            f"registry.{key}: means nothing when registry.mode is {registry.mode}",
        )
    if registry.mode == "embedded" and registry.port in KUBERNETES_PORTS | {22}:
        yield Problem(
            source.line("registry", "port"),
            f"registry.port: {registry.port} is needed by Kubernetes or SSH on the same host",
        )


def _folders_are_apart(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    taken = {"/var/lib/etcd": "etcd", "/var/lib/kubelet": "the kubelet"}
    taken["/var/lib/containerd"] = "containerd"
    if file.registry.mode == "embedded":
        taken[file.registry.data_dir] = "registry.data_dir"
        yield from _inside_another(
            "registry.data_dir", file.registry.data_dir, source.line("registry", "data_dir"),
            {path: who for path, who in taken.items() if who != "registry.data_dir"},
        )  # fmt: skip
    yield from _inside_another(
        "storage.path", file.storage.path, source.line("storage", "path"), taken
    )


def _inside_another(where: str, path: str, line: int, taken: dict[str, str]) -> Iterator[Problem]:
    for other, who in taken.items():
        if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
            yield Problem(line, f"{where}: {path} and {other} ({who}) lie in one another")


def _ca_is_complete(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    for key in ("cert_file", "key_file"):
        given = getattr(file.ca, key) is not None
        if file.ca.mode == "files" and not given:
            yield Problem(source.line("ca"), f"ca.{key}: missing; ca.mode is files")
        if file.ca.mode == "generated" and given:
            yield Problem(
                source.line("ca", key), f"ca.{key}: means nothing when ca.mode is generated"
            )


def _gpu_choices_agree(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    if file.gpu.driver == "host" and "precompiled" in file.gpu.model_fields_set:
        yield Problem(
            source.line("gpu", "precompiled"),
            "gpu.precompiled: means nothing when gpu.driver is host",
        )


def _minio_fits_the_workers(file: SiteFile, source: YamlSource) -> Iterator[Problem]:
    workers = len(_members(file, "worker"))
    replicas, drives = minio_size(file)
    line = source.line("minio", "replicas")
    if workers and replicas > workers:
        yield Problem(
            line,
            f"minio.replicas: {replicas} servers on {workers} workers; each needs its own, or"
            " one lost host takes several",
        )
    total = replicas * drives
    if total < 4:
        yield Problem(
            source.line("minio", "drives_per_node") or line,
            f"minio: {replicas} servers with {drives} drives are {total} drives; it takes four",
        )
    elif all(total % size for size in range(2, MAX_DISC_SET + 1)):
        yield Problem(
            source.line("minio", "drives_per_node") or line,
            f"minio: {total} drives cannot be split into equal sets of 2 to {MAX_DISC_SET}",
        )


def minio_size(file: SiteFile) -> tuple[int, int]:
    """Servers and drives of each, defaults filled in from the number of workers."""
    replicas = file.minio.replicas or max(1, min(4, len(_members(file, "worker"))))
    return replicas, file.minio.drives_per_node or (4 if replicas == 1 else 2)


def _members(file: SiteFile, group: Group) -> list[str]:
    return [name for name, host in file.hosts.items() if group in host.groups]


def _inside(text: str, network: IPv4Network) -> bool:
    try:
        return IPv4Address(text) in network
    except ValueError:  # a name
        return False


RULES: tuple[Rule, ...] = (
    _addresses_differ,
    _groups_are_clean,
    _enough_of_each_group,
    _networks_have_room,
    _networks_do_not_overlap,
    _endpoint_is_reachable,
    _dns_servers_differ,
    _registry_fits_its_mode,
    _folders_are_apart,
    _ca_is_complete,
    _minio_fits_the_workers,
    _gpu_choices_agree,
)
