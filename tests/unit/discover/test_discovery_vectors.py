"""Small objects of invented products: where images hide, and what only looks like one.

Each ``tests/vectors/discovery/<idea>.yaml`` has beside it, as JSON, every image to be found and
every text that stays unclassified. The ones named ``trap-…`` hold what is no image at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perimeter_bundle.discover.discover import discover

VECTORS = Path(__file__).parents[2] / "vectors" / "discovery"
IDEAS = sorted(path.stem for path in VECTORS.glob("*.yaml"))


def test_every_vector_has_its_answer() -> None:
    assert len(IDEAS) >= 64
    assert sorted(path.stem for path in VECTORS.glob("*.json")) == IDEAS


@pytest.mark.parametrize("idea", IDEAS)
def test_finds_every_image_of_the_vector_and_nothing_else(idea: str) -> None:
    answer = json.loads((VECTORS / f"{idea}.json").read_text())
    found = discover([(f"{idea}.yaml", (VECTORS / f"{idea}.yaml").read_bytes())])
    assert sorted(str(image.reference) for image in found.images) == answer["images"]
    assert sorted(item.text for item in found.unclassified) == answer["unclassified"]


@pytest.mark.parametrize("idea", IDEAS)
def test_says_for_every_image_which_rule_found_it_and_where(idea: str) -> None:
    found = discover([(f"{idea}.yaml", (VECTORS / f"{idea}.yaml").read_bytes())])
    for image in found.images:
        assert image.evidence
        for evidence in image.evidence:
            assert evidence.rule
            assert evidence.written
            assert evidence.place.source == f"{idea}.yaml"
            assert evidence.place.object
            assert evidence.place.path
