"""Checks on every host over SSH: pytest-testinfra runs the modules in tests/, out of process.

A process of its own, because pytest takes over output, signals and imports. It gets what it needs
as two files, an ssh configuration with pinned keys and what must hold; nothing in them is secret.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree as Xml

import perimeter_bundle
import perimeter_installer
from perimeter_bundle.model.errors import HostError
from perimeter_installer.check.expected import Expected
from perimeter_installer.report.model import Area, CheckResult, Outcome
from perimeter_installer.site.inventory import ssh_path
from perimeter_installer.site.model import Host, Site

TIMEOUT_S = 900
CONNECT_TIMEOUT_S = 10
FACTS_VARIABLE = "PERIMETER_CHECK_FACTS"
TESTS = str(resources.files("perimeter_installer.check").joinpath("tests"))
# programs that are plain files of the bundle, by where roles put them
NODE_PROGRAMS = {
    "/usr/local/bin/kubelet": "kubernetes/kubelet",
    "/usr/local/bin/kubeadm": "kubernetes/kubeadm",
    "/usr/local/bin/kubectl": "kubernetes/kubectl",
    "/usr/local/sbin/runc": "runc/runc",
}
NODE_SERVICES = ("containerd", "kubelet", "perimeter-routes")
REGISTRY_SERVICE = "perimeter-registry"
HINT = "find out who changed it; perimeter-install apply brings the host back to the release"


def check_hosts(expected: Expected, folder: Path) -> list[CheckResult]:
    """One result for each check on each host that is on.

    ``folder`` is private and outlives the call. Raises HostError[host-checks-broken] when the
    checks themselves could not run.
    """
    hosts = [host for host in expected.site.hosts if host.name not in expected.nodes_off]
    facts = folder / "facts.json"
    facts.write_text(json.dumps({host.name: host_facts(expected, host) for host in hosts}))
    configuration = folder / "ssh_config"
    configuration.write_text(ssh_configuration(expected.site, folder))
    results = folder / "hosts.xml"
    command = [
        *(sys.executable, "-m", "pytest", TESTS, "--quiet"),
        *("-p", "no:cacheprovider", "-p", "testinfra.plugin", "-c", os.devnull),
        *("--rootdir", TESTS, "--junitxml", str(results)),
        *("--ssh-config", str(configuration)),
        "--hosts=" + ",".join(f"ssh://{host.name}" for host in hosts),
        *(["--sudo"] if expected.site.ssh.become else []),
    ]
    output = _run(command, facts)
    try:
        return parse_results(results.read_bytes())
    except (OSError, Xml.ParseError) as error:
        raise HostError(
            "host-checks-broken",
            "the checks on the hosts could not run",
            problems=output.splitlines()[-20:],
            hint="is this a whole installation of perimeter-install? run bootstrap.sh again",
        ) from error


def host_facts(expected: Expected, host: Host) -> dict[str, object]:
    """What must hold on one host, as the check modules read it. Pure."""
    site, digests = expected.site, expected.file_digests()
    services: list[str] = []
    if host.is_node:
        services += NODE_SERVICES
    if "registry" in host.groups and site.registry.mode == "embedded":
        services.append(REGISTRY_SERVICE)
    programs = {
        path: sha256
        for path, name in NODE_PROGRAMS.items()
        for key, sha256 in digests.items()
        if key == name and host.is_node
    }
    return {
        "address": str(host.address),
        "is_node": host.is_node,
        "services": services,
        "programs": programs,
        "marker": {"site": site.name, "release": expected.manifest.release},
        "registries": list(site.registry_endpoints),
        "image_hosts": sorted(
            {one.reference.host for one in expected.manifest.items if one.kind.value == "image"}
        ),
        "service_address": str(site.networks.services[1]),
        "listens": [f"{host.address}:{site.registry.port}"] if REGISTRY_SERVICE in services else [],
    }


def ssh_configuration(site: Site, folder: Path) -> str:
    """An ssh configuration with the site's pinned keys and nothing of the user's own. Pure."""
    lines = []
    for host in site.hosts:
        lines += [
            f"Host {host.name}",
            f"  HostName {host.address}",
            f"  Port {host.ssh_port}",
        ]
    lines += [
        "Host *",
        f"  User {site.ssh.user}",
        "  BatchMode yes",
        "  StrictHostKeyChecking yes",
        f"  UserKnownHostsFile {ssh_path(site.known_hosts_file)}",
        "  GlobalKnownHostsFile /dev/null",
        "  UpdateHostKeys no",
        "  PasswordAuthentication no",
        "  KbdInteractiveAuthentication no",
        f"  ConnectTimeout {CONNECT_TIMEOUT_S}",
        "  ServerAliveInterval 10",
        "  ServerAliveCountMax 3",
        "  ControlMaster auto",
        # %C is short whatever the host is called: a socket's path holds 107 characters
        f"  ControlPath {ssh_path(folder)}/%C",
        "  ControlPersist 20",
    ]
    if site.ssh.key_file:
        lines += [f"  IdentityFile {ssh_path(site.ssh.key_file)}", "  IdentitiesOnly yes"]
    return "\n".join(lines) + "\n"


def parse_results(document: bytes) -> list[CheckResult]:
    """pytest's JUnit XML as results. Pure; raises ElementTree.ParseError."""
    results = []
    for case in Xml.fromstring(document).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        properties = _properties(case)
        function = case.get("name", "").partition("[")[0]
        outcome, lines = _outcome(case)
        evidence = properties.get("evidence", "")
        results.append(
            CheckResult(
                name=f"hosts/{function.removeprefix('test_').replace('_', '-')}",
                title=properties.get("title") or function,
                area=Area.HOSTS,
                outcome=outcome,
                seconds=float(case.get("time") or 0.0),
                evidence=tuple(lines or evidence.splitlines()),
                host=properties.get("host", ""),
                hint=HINT if outcome is Outcome.FAILED else "",
            )
        )
    return results


def _properties(case: Xml.Element) -> Mapping[str, str]:
    return {one.get("name", ""): one.get("value", "") for one in case.iter("property")}


def _outcome(case: Xml.Element) -> tuple[Outcome, list[str]]:
    skipped = case.find("skipped")
    if skipped is not None:
        return Outcome.SKIPPED, [skipped.get("message", "")]
    for kind in ("failure", "error"):
        found = case.find(kind)
        if found is not None:
            return Outcome.FAILED, _reason(found)
    return Outcome.PASSED, []


def _reason(failure: Xml.Element) -> list[str]:
    """What the check said, without Python's own words around it."""
    lines = [line for line in failure.get("message", "").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("assert ", " +"))] or lines
    if lines:
        lines[0] = lines[0].removeprefix("AssertionError: ").removeprefix("Failed: ")
    return lines[:20]


def _run(command: list[str], facts: Path) -> str:
    packages = [Path(one.__file__ or "").parent.parent for one in _PACKAGES]
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": ":".join(dict.fromkeys(map(str, packages))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        FACTS_VARIABLE: str(facts),
    }
    if "SSH_AUTH_SOCK" in os.environ:
        environment["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(
            "host-checks-slow", f"the checks on the hosts did not end in {TIMEOUT_S} s"
        ) from error
    return done.stdout + done.stderr


_PACKAGES = (perimeter_installer, perimeter_bundle)
