"""Which pods are in trouble, and how the report lists hosts."""

from __future__ import annotations

from dataclasses import replace

from perimeter_installer.check.cluster import unready
from perimeter_installer.check.kube import ContainerState, PodState

GOOD = ContainerState("c", "image", "id", ready=True, waiting="")
BAD = replace(GOOD, ready=False, waiting="CrashLoopBackOff")
POD = PodState(
    namespace="kube-system",
    name="coredns-1",
    node="n1",
    phase="Running",
    reason="",
    address="10.244.0.2",
    terminating=False,
    containers=(GOOD,),
    init_containers=(),
)


def test_running_and_finished_pods_are_no_trouble() -> None:
    job = replace(POD, phase="Succeeded", containers=(replace(GOOD, ready=False),))
    assert unready([POD, job], []) == ()


def test_pod_whose_container_is_not_ready_is_named_with_its_reason() -> None:
    pod = replace(POD, containers=(GOOD, BAD))
    assert unready([pod], []) == (pod,)
    assert pod.trouble == "Running, CrashLoopBackOff"


def test_evicted_pod_tells_why() -> None:
    pod = replace(POD, phase="Failed", reason="Evicted")
    assert unready([pod], []) == (pod,)
    assert pod.trouble == "Evicted"


def test_pod_without_containers_is_not_ready() -> None:
    assert not replace(POD, containers=()).ready


def test_pods_of_a_node_that_is_off_do_not_count() -> None:
    on_it = replace(POD, node="n3", containers=(BAD,))
    waiting = replace(POD, node="", phase="Pending", containers=())
    assert unready([on_it, waiting], ["n3"]) == ()
    assert unready([waiting], []) == (waiting,)


def test_pod_that_is_being_taken_away_does_not_count() -> None:
    assert unready([replace(POD, terminating=True, containers=(BAD,))], []) == ()
