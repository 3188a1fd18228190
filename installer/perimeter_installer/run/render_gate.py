"""What the site's values may make of rendered objects: nothing that the builder did not explain.

1. An image is fine when the bundle holds it.
2. It is fine where the builder left it out: the same object of the same component, by a rule of the
   catalog, which says that it is never pulled or that the string is no image.
3. A string that may be an image is fine when a rule explained the same string in its component.
4. Everything else is refused with source, object, path and string.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.rules import Rules
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.format.discovery_file import NotedDiscovery, parse_discovery
from perimeter_bundle.format.layout import DISCOVERY, RENDERED
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.reference import ImageReference


def refuse_missing(bundle: VerifiedBundle, objects: bytes, component: str, name: str) -> None:
    """Raises IntegrityError[image-not-in-bundle] with every image and string that is refused.

    ``objects`` is what the site's values make of ``manifest/rendered/<component>/<name>.yaml``;
    it is looked at together with the rest of the component, as the builder did.
    """
    source = f"{component}/{name}"
    noted = _noted(bundle)
    rules = Rules(compose=noted.compose.get(component, ()))
    found = discover([(source, objects), *_rest_of_component(bundle, component, name)], rules)
    held = {item.reference for item in bundle.manifest.items_of(ItemKind.IMAGE)}
    problems = refusals(found, source, held, noted)
    if problems:
        raise IntegrityError(
            "image-not-in-bundle",
            f"{source}: the site's values ask for images that the bundle does not hold, or for "
            "what nobody can explain",
            problems=problems,
            hint="mend the values in site.yaml, or have the image listed in workloads.yaml and "
            "the bundle built again",
        )


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


def _rest_of_component(
    bundle: VerifiedBundle, component: str, name: str
) -> Iterator[tuple[str, bytes]]:
    for path in bundle.files_below(f"{RENDERED}/{component}"):
        other = path.rpartition("/")[2].removesuffix(".yaml")
        if other != name:
            yield f"{component}/{other}", bundle.read(path)


def _noted(bundle: VerifiedBundle) -> NotedDiscovery:
    """What the builder wrote down; nothing in bundles that were made before it did."""
    if DISCOVERY not in bundle.sums.digests:
        return NotedDiscovery()
    return parse_discovery(bundle.read(DISCOVERY))
