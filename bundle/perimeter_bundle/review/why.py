"""Why an image is in a bundle, or is left out: from the lock, and from what discovery noted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from perimeter_bundle.format.discovery_file import Noted, Reason
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import (
    GO_BUILD_SCHEME,
    GO_MODULE_SCHEME,
    GoBuild,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
)
from perimeter_bundle.model.locked_dependency import LockedDependency
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.names import means, nearest


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything known about one image that was asked for."""

    image: ImageReference
    locked: LockedImage | None  # None: it is left out
    reasons: tuple[Reason, ...]
    excluded: tuple[tuple[str, str], ...]  # rule and reason
    made: tuple[LockedFile, ...] = ()  # with a compiled image: its source and what explains it

    @property
    def digest(self) -> Digest | None:
        """What the lock pins it to."""
        return self.locked.digest if self.locked else None

    @property
    def built(self) -> GoBuild | None:
        """What it is compiled from and with; None when it comes from a registry."""
        return self.locked.built if self.locked else None

    def to_dict(self) -> dict[str, object]:
        """As ``why --json`` prints it."""
        compiled = {} if self.built is None else {"compiled": self._compiled(self.built)}
        return {
            **compiled,
            "image": str(self.image),
            "bundled": self.locked is not None,
            "digest": str(self.digest) if self.digest else None,
            "components": list(self.locked.components) if self.locked else [],
            "why": list(self.locked.why) if self.locked else [],
            "evidence": [reason.to_dict() for reason in self.reasons],
            "excluded": [{"rule": rule, "reason": reason} for rule, reason in self.excluded],
        }

    def _compiled(self, built: GoBuild) -> dict[str, object]:
        return {
            "toolchain": built.toolchain,
            "base": str(built.base or ""),
            "recipe": str(built.recipe),
            "with": {str(file.reference): file.url for file in self.made},
        }


@dataclass(frozen=True, slots=True)
class ChartAnswer:
    """A chart that lies in another one."""

    chart: LockedChart
    dependency: LockedDependency

    @property
    def why(self) -> str:
        """Who asks for it."""
        return f"{self.chart.name} {self.chart.version} asks for {self.dependency.asked}"

    def to_dict(self) -> dict[str, object]:
        """As ``why --json`` prints it."""
        one = self.dependency
        return {
            "name": one.name,
            "version": one.version,
            "component": self.chart.component,
            "chart": self.chart.name,
            "place": one.place,
            "asked": one.asked,
            "url": one.url,
            "digest": str(one.digest),
        }


def explain_charts(query: str, lock: Lock) -> tuple[ChartAnswer, ...]:
    """Every chart inside another one that ``query`` names, by name, glob or address."""
    return tuple(
        ChartAnswer(chart, one)
        for chart in lock.charts
        for one in chart.dependencies
        if any(fnmatchcase(text, query) for text in (one.name, f"{one.name}:{one.version}"))
        or query in (one.url, str(one.digest))
    )


def explain(query: str, lock: Lock, noted: Sequence[Noted] = ()) -> tuple[Answer, ...]:
    """What is known about every image that ``query`` means, sorted.

    Raises InputError[unknown-image] with the nearest names.
    """
    locked = {image.reference: image for image in lock.images}
    by_image: dict[ImageReference, list[Noted]] = defaultdict(list)
    for one in noted:
        by_image[one.image].append(one)
    references = sorted({*locked, *by_image}, key=str)
    answers = tuple(
        _answer(reference, locked, by_image.get(reference, ()), lock.files)
        for reference in references
        if means(query, reference, _digests(locked.get(reference)))
    )
    if not answers:
        near = nearest(query, references)
        raise InputError(
            "unknown-image",
            f"release {lock.release} has no image {query!r}",
            hint=f"did you mean {', '.join(near)}?" if near else "a glob finds more: '*name*'",
        )
    return answers


def _answer(
    reference: ImageReference,
    locked: Mapping[ImageReference, LockedImage],
    noted: Sequence[Noted],
    files: Sequence[LockedFile],
) -> Answer:
    found = locked.get(reference)
    return Answer(
        image=reference,
        locked=found,
        made=_made_with(found, files) if found and found.built else (),
        reasons=tuple(sorted({reason for one in noted for reason in one.reasons})),
        excluded=tuple(sorted({(o.excluded_by, o.excluded) for o in noted if o.excluded_by})),
    )


def _made_with(image: LockedImage, files: Sequence[LockedFile]) -> tuple[LockedFile, ...]:
    source = f"{image.reference.repository.rpartition('/')[2]}-source"
    return tuple(
        file
        for file in files
        if file.url.startswith(f"{GO_BUILD_SCHEME}{image.reference}/")
        or (file.name == source and file.url.startswith(GO_MODULE_SCHEME))
    )


def _digests(image: LockedImage | None) -> tuple[Digest, ...]:
    if image is None:
        return ()
    return (*((image.digest,) if image.digest else ()), *image.manifests.values())
