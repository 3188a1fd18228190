"""Kubernetes objects as plain values: read, overlaid, and put into the order of readiness. Pure.

Order: namespaces · custom resource definitions · configuration and rights · the workloads behind
webhooks · webhooks · everything else. Who applies waits between them for what the next one needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import yaml

from perimeter_bundle.model.errors import InputError

Object = Mapping[str, object]


class Wave(IntEnum):
    """Groups of objects in the order in which they are applied."""

    NAMESPACES = 0
    DEFINITIONS = 1
    CONFIGURATION = 2
    WEBHOOK_WORKLOADS = 3
    WEBHOOKS = 4
    REST = 5


WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job"})
_WEBHOOKS = frozenset(
    {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "APIService"}
)
_CONFIGURATION_KINDS = (
    *("PriorityClass", "RuntimeClass", "StorageClass", "IngressClass", "CSIDriver"),
    *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    *("ConfigMap", "Secret", "LimitRange", "ResourceQuota", "NetworkPolicy"),
    *("PodDisruptionBudget", "PersistentVolume", "PersistentVolumeClaim", "Service"),
    "ValidatingAdmissionPolicy",
)
_CORE_GROUPS = frozenset(
    {
        *("", "apps", "batch", "policy", "rbac.authorization.k8s.io", "storage.k8s.io"),
        *("networking.k8s.io", "scheduling.k8s.io", "node.k8s.io", "autoscaling"),
        *("admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"),
    }
)


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A service that the API server calls: of a webhook, a conversion or an aggregated API."""

    namespace: str
    name: str
    port: int = 443


def identity(obj: Object, namespace: str = "") -> str:
    """``Deployment/minio/server``; without namespace for objects that have none."""
    own = text(obj, "metadata", "namespace") or namespace
    parts = (text(obj, "kind"), own, text(obj, "metadata", "name"))
    return "/".join(part for part in parts if part)


def read_objects(documents: Iterable[bytes], source: str) -> tuple[Object, ...]:
    """All objects in YAML documents, lists taken apart; raises InputError[bad-manifest]."""
    objects: list[Object] = []
    for data in documents:
        try:
            for document in yaml.load_all(data, Loader=_Loader):
                if document is not None:
                    objects += _flatten(document, source)
        except yaml.YAMLError as error:
            raise InputError("bad-manifest", f"{source} is not YAML: {error}") from error
    return tuple(objects)


def check_objects(objects: Iterable[object], source: str) -> tuple[Object, ...]:
    """``objects`` with lists taken apart; raises InputError[bad-manifest]."""
    return tuple(found for one in objects for found in _flatten(one, source))


def with_overlays(objects: Sequence[Object], overlays: Iterable[Object]) -> tuple[Object, ...]:
    """``objects`` with each overlay merged over the object of its kind, namespace and name.

    Maps merge; a null removes; lists of named items merge by name; other lists are replaced.
    Raises InputError[overlay-without-object].
    """
    merged = {identity(obj): obj for obj in objects}
    for overlay in overlays:
        name = identity(overlay)
        if name not in merged:
            raise InputError(
                "overlay-without-object",
                f"an overlay is for {name}, which is not among the objects",
                hint=f"objects are: {', '.join(sorted(merged))}"[:1000],
            )
        combined = _merge(merged[name], overlay)
        assert isinstance(combined, dict)  # noqa: S101 - two maps give a map
        merged[name] = combined
    return tuple(merged.values())


def in_order(objects: Iterable[Object], namespace: str = "") -> dict[Wave, tuple[Object, ...]]:
    """Every object in its wave, within a wave by kind as dependencies go, then as given."""
    listed = list(objects)
    services = set(called_services(listed))
    backing = {id(obj) for obj in listed if _backs(obj, listed, services, namespace)}
    waves: dict[Wave, list[Object]] = {wave: [] for wave in Wave}
    for obj in listed:
        waves[_wave(obj, id(obj) in backing)].append(obj)
    waves[Wave.CONFIGURATION].sort(key=lambda obj: _CONFIGURATION_KINDS.index(text(obj, "kind")))
    return {wave: tuple(found) for wave, found in waves.items()}


def called_services(objects: Iterable[Object]) -> Iterator[ServiceName]:
    """Every service that the API server must reach before objects like these work."""
    for obj in objects:
        kind = text(obj, "kind")
        if kind == "APIService":
            yield from _service(dig(obj, "spec", "service"))
        elif kind == "CustomResourceDefinition":
            yield from _service(
                dig(obj, "spec", "conversion", "webhook", "clientConfig", "service")
            )
        elif kind in _WEBHOOKS:
            webhooks = dig(obj, "webhooks")
            for webhook in webhooks if isinstance(webhooks, list) else ():
                yield from _service(dig(webhook, "clientConfig", "service"))


def dig(value: object, *keys: str) -> object:
    """What lies at ``keys``; None where nothing does."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text(value: object, *keys: str) -> str:
    """The text at ``keys``; empty where there is none."""
    found = dig(value, *keys)
    return found if isinstance(found, str) else ""


def number(value: object, *keys: str) -> int:
    """The whole number at ``keys``; 0 where there is none, as Kubernetes leaves zeros out."""
    found = dig(value, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def comparable(obj: Object) -> Object:
    """``obj`` without what the server counts and reports; equal when nothing was changed."""
    metadata = dig(obj, "metadata")
    kept = {key: value for key, value in obj.items() if key not in ("status", "metadata")}
    if isinstance(metadata, Mapping):
        unstable = ("resourceVersion", "managedFields", "generation", "uid", "creationTimestamp")
        kept["metadata"] = {key: one for key, one in metadata.items() if key not in unstable}
    return kept


class _Loader(yaml.SafeLoader):
    """YAML without timestamps: Kubernetes has none, JSON neither."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _flatten(document: object, source: str) -> Iterator[Object]:
    if not isinstance(document, Mapping) or not text(document, "kind"):
        raise InputError("bad-manifest", f"{source} holds something that is no Kubernetes object")
    items = document.get("items")
    if text(document, "kind").endswith("List") and isinstance(items, list):
        for item in items:
            yield from _flatten(item, source)
        return
    if not text(document, "apiVersion") or not text(document, "metadata", "name"):
        raise InputError(
            "bad-manifest", f"a {text(document, 'kind')} in {source} has no apiVersion or no name"
        )
    yield document


def _merge(base: object, over: object) -> object:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        merged = {key: value for key, value in base.items() if over.get(key, value) is not None}
        for key, value in over.items():
            if value is not None:
                merged[key] = _merge(base.get(key), value)
        return merged
    if _named(base) and _named(over):
        assert isinstance(base, list) and isinstance(over, list)  # noqa: S101
        by_name = {item["name"]: item for item in base}
        for item in over:
            by_name[item["name"]] = _merge(by_name.get(item["name"]), item)
        return list(by_name.values())
    return over


def _named(value: object) -> bool:
    """Whether ``value`` is a list of maps that all have a name."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and "name" in item for item in value)
    )


def _wave(obj: Object, backs_webhook: bool) -> Wave:
    kind = text(obj, "kind")
    group = text(obj, "apiVersion").rpartition("/")[0]
    if group not in _CORE_GROUPS:
        return Wave.REST
    if kind == "Namespace":
        return Wave.NAMESPACES
    if kind == "CustomResourceDefinition":
        return Wave.DEFINITIONS
    if kind in _WEBHOOKS:
        return Wave.WEBHOOKS
    if kind in _CONFIGURATION_KINDS:
        return Wave.CONFIGURATION
    return Wave.WEBHOOK_WORKLOADS if backs_webhook else Wave.REST


def _backs(
    obj: Object, objects: Iterable[Object], services: set[ServiceName], namespace: str
) -> bool:
    """Whether a service that the API server calls selects the pods of this workload."""
    labels = dig(obj, "spec", "template", "metadata", "labels")
    if text(obj, "kind") not in WORKLOADS or not isinstance(labels, Mapping):
        return False
    called = {(one.namespace, one.name) for one in services}
    own = text(obj, "metadata", "namespace") or namespace
    for service in objects:
        selector = dig(service, "spec", "selector")
        if text(service, "kind") != "Service" or not isinstance(selector, Mapping) or not selector:
            continue
        where = text(service, "metadata", "namespace") or namespace
        if where != own or (where, text(service, "metadata", "name")) not in called:
            continue
        if all(labels.get(key) == value for key, value in selector.items()):
            return True
    return False


def _service(value: object) -> Iterator[ServiceName]:
    if text(value, "name"):
        port = number(value, "port") or 443
        yield ServiceName(text(value, "namespace"), text(value, "name"), port)
