"""What is known about a release, in the form in which the rules look at it."""

from __future__ import annotations

from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.rules import Product
from perimeter_bundle.review.coherence.values import Spot


@dataclass(frozen=True, slots=True)
class Use:
    """An image in one place that asks for it."""

    reference: ImageReference
    component: str
    object_name: str
    path: str
    written: str

    @property
    def namespace(self) -> str:
        """Of the object (kind/namespace/name); empty when it has none."""
        parts = self.object_name.split("/")
        return parts[1] if len(parts) == 3 else ""

    @property
    def spot(self) -> Spot:
        """The place, with the full reference."""
        return Spot(self.component, self.object_name, self.path, str(self.reference))


@dataclass(frozen=True, slots=True)
class ObjectFact:
    """What the rules need to know of one Kubernetes object."""

    component: str
    source: str  # the chart, kustomization or file it is from
    api_version: str
    kind: str
    namespace: str
    name: str
    is_cluster_wide: bool
    content: Digest  # of everything
    spec: Digest  # of everything but metadata
    always: tuple[str, ...]  # places with imagePullPolicy: Always
    version_label: str  # app.kubernetes.io/version of a workload
    tags: tuple[str, ...]  # of a workload's containers
    cluster_kind: str = ""  # of a CustomResourceDefinition with scope Cluster: group/kind

    @property
    def title(self) -> str:
        """Kind/namespace/name."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    @property
    def origin(self) -> str:
        """Component and source."""
        return f"{self.component}/{self.source}"

    @property
    def group(self) -> str:
        """``apps`` of ``apps/v1``; empty for the core."""
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class ChartFact:
    """What a chart says about itself."""

    component: str
    name: str
    version: str
    app_version: str
    kube_version: str  # the range it wants; empty: any


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything; a rule looks at what it needs, and without it finds nothing."""

    uses: tuple[Use, ...] = ()
    objects: tuple[ObjectFact, ...] = ()
    charts: tuple[ChartFact, ...] = ()
    products: tuple[tuple[str, Product], ...] = ()  # with the component that says so
    kubernetes: str = ""  # such as v1.34.4; empty: the release installs none
    lock: Lock | None = None
