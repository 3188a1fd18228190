"""Check: is the stack really working? Looks at hosts and cluster, tries what users will do.

 1. Hosts, over SSH: services, programs, mirrors, kernel, routes.
 2. Registry, of a delta: every replica holds what the bundle leaves out.
 3. Cluster: nodes, versions, pods; every running container is the bundle's, digest for digest.
 4. Network: names inside, names outside, every node to every other node.
 5. Volumes: what a pod writes, a later pod reads.
 6. Object storage: an object goes in and comes out; also while a node is off.
It changes nothing that is there; what it makes lies in a namespace of its own and is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perimeter_bundle import __version__
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_installer.check import cluster as cluster_checks
from perimeter_installer.check import network, objects, storage
from perimeter_installer.check.base import check_base
from perimeter_installer.check.expected import Expected, expected_of
from perimeter_installer.check.hosts import check_hosts
from perimeter_installer.check.kube import Cluster, NodeState, without_proxy
from perimeter_installer.check.recorder import Evidence, Recorder, eventually
from perimeter_installer.check.scratch import Scratch, scratch
from perimeter_installer.report.model import Area, NodeLine, Outcome, Report, Signer
from perimeter_installer.run.kube import fetch_kubeconfig
from perimeter_installer.run.private import private_folder
from perimeter_installer.site.model import Site

# A node that was switched on or off a moment ago is noticed within these bounds.
CLUSTER_TIMEOUT_S = 180.0
PROBE_TIMEOUT_S = 60.0
OBJECT_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the caller may choose: nodes that are off on purpose, where the vault's password is."""

    nodes_off: tuple[str, ...] = ()
    password_file: Path | None = None


def run(
    site: Site,
    bundle: VerifiedBundle,
    *,
    options: CheckOptions | None = None,
    on_event: OnEvent = ignore_events,
) -> Report:
    """What was found; a check that fails is a result and no error.

    Raises InputError[unknown-node] and KeyboardInterrupt; what was made is removed then too.
    """
    options = options or CheckOptions()
    expected = expected_of(site, bundle, options.nodes_off)
    recorder = Recorder(on_event)
    started, begin = datetime.now(UTC), time.monotonic()
    nodes: tuple[NodeLine, ...] = ()
    with private_folder() as folder, without_proxy():
        _check_hosts(recorder, expected, folder, on_event)
        if bundle.base:
            recorder.run(
                "images/base",
                "The registry holds what the delta leaves out",
                Area.IMAGES,
                lambda: check_base(bundle, expected, options.password_file),
            )
        nodes = _check_cluster(recorder, expected, folder, on_event)
    return Report(
        site=site.name,
        release=bundle.manifest.release,
        number=bundle.manifest.number,
        bundle=str(bundle.identity),
        signers=tuple(
            Signer(one.name, one.key.key_id, tuple(sorted(role.value for role in one.roles)))
            for one in bundle.signers
        ),
        components=tuple((one.name, one.version) for one in bundle.manifest.components),
        started=started,
        seconds=time.monotonic() - begin,
        nodes=nodes,
        checks=tuple(recorder.results),
        program=f"perimeter-install {__version__}",
        nodes_off=options.nodes_off,
    )


def _check_hosts(recorder: Recorder, expected: Expected, folder: Path, on_event: OnEvent) -> None:
    on_event(Event(EventKind.START, "check/hosts", "asking every host"))
    try:
        results = check_hosts(expected, folder)
    except PerimeterError as error:
        recorder.run("hosts/run", "Hosts can be checked", Area.HOSTS, _raising(error))
        return
    for result in results:
        # a check that does not apply to a host says nothing about it
        if result.outcome is not Outcome.SKIPPED:
            recorder.add(result)


def _raising(error: PerimeterError) -> Callable[[], Evidence]:
    def action() -> Evidence:
        raise error

    return action


def _check_cluster(
    recorder: Recorder, expected: Expected, folder: Path, on_event: OnEvent
) -> tuple[NodeLine, ...]:
    clusters: list[Cluster] = []

    def connect() -> Evidence:
        access = fetch_kubeconfig(expected.site, folder)
        clusters.append(Cluster(access.kubeconfig))
        return [f"{access.control_plane} answers, API server {clusters[0].version()}"]

    if not recorder.run("cluster/api", "A control plane answers", Area.CLUSTER, connect):
        return cluster_checks.node_lines(expected, ())
    cluster = clusters[0]
    _check_state(recorder, cluster, expected)
    nodes: tuple[NodeState, ...] = ()
    try:
        nodes = cluster.nodes()
        with scratch(cluster, on_event) as place:
            _check_use(recorder, place, expected)
    except PerimeterError as error:
        recorder.run("cluster/scratch", "The cluster can be tried", Area.CLUSTER, _raising(error))
    return cluster_checks.node_lines(expected, nodes)


def _check_state(recorder: Recorder, cluster: Cluster, expected: Expected) -> None:
    """What can be seen without making anything."""
    recorder.run(
        "cluster/nodes-ready",
        "Every host of the site is a Ready node",
        Area.CLUSTER,
        lambda: eventually(
            lambda: cluster_checks.check_nodes(cluster, expected), CLUSTER_TIMEOUT_S
        ),
    )
    recorder.run(
        "cluster/versions",
        "Kubernetes and containerd have the versions of the release",
        Area.CLUSTER,
        lambda: cluster_checks.check_versions(cluster, expected),
    )
    recorder.run(
        "cluster/pods-ready",
        "Every pod is running and ready",
        Area.CLUSTER,
        lambda: eventually(lambda: cluster_checks.check_pods(cluster, expected), CLUSTER_TIMEOUT_S),
    )
    recorder.run(
        "images/digests",
        "Every running container is, digest for digest, the bundle's",
        Area.IMAGES,
        lambda: cluster_checks.check_images(cluster, expected),
    )


def _check_use(recorder: Recorder, place: Scratch, expected: Expected) -> None:
    """What users will do."""

    def soon(
        action: Callable[[Scratch, Expected], Evidence], timeout_s: float = PROBE_TIMEOUT_S
    ) -> Callable[[], Evidence]:
        return lambda: eventually(lambda: action(place, expected), timeout_s)

    if recorder.run(
        "network/probes-start",
        "A pod starts on each node",
        Area.NETWORK,
        lambda: network.start_probes(place, expected),
    ):
        for name, title, action in (
            ("names-inside", "Pods resolve names of the cluster", network.check_inside_names),
            ("names-outside", "Names outside are refused at once", network.check_outside_names),
            ("pod-to-pod", "A pod on each node reaches each other node", network.check_pairs),
            ("service", "Pods reach a service by its name", network.check_service),
        ):
            recorder.run(f"network/{name}", title, Area.NETWORK, soon(action))
    recorder.run(
        "storage/default-class",
        "Claims get the site's storage class",
        Area.STORAGE,
        lambda: storage.check_default_class(place, expected),
    )
    recorder.run(
        "storage/volume-survives",
        "A volume survives its pod",
        Area.STORAGE,
        lambda: storage.check_volume(place, expected),
    )
    recorder.run(
        "objects/minio-servers",
        "MinIO's servers are ready",
        Area.OBJECTS,
        soon(objects.check_servers, OBJECT_TIMEOUT_S),
    )
    if recorder.run(
        "objects/minio-client",
        "MinIO's client starts",
        Area.OBJECTS,
        lambda: objects.start_client(place, expected),
    ):
        recorder.run(
            "objects/minio-stores-and-returns",
            "MinIO stores an object and returns it",
            Area.OBJECTS,
            soon(objects.check_object, OBJECT_TIMEOUT_S),
        )
