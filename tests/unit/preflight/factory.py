"""Sites and facts for tests of the judge: one that is in order, to be changed in one place."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.facts import Disc, HostFacts, Interface, Resolution
from perimeter_installer.site.model import (
    Ca,
    Dns,
    Endpoint,
    Group,
    Host,
    Minio,
    Networks,
    Registry,
    Site,
    Ssh,
    Storage,
)

GIB = 1024**3
ALL: frozenset[Group] = frozenset({"registry", "control_plane", "worker"})


def make_site(hosts: int = 1, **changes: Any) -> Site:
    """A site of so many hosts n1, n2, … that are everything."""
    site = Site(
        name="lab",
        path=Path("/srv/site/site.yaml"),
        ssh=Ssh("admin", None, True),
        hosts=tuple(
            Host(f"n{number}", IPv4Address(f"10.99.0.{10 + number}"), ALL)
            for number in range(1, hosts + 1)
        ),
        networks=Networks(IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16")),
        dns=Dns((IPv4Address("10.0.0.53"),), "cluster.local"),
        endpoint=Endpoint("api.lab.internal", 6443, external=False),
        registry=Registry("embedded", 5000, "/var/lib/perimeter/registry", "", None),
        storage=Storage("local-path", "/var/lib/perimeter/volumes"),
        minio=Minio("minio", 1, 4, "1Gi"),
        ca=Ca("generated", None, None),
    )
    return replace(site, **changes)


def make_disc(path: str, **changes: Any) -> Disc:
    disc = Disc(path, "/", "ext4", ("rw", "relatime"), 1, 80 * GIB, 100 * GIB, 5_000_000)
    return replace(disc, **changes)


def make_facts(number: int = 1, **changes: Any) -> HostFacts:
    """What a host that is ready says."""
    name = f"n{number}"
    facts = HostFacts(
        hostname=name,
        kernel="6.1.0-18-amd64",
        machine="x86_64",
        python=(3, 11, 2),
        os_id="debian",
        os_version="12",
        os_name="Debian GNU/Linux 12 (bookworm)",
        cgroup_version=2,
        cgroup_controllers=frozenset({"cpu", "cpuset", "memory", "pids", "io"}),
        memory_bytes=8 * GIB,
        cpus=4,
        discs=tuple(map(make_disc, wanted.paths_of(make_site().hosts[0], make_site()))),
        default_route="eth0",
        interfaces=(
            Interface("lo", 65536, ("127.0.0.1",)),
            Interface("eth0", 1500, (f"10.99.0.{10 + number}",)),
        ),
        resolver_servers=("10.0.0.53",),
        resolved=(Resolution(name, ("127.0.1.1",), 0.01),),
        modules=frozenset(wanted.MODULES),
        conntrack_writable=True,
        machine_id=f"{number:032x}",
        product_uuid=f"uuid-{number}",
    )
    return replace(facts, **changes)
