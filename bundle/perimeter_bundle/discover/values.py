"""What discovery says: images and how each was found, and what remains unexplained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perimeter_bundle.model.reference import ImageReference

if TYPE_CHECKING:
    from perimeter_bundle.discover.rules import ComposeRule


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a string stands.

    ``data[katib-config.yaml] -> runtime.suggestions[0].image`` is a place in a document inside a
    string, ``data[config] line 41`` one in text.
    """

    source: str  # kubeflow-pipelines/pipelines
    object: str  # Deployment/kubeflow/ml-pipeline; without a namespace kind/name
    path: str  # spec.template.spec.containers[0].env[26].value

    def __str__(self) -> str:
        return f"{self.source}: {self.object} {self.path}"


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """One reason why an image is needed: the extractor's or catalog rule's name, and the place."""

    rule: str
    written: str
    place: Place

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` and manifest/discovery.json hold it."""
        return {
            "rule": self.rule,
            "written": self.written,
            "source": self.place.source,
            "object": self.place.object,
            "path": self.place.path,
        }


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image the objects will pull."""

    reference: ImageReference
    evidence: tuple[Evidence, ...]

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "image": str(self.reference),
            "evidence": [one.to_dict() for one in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class ExcludedImage:
    """An image that is named and that a catalog rule leaves out."""

    reference: ImageReference
    reason: str
    rule: str
    evidence: tuple[Evidence, ...]

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "image": str(self.reference),
            "reason": self.reason,
            "rule": self.rule,
            "evidence": [one.to_dict() for one in self.evidence],
        }


@dataclass(frozen=True, slots=True, order=True)
class Unclassified:
    """A string that looks like an image reference, and that no rule explains."""

    text: str
    place: Place
    why: str

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "text": self.text,
            "why": self.why,
            "source": self.place.source,
            "object": self.place.object,
            "path": self.place.path,
        }

    def __str__(self) -> str:
        return f"{self.place}: {self.text!r}: {self.why}"


@dataclass(frozen=True, slots=True, order=True)
class NotImage:
    """A string that looks like a reference and is none, by the rule of this name."""

    text: str
    place: Place
    rule: str
    reason: str = ""

    def to_dict(self) -> dict[str, object]:
        """As manifest/discovery.json holds it."""
        return {
            "text": self.text,
            "rule": self.rule,
            "reason": self.reason,
            "source": self.place.source,
            "object": self.place.object,
            "path": self.place.path,
        }


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything found in some objects; sorted, so the same objects give the same value."""

    images: tuple[FoundImage, ...]
    excluded: tuple[ExcludedImage, ...]
    unclassified: tuple[Unclassified, ...]
    not_images: tuple[NotImage, ...]
    unused_rules: tuple[str, ...]
    compose: tuple[ComposeRule, ...] = ()  # the rules that put images together

    @property
    def complete(self) -> bool:
        """Whether every string is explained and every rule was needed."""
        return not self.unclassified and not self.unused_rules

    def references(self) -> tuple[ImageReference, ...]:
        """The images alone, sorted."""
        return tuple(image.reference for image in self.images)

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it and manifest/discovery.json holds it for each component."""
        return {
            "images": [one.to_dict() for one in self.images],
            "excluded": [one.to_dict() for one in self.excluded],
            "unclassified": [one.to_dict() for one in self.unclassified],
            "not_images": [one.to_dict() for one in self.not_images],
            "unused_rules": list(self.unused_rules),
            "compose": [one.to_dict() for one in self.compose],
        }
