"""What the site's values may make of rendered objects: nothing that the builder did not explain.

1. An image is fine when the bundle holds it.
2. It is fine where the builder left it out: the same object of the same component, by a rule of the
   catalog, which says that it is never pulled or that the string is no image.
3. A string that may be an image is fine when a rule explained the same string in its component.
4. Everything else is refused with source, object, path and string.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.format.discovery_file import NotedDiscovery
from perimeter_bundle.model.reference import ImageReference


def refusals(
    discovery: Discovery, source: str, held: Set[ImageReference], noted: NotedDiscovery
) -> tuple[str, ...]:
    """Every reason why the objects of ``source`` (component/name) are refused, sorted."""
    found = {*_images(discovery, source, held, noted), *_strings(discovery, source, noted)}
    return tuple(sorted(found))


def _images(
    discovery: Discovery, source: str, held: Set[ImageReference], noted: NotedDiscovery
) -> Iterator[str]:
    component = source.partition("/")[0]
    carried = {reference.without_digest() for reference in held} | held
    left_out = {
        (reason.object_name, one.image)
        for one in noted.images
        for reason in one.reasons
        if one.excluded and reason.component == component
    }
    no_images = {
        (one.object_name, one.text)
        for one in noted.not_images
        if one.component == component and one.by_catalog
    }
    for image in discovery.images:
        if image.reference in carried:  # 1
            continue
        for evidence in image.evidence:
            place = evidence.place
            if (
                place.source == source
                and (place.object, image.reference) not in left_out  # 2
                and (place.object, evidence.written) not in no_images
            ):
                yield f"{place}: {evidence.written!r}: the bundle does not hold {image.reference}"


def _strings(discovery: Discovery, source: str, noted: NotedDiscovery) -> Iterator[str]:
    component = source.partition("/")[0]
    explained = {one.text for one in noted.not_images if one.component == component}
    explained |= {
        reason.written
        for one in noted.images
        for reason in one.reasons
        if one.excluded and reason.component == component
    }
    for one in discovery.unclassified:
        if one.place.source == source and one.text not in explained:  # 3
            yield str(one)
