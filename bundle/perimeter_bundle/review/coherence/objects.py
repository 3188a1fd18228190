"""Kubernetes objects → facts, and what they say when they are looked at together."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import ChartFact, ObjectFact, Use
from perimeter_bundle.review.coherence.values import Finding, Severity, Spot
from perimeter_bundle.review.coherence.versions import tag_version

VERSION_LABEL = "app.kubernetes.io/version"
_CRD = "CustomResourceDefinition"
_ALWAYS_IN_TEXT = re.compile(r"""["']?imagePullPolicy["']?\s*:\s*["']?Always\b""")

# Kinds of Kubernetes itself that belong to no namespace (kubectl api-resources --namespaced=false)
_CLUSTER_KIND_NAMES = (
    "APIService CertificateSigningRequest ClusterRole ClusterRoleBinding ClusterTrustBundle "
    "ComponentStatus CSIDriver CSINode CustomResourceDefinition DeviceClass FlowSchema "
    "IngressClass IPAddress MutatingAdmissionPolicy MutatingAdmissionPolicyBinding "
    "MutatingWebhookConfiguration Namespace Node PersistentVolume PriorityClass "
    "PriorityLevelConfiguration ResourceSlice RuntimeClass ServiceCIDR StorageClass "
    "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration "
    "VolumeAttachment VolumeAttributesClass"
)
_CLUSTER_KINDS = frozenset(_CLUSTER_KIND_NAMES.split())


def object_facts(component: str, source: str, objects: Iterable[object]) -> Iterator[ObjectFact]:
    """What the rules need of each object; what is no Kubernetes object is left out.

    ``objects`` have been through discovery, which refuses trees that aliases blow up.
    """
    for item in objects:
        if isinstance(item, dict) and isinstance(item.get("kind"), str):
            yield _fact(component, source, item)


def always_pulled(objects: Sequence[ObjectFact]) -> Iterator[Finding]:
    """Containers that are pulled each time they start, by component."""
    found: dict[str, list[Spot]] = defaultdict(list)
    for one in objects:
        for path in one.always:
            spot = Spot(one.component, one.title, path, "imagePullPolicy: Always")
            found[one.component].append(spot)
    for component, spots in sorted(found.items()):
        yield Finding(
            rule="always-pulled",
            subject=component,
            severity=Severity.NOTE,
            title=f"{component}: imagePullPolicy is Always in {_places(len(set(spots)))}",
            why="each start asks the site's registry, which must be up; images that are only "
            "loaded on the nodes do not do",
            spots=tuple(spots),
            what_to_do="nothing with the site's registries; they answer for every upstream name",
        )


def twice_defined(objects: Sequence[ObjectFact]) -> Iterator[Finding]:
    """Objects that two sources bring: of a cluster there is one, so the last one applied wins."""
    cluster_kinds = {one.cluster_kind for one in objects if one.cluster_kind}
    by_identity: dict[tuple[str, str, str, str], list[ObjectFact]] = defaultdict(list)
    for one in objects:
        is_cluster_wide = one.is_cluster_wide or f"{one.group}/{one.kind}" in cluster_kinds
        if one.name and (one.namespace or is_cluster_wide):
            by_identity[one.group, one.kind, one.namespace, one.name].append(one)
    same: dict[str, list[ObjectFact]] = defaultdict(list)
    for _, some in sorted(by_identity.items()):
        if len({one.origin for one in some}) == 1:
            continue
        if len({one.content for one in some}) == 1:
            same["+".join(sorted({one.origin for one in some}))] += some
        else:
            yield _twice_and_different(some)
    for origins, some in sorted(same.items()):
        yield _twice_and_same(origins, some)


def version_labels(
    objects: Sequence[ObjectFact], charts: Sequence[ChartFact], uses: Sequence[Use]
) -> Iterator[Finding]:
    """Where a label or a chart's appVersion says another version than every image there has."""
    found: dict[str, list[Spot]] = defaultdict(list)
    for one in objects:
        if one.version_label and _is_other(one.version_label, one.tags):
            seen = f"{one.version_label}, but {', '.join(one.tags)}"
            path = f"metadata.labels[{VERSION_LABEL}]"
            found[one.component].append(Spot(one.component, one.title, path, seen))
    for chart in charts:
        tags = sorted({use.reference.tag for use in uses if use.component == chart.component})
        if chart.app_version and _is_other(chart.app_version, tags):
            seen = f"{chart.app_version}, but {', '.join(tags)}"
            spot = Spot(chart.component, f"chart {chart.name}", "appVersion", seen)
            found[chart.component].append(spot)
    for component, spots in sorted(found.items()):
        yield Finding(
            rule="version-label",
            subject=component,
            severity=Severity.NOTE,
            title=f"{component}: what says its version differs from its images in "
            f"{_places(len(spots))}",
            why="people and tools read the version there and look up the wrong release notes "
            "and vulnerabilities",
            spots=tuple(spots),
            what_to_do="nothing when values set the images on purpose; else look which is meant",
        )


def _is_other(says: str, tags: Sequence[str]) -> bool:
    version = tag_version(says)
    versions = {tag_version(tag) for tag in tags} - {None}
    return version is not None and bool(versions) and version not in versions


def _twice_and_different(some: Sequence[ObjectFact]) -> Finding:
    title, origins = some[0].title, " and ".join(sorted({one.origin for one in some}))
    severity, how = Severity.ERROR, "with different content"
    if len({one.spec for one in some}) == 1:
        severity, how = Severity.WARNING, "with other labels or annotations"
    return Finding(
        rule="twice-defined",
        subject=title,
        severity=severity,
        title=f"{title} comes from {origins}, {how}",
        why="there is one in a cluster: what is applied last wins, and taking one component out "
        "takes it from the other",
        spots=tuple(Spot(one.component, title, one.source, one.api_version) for one in some),
        what_to_do="leave it out of one of them (values, or a patch in the overlay)",
    )


def _twice_and_same(origins: str, some: Sequence[ObjectFact]) -> Finding:
    count = len({one.title for one in some})
    return Finding(
        rule="twice-the-same",
        subject=origins,
        severity=Severity.NOTE,
        title=f"{count} object{'s come' if count > 1 else ' comes'} from "
        f"{origins.replace('+', ' and ')}, with the same content",
        why="there is one in a cluster: taking one component out takes it from the other",
        spots=tuple(Spot(one.component, one.title, one.source, one.api_version) for one in some),
        what_to_do="nothing, as long as both are installed",
    )


def _fact(component: str, source: str, item: Mapping[object, object]) -> ObjectFact:
    kind, metadata = str(item["kind"]), _mapping(item.get("metadata"))
    rest = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    is_crd = kind == _CRD
    spec = _mapping(item.get("spec"))
    template = _mapping(_mapping(spec.get("template")).get("spec"))
    is_workload = isinstance(template.get("containers"), list)
    tags = tuple(_tags(template)) if is_workload else ()
    cluster_kind = ""
    if is_crd and spec.get("scope") == "Cluster":
        cluster_kind = f"{spec.get('group')}/{_mapping(spec.get('names')).get('kind')}"
    namespace = _text(metadata.get("namespace"))
    return ObjectFact(
        component=component,
        source=source,
        api_version=_text(item.get("apiVersion")),
        kind=kind,
        namespace=namespace,
        name=_text(metadata.get("name")),
        is_cluster_wide=not namespace and kind in _CLUSTER_KINDS,
        content=_digest({**rest, "metadata": metadata}),
        spec=_digest(rest),
        always=() if is_crd else tuple(_always(item, "")),
        version_label=_version_label(_mapping(metadata.get("labels")), tags),
        tags=tags,
        cluster_kind=cluster_kind,
    )


def _version_label(labels: Mapping[object, object], tags: Sequence[str]) -> str:
    """The label; empty where a chart writes its own version there (``chart: stack-88.5.3``)."""
    text = _text(labels.get(VERSION_LABEL))
    is_of_chart = any(str(value).endswith(f"-{text}") for value in labels.values())
    version, versions = tag_version(text), [tag_version(tag) for tag in tags]
    is_near = version is not None and any(one and one.is_near(version) for one in versions)
    return text if is_near or not is_of_chart else ""


def _always(node: object, path: str) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("imagePullPolicy") == "Always" and "image" in node:
            yield f"{path}.imagePullPolicy"
        for key, value in node.items():
            if path in ("data", "stringData") and isinstance(value, str):
                for match in _ALWAYS_IN_TEXT.finditer(value):
                    yield f"{path}[{key}] line {value.count(chr(10), 0, match.start()) + 1}"
            else:
                yield from _always(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _always(value, f"{path}[{index}]")


def _tags(pod: Mapping[object, object]) -> list[str]:
    tags = set()
    for name in ("initContainers", "containers"):
        containers = pod.get(name)
        for container in containers if isinstance(containers, list) else ():
            image = _mapping(container).get("image")
            try:
                tags.add(ImageReference.parse(_text(image)).tag)
            except InputError:
                continue  # discovery tells of what is no reference
    return sorted(tags)


def _digest(value: object) -> Digest:
    try:
        text = json.dumps(value, sort_keys=True, default=str)
    except TypeError:  # keys that are not all text cannot be sorted
        text = repr(value)
    return Digest.of_bytes(text.encode("utf-8", "backslashreplace"))


def _places(count: int) -> str:
    return f"{count} place{'s' if count > 1 else ''}"


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
