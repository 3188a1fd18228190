"""Where an image is had when its own registry no longer has it, and what it is known to be.

Only a registry that lacks the image or cannot be reached sends the search on; one that has other
bytes than the catalog knows ends it, since that is what the known digest is for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import (
    InputError,
    IntegrityError,
    NetworkError,
    PerimeterError,
)
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.resolve import Resolved

# it is not there, or nobody is; an answer that is merely wrong is no reason to look elsewhere
GONE = frozenset(
    {
        *("not-found", "unauthorized", "forbidden"),
        *("connect-failed", "connection-broken", "timed-out"),
    }
)


@dataclass(frozen=True, slots=True)
class Sourcing:
    """What the catalog says about one image beside its name."""

    alternates: tuple[ImageReference, ...] = ()
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class FoundImage:
    """What an image resolved to; ``found_at`` is None when its own registry has it."""

    resolved: Resolved
    found_at: ImageReference | None


def sourcing_of(release: Release) -> Mapping[ImageReference, Sourcing]:
    """What the components of a release say together, by image."""
    found: dict[ImageReference, Sourcing] = {}
    for component in release.components:
        for image in (*component.images, *component.known_images):
            before = found.get(image.reference, Sourcing())
            alternates = dict.fromkeys((*before.alternates, *image.alternates))
            found[image.reference] = Sourcing(tuple(alternates), before.digest or image.digest)
    return found


def check_known_images(release: Release, wanted: Collection[ImageReference]) -> None:
    """Raises InputError[catalog-unused] when an entry speaks of an image that nothing needs."""
    problems = [
        f"{component.name}: {image.reference} is needed by nothing"
        for component in release.components
        for image in component.known_images
        if image.reference not in wanted
    ]
    if problems:
        raise InputError(
            "catalog-unused",
            "the catalog knows images that no longer occur",
            problems=problems,
            hint="remove the entries under images:, or give them a why when they are needed",
        )


def find_image(
    reference: ImageReference,
    sourcing: Sourcing,
    platforms: Sequence[Platform],
    upstream: Upstream,
) -> FoundImage:
    """The image at its own registry, else at the first alternate that has it.

    Raises IntegrityError[moved] when a place has other bytes than are known, NetworkError[gone]
    with what each place said, and what the registry client raises.
    """
    said: list[str] = []
    for place in (reference, *sourcing.alternates):
        try:
            resolved = upstream.images.resolve(place, platforms)
        except NetworkError as error:
            if error.code not in GONE or not sourcing.alternates:
                raise
            said.append(_reason(place, error))
            continue
        except InputError as error:  # nothing for the platform
            if place == reference:
                raise
            said.append(_reason(place, error))
            continue
        _refuse_moved(reference, place, sourcing.digest, resolved.digest)
        if place == reference:
            return FoundImage(resolved, None)
        _say_where(reference, place, sourcing.digest, said, upstream)
        return FoundImage(resolved, place)
    raise NetworkError(
        "gone",
        f"{reference} is at none of the {len(said)} places the catalog knows",
        problems=said,
        hint="name another place under alternates: of the image, or build it from source",
    )


def sourcing_problems(
    image: LockedImage, sourcing: Mapping[ImageReference, Sourcing]
) -> Sequence[str]:
    """Where a lock contradicts what the catalog says about the image now."""
    known = sourcing.get(image.reference, Sourcing())
    problems = []
    if known.digest and image.digest and known.digest != image.digest:
        problems.append(f"{image.reference}: the lock has {image.digest}, known is {known.digest}")
    if image.found_at and image.found_at not in known.alternates:
        problems.append(f"{image.reference}: {image.found_at} is no alternate in the catalog")
    return problems


def _refuse_moved(
    reference: ImageReference, place: ImageReference, known: Digest | None, found: Digest
) -> None:
    if known is None or known == found:
        return
    raise IntegrityError(
        "moved",
        f"{reference} stands for other bytes than the catalog knows",
        context={"known": known, "found": found, "at": place},
        hint="find out why it changed; a digest in the catalog is changed in the catalog alone",
    )


def _say_where(
    reference: ImageReference,
    place: ImageReference,
    known: Digest | None,
    said: Sequence[str],
    upstream: Upstream,
) -> None:
    checked = "its digest is the known one" if known else "NO KNOWN DIGEST SAYS IT IS THE SAME"
    text = f"{reference} is gone from its registry and was found at {place}; {checked}"
    upstream.files.on_event(Event(EventKind.WARNING, str(reference), f"{text} ({said[0]})"))


def _reason(place: ImageReference, error: PerimeterError) -> str:
    found = error.context.get("found") or error.context.get("there is")
    return f"{place}: {error.message}" + (f" ({found})" if found else "")
