"""Names inside the cluster, names outside it, and traffic between pods of different nodes.

One pod on each node serves the node's name over HTTP and asks the others for theirs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from perimeter_installer.check.expected import BUSYBOX, Expected
from perimeter_installer.check.kube import Executed, Manifest, PodState
from perimeter_installer.check.recorder import CheckFailed, CheckSkipped, Evidence
from perimeter_installer.check.scratch import Scratch, pod_manifest

PORT = 8080
APP = {"app": "probe"}
SERVE = f'mkdir -p /tmp/www && echo "$0" > /tmp/www/name && exec httpd -f -p {PORT} -h /tmp/www'
FETCH_TIMEOUT_S = 5
OUTSIDE = "registry.perimeter-check.example.com."  # example.com is reserved: it is nobody's
OUTSIDE_BOUND_S = 4.0
NO_SUCH_NAME = re.compile(r"NXDOMAIN|can't resolve|bad address|not known", re.IGNORECASE)


def probe_name(node: str) -> str:
    """Name of the probe on a node; node names may be as long as pod names may be."""
    return f"probe-{node}"[:63].rstrip("-.")


def probes(scratch: Scratch, expected: Expected) -> list[Manifest]:
    """A probe for each node that is on, and the service before all of them."""
    image = expected.image(BUSYBOX)
    if not image:
        raise CheckSkipped(f"the bundle has no {BUSYBOX} to make probes of")
    return [
        pod_manifest(
            scratch.namespace,
            probe_name(host.name),
            image,
            ["sh", "-c", SERVE, host.name],
            node=host.name,
            labels=APP,
            ready=["wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/name"],
        )
        for host in expected.nodes_on
    ]


def start_probes(scratch: Scratch, expected: Expected) -> Evidence:
    """Every node can start a pod from the site's registry."""
    manifests = probes(scratch, expected)
    scratch.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "probe", "namespace": scratch.namespace},
            "spec": {"selector": APP, "ports": [{"port": PORT}]},
        }
    )
    begin = time.monotonic()
    scratch.start(manifests)
    return [f"{len(manifests)} pods started in {time.monotonic() - begin:.0f} s"]


def running_probes(scratch: Scratch, expected: Expected) -> Mapping[str, PodState]:
    """Node → its probe; raises CheckFailed when one is not running."""
    found = {pod.name: pod for pod in scratch.cluster.pods(scratch.namespace) if pod.ready}
    missing = [host.name for host in expected.nodes_on if probe_name(host.name) not in found]
    if missing:
        raise CheckFailed(f"no probe runs on {', '.join(missing)}")
    return {host.name: found[probe_name(host.name)] for host in expected.nodes_on}


def check_inside_names(scratch: Scratch, expected: Expected) -> Evidence:
    """A pod on each node resolves the API's service to its address."""
    name = f"kubernetes.default.svc.{expected.site.dns.domain}."
    address = str(expected.site.networks.services[1])
    for node, pod in running_probes(scratch, expected).items():
        answer = scratch.cluster.execute(pod, ["nslookup", name])
        # some nslookups end with 1 though they found it: they also try the search list
        if not re.search(rf"\b{re.escape(address)}\b", answer.output):
            raise CheckFailed(
                f"a pod on {node} does not find {name}",
                f"expected {address}",
                *_lines(answer),
                hint="are the CoreDNS pods ready, and does kube-proxy run on that node?",
            )
    return [f"{name} is {address} on every node"]


def check_outside_names(scratch: Scratch, expected: Expected) -> Evidence:
    """A name of the Internet is answered with no, at once, and not after a time-out."""
    if expected.site.dns.servers:
        raise CheckSkipped("the site has name servers of its own; what they answer is theirs")
    slowest = 0.0
    for node, pod in running_probes(scratch, expected).items():
        begin = time.monotonic()
        answer = scratch.cluster.execute(pod, ["nslookup", OUTSIDE])
        seconds = time.monotonic() - begin
        slowest = max(slowest, seconds)
        if not NO_SUCH_NAME.search(answer.output + answer.errors):
            raise CheckFailed(f"a pod on {node} was not told no for {OUTSIDE}", *_lines(answer))
        if seconds > OUTSIDE_BOUND_S:
            raise CheckFailed(
                f"a pod on {node} waited {seconds:.1f} s to be told that {OUTSIDE} does not exist",
                hint="does CoreDNS forward to a name server that does not answer?",
            )
    return [f"{OUTSIDE} does not exist, known within {slowest:.1f} s"]


def check_pairs(scratch: Scratch, expected: Expected) -> Evidence:
    """A pod on each node reaches a pod on each other node."""
    pods = running_probes(scratch, expected)
    problems, pairs = [], 0
    for node, pod in pods.items():
        others = {other: target for other, target in pods.items() if other != node}
        for other, target in others.items():
            url = f"http://{target.address}:{PORT}/name"
            answer = _fetch(scratch, pod, url)
            pairs += 1
            if answer.output.strip() != other:
                problems.append(f"{node} → {other} ({target.address}): {' '.join(_lines(answer))}")
    if problems:
        raise CheckFailed(
            *problems,
            hint="does a firewall between the hosts stop UDP 8472 (VXLAN)? is the MTU right?",
        )
    if not pairs:
        raise CheckSkipped("there is one node only")
    return [f"{pairs} pairs of nodes reach each other"]


def check_service(scratch: Scratch, expected: Expected) -> Evidence:
    """A pod on each node reaches a service by its name."""
    url = f"http://probe.{scratch.namespace}.svc.{expected.site.dns.domain}:{PORT}/name"
    pods = running_probes(scratch, expected)
    for node, pod in pods.items():
        answer = _fetch(scratch, pod, url)
        if answer.output.strip() not in pods:
            raise CheckFailed(
                f"a pod on {node} does not reach {url}",
                *_lines(answer),
                hint="does kube-proxy run on that node?",
            )
    return [f"{url} answers on every node"]


def _fetch(scratch: Scratch, pod: PodState, url: str) -> Executed:
    # not wget's own -T: it crashes a busybox that is linked statically against glibc
    command = ["timeout", str(FETCH_TIMEOUT_S), "wget", "-q", "-O", "-", url]
    return scratch.cluster.execute(pod, command)


def _lines(answer: Executed) -> list[str]:
    lines = [line for line in (answer.output + answer.errors).splitlines() if line.strip()]
    return lines[:10] or [f"exit status {answer.status}, no output"]
