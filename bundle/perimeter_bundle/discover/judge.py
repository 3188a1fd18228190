"""One string and what the name of its field promises → an image, a rule why not, or a question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from perimeter_bundle.discover.classify import not_image_rule
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.shapes import (
    is_complete_reference,
    is_like_reference,
    is_short,
    is_unmistakable,
    names_registry,
    parse_reference,
    without_scheme,
)
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Position, is_model_name, is_prefix_name, words
from perimeter_bundle.model.reference import ImageReference

_IMAGE_SCHEMES = ("docker://", "docker-pullable://")
_NEAR = 3  # keys at the end of a path that still speak of a value
_SPACE = re.compile(r"\s")


class Kind(Enum):
    """What a string was judged to be."""

    IMAGE = "image"
    NOT_IMAGE = "not-image"
    REPOSITORY = "repository"  # a name to which something else adds the tag
    UNCLEAR = "unclear"
    NOTHING = "nothing"  # does not look like a reference


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind; the image if it is one, else the rule or the question."""

    kind: Kind
    reference: ImageReference | None = None
    reason: str = ""


_NOTHING = Verdict(Kind.NOTHING)


def judge(written: str, promise: Position) -> Verdict:
    """What ``written`` is in a field whose name promises this much."""
    stripped = written.strip().strip("\"'")
    text = without_scheme(stripped)
    if stripped.startswith(_IMAGE_SCHEMES):
        promise = Position.CONTAINER  # whatever the field is called
    if not text or len(text) > 1024:
        return _NOTHING
    if is_unmistakable(text):
        return _image(text, promise, written)
    if promise is Position.NONE:
        return _by_form(text, written)
    if promise is Position.WEAK:
        if is_complete_reference(text):
            return _image(text, promise, written)
        return _by_form(text, written)
    return _in_image_place(text, written, promise)


def judge_into(
    findings: Findings,
    text: str,
    promise: Position,
    place: Place,
    rule: str,
    *,
    written: str | None = None,
    name: str = "",
) -> bool:
    """Judges ``text`` and notes the verdict; whether there was anything to say.

    ``name`` is what its field is called: one for registries holds no image.
    """
    verdict = judge(text, promise)
    shown = written or text
    if verdict.kind is Kind.NOTHING:
        return False
    if promise is Position.NONE and is_model_name(name) and not is_unmistakable(_bare(text)):
        findings.no_image(shown, place, "model-name")
    elif verdict.kind is Kind.IMAGE and not _has_version(text) and _is_repository(place):
        findings.no_image(shown, place, "registry-prefix")
    elif verdict.reference is not None:
        findings.image(verdict.reference, rule, shown, place)
    elif verdict.kind is Kind.NOT_IMAGE:
        findings.no_image(shown, place, verdict.reason)
    elif verdict.kind is Kind.REPOSITORY and (
        is_prefix_name(name) or _is_repository(place) or _is_in_mirrors(place)
    ):
        findings.no_image(shown, place, "registry-prefix")
    elif verdict.kind is Kind.REPOSITORY:
        findings.repository(shown, place, verdict.reason)
    else:
        findings.unclear(shown, place, verdict.reason)
    return True


def _bare(text: str) -> str:
    return without_scheme(text.strip().strip("\"'"))


def _has_version(text: str) -> bool:
    return "@" in text or ":" in text.rpartition("/")[2]


def _is_repository(place: Place) -> bool:
    """The object only says where versions are looked for: `kind: ChartRepository`."""
    return words(place.object.partition("/")[0])[-1:] == ("repository",)


def _is_in_mirrors(place: Place) -> bool:
    """`imageDigestMirrors: [{source: …, mirrors: […]}]`."""
    return any("mirrors" in words(key) for key in place.path.split(".")[-_NEAR:])


def _in_image_place(text: str, written: str, promise: Position) -> Verdict:
    rule = not_image_rule(written, promise)
    if rule:
        return Verdict(Kind.NOT_IMAGE, reason=rule)
    reference = parse_reference(text)
    if reference is None:
        if _SPACE.search(text):
            return _NOTHING  # words for people; what is in them is looked for as in text
        return Verdict(Kind.UNCLEAR, reason="stands where an image belongs and is no reference")
    if promise is Position.CONTAINER or any(mark in text for mark in "/:@"):
        return Verdict(Kind.IMAGE, reference)
    return Verdict(
        Kind.UNCLEAR, reason="a bare name where an image belongs; nothing gives registry or tag"
    )


def _by_form(text: str, written: str) -> Verdict:
    if not is_like_reference(text):
        return _NOTHING
    rule = not_image_rule(written, Position.NONE)
    if rule:
        return Verdict(Kind.NOT_IMAGE, reason=rule)
    if is_short(text):
        return _image(text, Position.NONE, written)
    if names_registry(text) and ":" not in text.partition("/")[2]:
        return Verdict(Kind.REPOSITORY, reason="names a registry, but neither tag nor digest")
    return Verdict(Kind.UNCLEAR, reason="has the form of a reference; its field says nothing")


def _image(text: str, promise: Position, written: str) -> Verdict:
    rule = not_image_rule(written, promise)
    if rule:
        return Verdict(Kind.NOT_IMAGE, reason=rule)
    reference = parse_reference(text)
    if reference is None:
        return Verdict(Kind.UNCLEAR, reason="looks like a reference and is not valid")
    return Verdict(Kind.IMAGE, reference)
