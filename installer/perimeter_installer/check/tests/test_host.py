"""What must hold on every host that runs a kubelet, a registry, or both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import pytest

Facts = Mapping[str, object]
Record = Callable[[str, object], None]
CERTS = "/etc/containerd/certs.d"


class Result(Protocol):
    """Part of testinfra's CommandResult."""

    rc: int
    stdout: str
    stderr: str


class Host(Protocol):
    """Part of testinfra's Host."""

    def run(self, command: str, *args: str) -> Result: ...


def words(facts: Facts, key: str) -> Sequence[str]:
    """A list of strings out of the facts."""
    return cast(Sequence[str], facts[key])


def only_on_nodes(facts: Facts) -> None:
    if not facts["is_node"]:
        pytest.skip("it runs no kubelet")


def test_host_bears_the_mark_of_site_and_release(host: Host, facts: Facts) -> None:
    """The host belongs to this site and has this release."""
    only_on_nodes(facts)
    text = host.run("cat /etc/perimeter/node.json").stdout
    found = json.loads(text) if text else {}
    if found != facts["marker"]:
        pytest.fail(f"expected {facts['marker']}, found {found or 'no mark'}", pytrace=False)


def test_services_run_and_start_with_the_host(
    host: Host, facts: Facts, record_property: Record
) -> None:
    """Services run, and start again with the host."""
    names = words(facts, "services")
    problems = []
    for name in names:
        for verb, wanted in (("is-active", "active"), ("is-enabled", "enabled")):
            found = host.run("systemctl %s %s", verb, f"{name}.service").stdout.strip()
            if found != wanted:
                problems.append(f"{name} is {found or 'unknown'}, not {wanted}")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    record_property("evidence", ", ".join(names))


def test_programs_are_the_bundles(host: Host, facts: Facts, record_property: Record) -> None:
    """Programs are, byte for byte, those of the bundle."""
    only_on_nodes(facts)
    programs = cast(Mapping[str, str], facts["programs"])
    answer = host.run(f"sha256sum {' '.join(sorted(programs))}").stdout
    pairs = (line.split(maxsplit=1) for line in answer.splitlines())
    found = {path: sha256 for sha256, path in pairs}
    problems = [
        f"{path}: expected sha256 {wanted}, found {found.get(path, 'no such file')}"
        for path, wanted in programs.items()
        if found.get(path) != wanted
    ]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    record_property("evidence", ", ".join(path.rpartition("/")[2] for path in sorted(programs)))


def test_images_can_only_come_from_the_site(
    host: Host, facts: Facts, record_property: Record
) -> None:
    """Images can only come from the site's registry."""
    only_on_nodes(facts)
    registries = words(facts, "registries")
    folders = set(host.run("ls %s", CERTS).stdout.split())
    missing = {*words(facts, "image_hosts"), "_default"} - folders
    problems = [f"{CERTS}/{name} is missing" for name in sorted(missing)]
    for name in sorted(folders):
        text = host.run("cat %s", f"{CERTS}/{name}/hosts.toml").stdout
        servers = re.findall(r'^server = "([^"]+)"', text, re.MULTILINE)
        urls = servers + re.findall(r'^\[host\."([^"]+)"\]', text, re.MULTILINE)
        if len(servers) != 1:
            problems.append(f"{CERTS}/{name}/hosts.toml names no server: its own host is asked")
        problems += [
            f"{CERTS}/{name}/hosts.toml leads to {url}"
            for url in urls
            if not any(url.startswith(f"{registry}/") for registry in registries)
        ]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    record_property("evidence", f"{', '.join(sorted(folders))} lead to {', '.join(registries)}")


def test_swap_is_off(host: Host, facts: Facts) -> None:
    """Swap is off."""
    only_on_nodes(facts)
    lines = host.run("cat /proc/swaps").stdout.splitlines()[1:]
    if lines:
        pytest.fail(f"swap is on: {'; '.join(lines)}", pytrace=False)


def test_kernel_forwards_and_filters_bridged_packets(host: Host, facts: Facts) -> None:
    """The kernel forwards packets, and lets rules see bridged ones."""
    only_on_nodes(facts)
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        path = "/proc/sys/" + name.replace(".", "/")
        found = host.run("cat %s", path).stdout.strip()
        if found != "1":
            pytest.fail(f"{name} is {found or 'not known to this kernel'}, not 1", pytrace=False)


def test_service_addresses_have_a_route(host: Host, facts: Facts, record_property: Record) -> None:
    """Service addresses have a route, also without a default route."""
    only_on_nodes(facts)
    answer = host.run("ip route get %s", str(facts["service_address"]))
    if answer.rc != 0:
        pytest.fail(f"{facts['service_address']}: {answer.stderr.strip()}", pytrace=False)
    record_property("evidence", " ".join(answer.stdout.split()))


def test_registry_listens(host: Host, facts: Facts, record_property: Record) -> None:
    """The registry listens on the address of the host."""
    listens = words(facts, "listens")
    if not listens:
        pytest.skip("it has no registry")
    found = host.run("ss -Hltn").stdout.split()
    missing = [one for one in listens if one not in found]
    if missing:
        pytest.fail(f"nothing listens on {', '.join(missing)}", pytrace=False)
    record_property("evidence", ", ".join(listens))
