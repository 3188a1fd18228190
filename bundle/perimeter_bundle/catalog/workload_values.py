"""What a site's workloads.yaml asks for, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.collect.requirements import Requirement
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference


@dataclass(frozen=True, slots=True)
class WorkloadImage:
    """An image the site's own people run; ``reference`` is its name at the site."""

    reference: ImageReference
    why: str
    licence: str
    origin: ImageOrigin
    path: Path | None  # of a layout or archive on this machine
    name: str  # which image of a layout, archive or engine; empty: the one called ``reference``

    @property
    def shown(self) -> str:
        """How messages call where it comes from."""
        if self.origin is ImageOrigin.REGISTRY:
            return str(self.reference)
        parts = [self.origin.value, str(self.path or ""), self.name]
        return ":".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class PythonPackages:
    """Python packages for the site's own index, and for whom."""

    requirements: tuple[Requirement, ...] = ()  # without hashes where only a version was given
    pythons: tuple[str, ...] = ()  # such as 3.12
    platforms: tuple[Platform, ...] = ()  # none: those of the release
    provided: tuple[str, ...] = ()  # what the images have already


@dataclass(frozen=True, slots=True)
class Workloads:
    """Everything a workloads.yaml says."""

    images: tuple[WorkloadImage, ...] = ()
    python: PythonPackages = PythonPackages()


NO_WORKLOADS = Workloads()
