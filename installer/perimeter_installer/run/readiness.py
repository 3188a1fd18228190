"""Is an object ready, and if not, why: judged from what the API server says of it. Pure.

The rules are those of ``kubectl rollout status``.
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from perimeter_installer.run.kube_objects import Object, dig, number, text


def why_not_ready(obj: Object) -> str:
    """What is missing until ``obj`` is ready; empty when it is, or when its kind has no state."""
    judge = _JUDGES.get(text(obj, "kind"))
    return judge(obj) if judge else ""


def is_hopeless(obj: Object) -> bool:
    """Whether waiting is of no use: a job that failed for good."""
    return text(obj, "kind") == "Job" and _condition(obj, "Failed") == "True"


def pod_troubles(pods: Iterable[Object]) -> Iterator[str]:
    """One line for each pod that does not run, with what the kubelet says."""
    for pod in pods:
        name = text(pod, "metadata", "name")
        statuses = dig(pod, "status", "containerStatuses")
        initial = dig(pod, "status", "initContainerStatuses")
        troubles = [
            f"{text(status, 'name')}: {text(waiting, 'reason')} {text(waiting, 'message')}".strip()
            for group in (initial, statuses)
            for status in (group if isinstance(group, list) else ())
            if (waiting := dig(status, "state", "waiting")) and text(waiting, "reason")
        ]
        if not troubles and text(pod, "status", "phase") == "Pending":
            troubles = [_message(pod, "PodScheduled") or "is not scheduled yet"]
        for trouble in troubles:
            yield f"pod {name}: {trouble[:300]}"


def _namespace(obj: Object) -> str:
    phase = text(obj, "status", "phase")
    return "" if phase == "Active" else f"it is {phase or 'not there'}"


def _definition(obj: Object) -> str:
    if _condition(obj, "NamesAccepted") == "False":
        return f"its names are taken: {_message(obj, 'NamesAccepted')}"
    return "" if _condition(obj, "Established") == "True" else "it is not established"


def _deployment(obj: Object) -> str:
    wanted = _wanted(obj)
    if _condition(obj, "Progressing") == "False":
        return f"it does not progress: {_message(obj, 'Progressing')}"
    return (
        _seen(obj)
        or _count(obj, "updatedReplicas", wanted, "updated")
        or _count(obj, "availableReplicas", wanted, "available")
        or _gone(obj, wanted)
    )


def _stateful_set(obj: Object) -> str:
    wanted = _wanted(obj)
    if text(obj, "spec", "updateStrategy", "type") == "OnDelete":
        return _seen(obj) or _count(obj, "readyReplicas", wanted, "ready")
    return (
        _seen(obj)
        or _count(obj, "updatedReplicas", wanted, "updated")
        or _count(obj, "readyReplicas", wanted, "ready")
    )


def _daemon_set(obj: Object) -> str:
    wanted = number(obj, "status", "desiredNumberScheduled")
    if text(obj, "spec", "updateStrategy", "type") == "OnDelete":
        return _seen(obj) or _count(obj, "numberReady", wanted, "ready")
    return (
        _seen(obj)
        or _count(obj, "updatedNumberScheduled", wanted, "updated")
        or _count(obj, "numberReady", wanted, "ready")
    )


def _job(obj: Object) -> str:
    if _condition(obj, "Failed") == "True":
        return f"it failed: {_message(obj, 'Failed')}"
    return "" if _condition(obj, "Complete") == "True" else "it is not complete"


def _api_service(obj: Object) -> str:
    available = _condition(obj, "Available") == "True"
    return "" if available else _message(obj, "Available") or "it is not available"


def _claim(obj: Object) -> str:
    # with WaitForFirstConsumer a claim stays pending until a pod wants it
    return f"it is {text(obj, 'status', 'phase')}" if text(obj, "status", "phase") == "Lost" else ""


_JUDGES: dict[str, Callable[[Object], str]] = {
    "Namespace": _namespace,
    "CustomResourceDefinition": _definition,
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "APIService": _api_service,
    "PersistentVolumeClaim": _claim,
}


def _wanted(obj: Object) -> int:
    replicas = dig(obj, "spec", "replicas")
    return replicas if isinstance(replicas, int) else 1


def _seen(obj: Object) -> str:
    observed = number(obj, "status", "observedGeneration")
    return "" if observed >= number(obj, "metadata", "generation") else "it is not looked at yet"


def _count(obj: Object, field: str, wanted: int, what: str) -> str:
    found = number(obj, "status", field)
    return "" if found >= wanted else f"{found} of {wanted} {what}"


def _gone(obj: Object, wanted: int) -> str:
    replicas = number(obj, "status", "replicas")
    return f"{replicas - wanted} old pods are still there" if replicas > wanted else ""


def _find(obj: Object, kind: str) -> object:
    conditions = dig(obj, "status", "conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        if text(condition, "type") == kind:
            return condition
    return None


def _condition(obj: Object, kind: str) -> str:
    return text(_find(obj, kind), "status")


def _message(obj: Object, kind: str) -> str:
    return text(_find(obj, kind), "message")
