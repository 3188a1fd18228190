"""What discovery and the rendered objects say → facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.discover.stream import read_documents
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.review.coherence.facts import ObjectFact, Use
from perimeter_bundle.review.coherence.objects import object_facts


def discovered_uses(component: str, found: Discovery) -> Iterator[Use]:
    """Every place that asks for an image; what is excluded is never pulled and does not count."""
    for image in found.images:
        for one in image.evidence:
            place = one.place
            yield Use(image.reference, component, place.object, place.path, one.written)


def rendered_objects(component: str, source: str, data: bytes) -> Iterator[ObjectFact]:
    """What the rules need of each object in the YAML ``data``, one document at a time.

    Raises InputError[bad-manifest-file].
    """
    documents = read_documents(source, data)
    return object_facts(component, source, (document.tree for document in documents))
