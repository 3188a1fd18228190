"""A release's charts, objects and images → facts → what the coherence rules say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.complete import Rendered
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.check import find_incoherence
from perimeter_bundle.review.coherence.facts import ChartFact, Facts, ObjectFact, Use
from perimeter_bundle.review.coherence.gather import discovered_uses, rendered_objects
from perimeter_bundle.review.coherence.judge import Judgement


class NamedImage(Protocol):
    """An image of a lock, or one that will be locked."""

    @property
    def reference(self) -> ImageReference: ...
    @property
    def components(self) -> tuple[str, ...]: ...


def gather_facts(
    release: Release, rendered: Sequence[Rendered], discovered: Mapping[str, Discovery]
) -> Facts:
    """What is known once everything is rendered and discovery has looked at each component.

    Raises InputError[bad-manifest-file].
    """
    objects: list[ObjectFact] = []
    for one in rendered:
        objects += rendered_objects(one.component.name, one.name, one.data)
    uses = [use for name, found in discovered.items() for use in discovered_uses(name, found)]
    return replace(
        facts_of_catalog(release),
        uses=tuple(uses),
        objects=tuple(objects),
        charts=tuple(fact for one in rendered for fact in _chart_fact(one)),
    )


def judge_release(
    release: Release, facts: Facts, images: Iterable[NamedImage], lock: Lock | None = None
) -> Judgement:
    """What the rules find in ``facts`` and in ``images``, with what the release accepts."""
    seen = {(use.reference, use.component) for use in facts.uses}
    listed = [
        Use(image.reference, component, "", "", str(image.reference))
        for image in images
        for component in image.components
        if (image.reference, component) not in seen
    ]
    complete = replace(facts, uses=(*facts.uses, *listed), lock=lock)
    return Judgement(find_incoherence(complete), release.acceptances)


def judge_images(release: Release, lock: Lock) -> Judgement:
    """What can be said by the names in a lock alone, before anything is rendered."""
    return judge_release(release, facts_of_catalog(release), lock.images, lock)


def facts_of_catalog(release: Release) -> Facts:
    """What is known before anything is rendered."""
    versions = [component.version for component in release.components if component.kubeadm_file]
    products = [(c.name, product) for c in release.components for product in c.products]
    return Facts(products=tuple(products), kubernetes=versions[0] if versions else "")


def _chart_fact(one: Rendered) -> Iterator[ChartFact]:
    if one.chart:
        yield ChartFact(
            component=one.component.name,
            name=one.name,
            version=str(one.chart.get("version", "")),
            app_version=str(one.chart.get("appVersion", "")),
            kube_version=str(one.chart.get("kubeVersion", "")),
        )
