"""The phases of an installation, in their order, and which components this version installs.

A bundle may carry more than the perimeter beside it can install: it is loaded into the site's
registries all the same, and both programs say so instead of passing over it.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """The step of ``apply`` that installs a component; docs/apply.md says what each does."""

    TOOLS = "tools"  # used on the jump host by later steps; no step of its own
    REGISTRY = "registry"
    NODE = "node"
    CONTAINERD = "containerd"
    KUBERNETES = "kubernetes"
    NETWORK = "network"
    STORAGE = "storage"
    MINIO = "minio"
    CERT_MANAGER = "cert-manager"
    ISTIO = "istio"
    AUTH = "auth"
    KNATIVE = "knative"
    KUBEFLOW = "kubeflow"
    GPU = "gpu"
    MYSQL = "mysql"
    MONITORING = "monitoring"

    @property
    def place(self) -> int:
        """Its place in the order of installation, from 0."""
        return _PLACES[self]


_PLACES = {phase: place for place, phase in enumerate(Phase)}

# What the roles of this version install. They read files, charts and values of these components by
# name; any other component, of whatever phase, is carried and nothing more.
_INSTALLED = frozenset(
    {
        *("go", "helm", "kustomize", "registry", "containerd", "runc", "cni-plugins", "cri-tools"),
        *("kubernetes", "flannel", "local-path-provisioner", "minio"),
    }
)
_PHASES_WITH_ROLE = frozenset(phase.value for phase in Phase if phase.place <= Phase.MINIO.place)
CARRIED = "carried, not installed by this version"


def is_installed(component: str, phase: str) -> bool:
    """Whether ``apply`` of this version installs the component; False for an unknown phase."""
    return component in _INSTALLED and phase in _PHASES_WITH_ROLE
