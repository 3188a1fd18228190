"""Why an image is in a bundle, or is left out: from the lock, and from what discovery noted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.format.discovery_file import Noted, Reason
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.names import means, nearest


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything known about one image that was asked for."""

    image: ImageReference
    locked: LockedImage | None  # None: it is left out
    reasons: tuple[Reason, ...]
    excluded: tuple[tuple[str, str], ...]  # rule and reason

    @property
    def digest(self) -> Digest | None:
        """What the lock pins it to."""
        return self.locked.digest if self.locked else None

    def to_dict(self) -> dict[str, object]:
        """As ``why --json`` prints it."""
        return {
            "image": str(self.image),
            "bundled": self.locked is not None,
            "digest": str(self.digest) if self.digest else None,
            "components": list(self.locked.components) if self.locked else [],
            "why": list(self.locked.why) if self.locked else [],
            "evidence": [reason.to_dict() for reason in self.reasons],
            "excluded": [{"rule": rule, "reason": reason} for rule, reason in self.excluded],
        }


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
        _answer(reference, locked, by_image.get(reference, ()))
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
) -> Answer:
    return Answer(
        image=reference,
        locked=locked.get(reference),
        reasons=tuple(sorted({reason for one in noted for reason in one.reasons})),
        excluded=tuple(sorted({(o.excluded_by, o.excluded) for o in noted if o.excluded_by})),
    )


def _digests(image: LockedImage | None) -> tuple[Digest, ...]:
    if image is None:
        return ()
    return (*((image.digest,) if image.digest else ()), *image.manifests.values())
