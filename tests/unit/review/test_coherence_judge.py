"""What stops a release, and what a release may accept."""

from __future__ import annotations

import json

import pytest

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.check import find_incoherence
from perimeter_bundle.review.coherence.facts import Facts, Use
from perimeter_bundle.review.coherence.judge import Judgement, refuse_incoherent
from perimeter_bundle.review.coherence.rules import Acceptance

IMAGES = (
    "gcr.io/mesh/pilot:1.28.0",
    "gcr.io/mesh/proxy:1.28.0",
    "gcr.io/mesh/proxy:1.29.0",
    "busybox",
)
ID = "mixed-versions:gcr.io/mesh"


def judged(*accepted: tuple[str, str]) -> Judgement:
    uses = tuple(
        Use(ImageReference.parse(image), "mesh", "Deployment/mesh/x", "spec.image", image)
        for image in IMAGES
    )
    return Judgement(
        find_incoherence(Facts(uses=uses)), tuple(Acceptance(*one) for one in accepted)
    )


def test_an_error_that_nobody_accepted_stops_the_release_and_shows_every_place() -> None:
    with pytest.raises(InputError) as caught:
        refuse_incoherent(judged(), "2026.11")
    text = str(caught.value)
    assert text.startswith(
        "error[incoherent]: release 2026.11 does not belong together: 1 problem\n"
    )
    assert "gcr.io/mesh: 2 parts are at 1.28.0, but proxy 1.29.0" in text
    assert "gcr.io/mesh/proxy:1.29.0 (mesh Deployment/mesh/x spec.image)" in text
    assert "releases/2026.11.yaml" in (caught.value.hint or "")


def test_an_accepted_error_and_warnings_do_not_stop_it() -> None:
    judgement = judged((ID, "upstream ships it so"))
    refuse_incoherent(judgement, "2026.11")
    assert judgement.lines() == (
        "coherence: 1 error, 1 warning; 1 accepted",
        "  error: gcr.io/mesh: 2 parts are at 1.28.0, but proxy 1.29.0",
        "    accepted: upstream ships it so",
        "  warning: docker.io/library/busybox floats: its tag is latest",
        "    floating-tag:docker.io/library/busybox:latest",
    )


def test_an_acceptance_of_nothing_fails_and_the_nearest_finding_is_named() -> None:
    judgement = judged((ID, "ok"), ("mixed-versions:gcr.io/mash", "ok"))
    with pytest.raises(InputError) as caught:
        refuse_incoherent(judgement, "2026.11")
    assert caught.value.problems == (
        "mixed-versions:gcr.io/mash: is accepted, and was not found; take the acceptance out, "
        f"or did you mean {ID}?",
    )
    refuse_incoherent(judgement, "2026.11", is_complete=False)


def test_the_document_is_the_same_however_the_facts_were_ordered() -> None:
    data = judged((ID, "ok")).to_bytes()
    uses = [
        Use(ImageReference.parse(image), "mesh", "Deployment/mesh/x", "spec.image", image)
        for image in reversed(IMAGES)
    ]
    again = Judgement(find_incoherence(Facts(uses=tuple(uses))), (Acceptance(ID, "ok"),))
    assert again.to_bytes() == data
    document = json.loads(data)
    assert document["format"] == "perimeter-coherence/1"
    first = document["findings"][0]
    assert (first["id"], first["severity"], first["accepted"]) == (ID, "error", "ok")
    assert first["places"][0]["component"] == "mesh"
    assert document["findings"][1]["accepted"] is None
