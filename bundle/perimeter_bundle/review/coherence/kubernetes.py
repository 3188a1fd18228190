"""Whether what is installed fits the release's own Kubernetes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from perimeter_bundle.charts.versions import Range, Triple, Version
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.review.coherence.facts import ChartFact, ObjectFact
from perimeter_bundle.review.coherence.values import Finding, Severity, Spot

REMOVALS = "https://kubernetes.io/docs/reference/using-api/deprecation-guide/"

# (apiVersion, kind, the Kubernetes that no longer serves it); from REMOVALS
_REMOVED: tuple[tuple[str, str, Triple], ...] = (
    ("extensions/v1beta1", "Ingress", (1, 22, 0)),
    ("extensions/v1beta1", "*", (1, 16, 0)),
    ("apps/v1beta1", "*", (1, 16, 0)),
    ("apps/v1beta2", "*", (1, 16, 0)),
    ("admissionregistration.k8s.io/v1beta1", "*WebhookConfiguration", (1, 22, 0)),
    ("apiextensions.k8s.io/v1beta1", "*", (1, 22, 0)),
    ("apiregistration.k8s.io/v1beta1", "*", (1, 22, 0)),
    ("authentication.k8s.io/v1beta1", "TokenReview", (1, 22, 0)),
    ("authorization.k8s.io/v1beta1", "*", (1, 22, 0)),
    ("certificates.k8s.io/v1beta1", "CertificateSigningRequest", (1, 22, 0)),
    ("coordination.k8s.io/v1beta1", "Lease", (1, 22, 0)),
    ("networking.k8s.io/v1beta1", "Ingress", (1, 22, 0)),
    ("networking.k8s.io/v1beta1", "IngressClass", (1, 22, 0)),
    ("rbac.authorization.k8s.io/v1beta1", "*", (1, 22, 0)),
    ("scheduling.k8s.io/v1beta1", "PriorityClass", (1, 22, 0)),
    ("storage.k8s.io/v1beta1", "CSIDriver", (1, 22, 0)),
    ("storage.k8s.io/v1beta1", "CSINode", (1, 22, 0)),
    ("storage.k8s.io/v1beta1", "StorageClass", (1, 22, 0)),
    ("storage.k8s.io/v1beta1", "VolumeAttachment", (1, 22, 0)),
    ("batch/v1beta1", "CronJob", (1, 25, 0)),
    ("discovery.k8s.io/v1beta1", "EndpointSlice", (1, 25, 0)),
    ("events.k8s.io/v1beta1", "Event", (1, 25, 0)),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler", (1, 25, 0)),
    ("policy/v1beta1", "*", (1, 25, 0)),
    ("node.k8s.io/v1beta1", "RuntimeClass", (1, 25, 0)),
    ("flowcontrol.apiserver.k8s.io/v1beta1", "*", (1, 26, 0)),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler", (1, 26, 0)),
    ("storage.k8s.io/v1beta1", "CSIStorageCapacity", (1, 27, 0)),
    ("flowcontrol.apiserver.k8s.io/v1beta2", "*", (1, 29, 0)),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "*", (1, 32, 0)),
)


def removed_apis(objects: Sequence[ObjectFact], kubernetes: str) -> Iterator[Finding]:
    """Objects of an API version that this Kubernetes does not serve any more."""
    version = Version.parse(kubernetes).triple
    found: dict[tuple[str, str], list[ObjectFact]] = defaultdict(list)
    for one in objects:
        gone = removed_in(one.api_version, one.kind)
        if gone is not None and version >= gone:
            found[one.api_version, one.kind].append(one)
    for (api_version, kind), some in sorted(found.items()):
        gone = removed_in(api_version, kind) or version
        yield Finding(
            rule="removed-api",
            subject=f"{api_version}/{kind}",
            severity=Severity.ERROR,
            title=f"{api_version} {kind} is gone since Kubernetes {gone[0]}.{gone[1]}; "
            f"the release has {kubernetes}",
            why=f"the API server refuses it; {REMOVALS}",
            spots=tuple(Spot(o.component, o.title, "apiVersion", o.api_version) for o in some),
            what_to_do="take a newer version of the component, or values that use a newer API",
        )


def removed_in(api_version: str, kind: str) -> Triple | None:
    """The first Kubernetes that does not serve it; None when it is served, or not its own."""
    for name, kinds, gone in _REMOVED:
        if name == api_version and fnmatchcase(kind, kinds):
            return gone
    return None


def kubernetes_ranges(charts: Sequence[ChartFact], kubernetes: str) -> Iterator[Finding]:
    """Charts that say they are not for this Kubernetes."""
    version = Version.parse(kubernetes)
    for chart in sorted(charts, key=lambda one: (one.name, one.component)):
        if not chart.kube_version:
            continue
        try:
            if Range.parse(chart.kube_version).allows(version):
                continue
        except InputError:
            severity, says = Severity.NOTE, "which is not a range that can be read"
        else:
            severity, says = Severity.ERROR, f"the release has {kubernetes}"
        yield Finding(
            rule="kubernetes-range",
            subject=chart.name,
            severity=severity,
            title=f"chart {chart.name} {chart.version} wants Kubernetes "
            f"{chart.kube_version}; {says}",
            why="helm refuses to install it, or it was never tried with this Kubernetes",
            spots=(Spot(chart.component, "Chart.yaml", "kubeVersion", chart.kube_version),),
            what_to_do="take another version of the chart or of Kubernetes",
        )
