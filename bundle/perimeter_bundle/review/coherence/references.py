"""What a reference itself says: whether it stays what it is, and what a mirror must keep."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import Use
from perimeter_bundle.review.coherence.values import Finding, Severity

# Words that publishers move along as they go; a tag that is one, or begins or ends with one.
_MOVING = (
    "latest main master head trunk develop devel dev nightly daily weekly edge canary rolling "
    "unstable testing stable current tip snapshot experimental staging lts"
)
_MOVING_WORDS = frozenset(_MOVING.split())
_SHORT_VERSION = re.compile(r"[vV]?\d+(\.\d+)?(?P<flavour>-[A-Za-z][A-Za-z0-9.]*)*")


def floating_tags(uses: Sequence[Use]) -> Iterator[Finding]:
    """Tags that stand for something else tomorrow."""
    for reference, some in _by_reference(uses).items():
        if reference.digest or not reference.tag:
            continue
        if is_moving(reference.tag):
            yield Finding(
                rule="floating-tag",
                subject=str(reference),
                severity=Severity.WARNING,
                title=f"{reference.name} floats: its tag is {reference.tag}",
                why="the lock holds what it stands for today; nobody can say which version that "
                "is, and the next lock brings another",
                spots=tuple(use.spot for use in some),
                what_to_do="set a version where it is asked for, when upstream publishes one",
            )
        elif is_short(reference.tag):
            yield Finding(
                rule="short-version",
                subject=str(reference),
                severity=Severity.NOTE,
                title=f"{reference} names no patch release and may move",
                why="the lock holds what it stands for today; the next lock may bring another",
                spots=tuple(use.spot for use in some),
                what_to_do="nothing; the difference shows in perimeter-bundle diff",
            )


def digest_only(uses: Sequence[Use]) -> Iterator[Finding]:
    """References by digest alone, by component."""
    by_component: dict[str, list[Use]] = defaultdict(list)
    for use in uses:
        if use.reference.digest and not use.reference.tag:
            by_component[use.component].append(use)
    for component, some in sorted(by_component.items()):
        count = len({use.reference for use in some})
        yield Finding(
            rule="digest-only",
            subject=component,
            severity=Severity.NOTE,
            title=f"{component} asks for {count} image{'s' if count > 1 else ''} by digest alone",
            why="a mirror must keep the upstream manifest byte for byte, its index included; "
            "a copy that repacks images or drops platforms breaks these references",
            spots=tuple(use.spot for use in some),
            what_to_do="nothing: a bundle and the site's registries keep digests",
        )


def two_digests(uses: Sequence[Use]) -> Iterator[Finding]:
    """One name and tag that is pinned to different bytes in two places."""
    by_tag: dict[ImageReference, list[Use]] = defaultdict(list)
    for use in uses:
        if use.reference.tag and use.reference.digest:
            by_tag[use.reference.without_digest()].append(use)
    for reference, some in sorted(by_tag.items(), key=lambda pair: str(pair[0])):
        if len({use.reference.digest for use in some}) > 1:
            yield Finding(
                rule="two-digests",
                subject=str(reference),
                severity=Severity.ERROR,
                title=f"{reference} is pinned to different digests",
                why="one of them is not what the tag stands for: the tag was moved, or a pin was "
                "forgotten",
                spots=tuple(use.spot for use in some),
                what_to_do="find out which is meant, and pin that everywhere",
            )


def is_moving(tag: str) -> bool:
    """Whether ``tag`` is a word that publishers move: ``latest``, ``main-latest``, ``nightly-gpu``.

    A version makes it fixed: ``v1.2.3-stable``.
    """
    words = re.split(r"[-_.]", tag.lower())
    has_number = any(word.lstrip("v").isdigit() for word in words)
    return not has_number and (words[0] in _MOVING_WORDS or words[-1] in _MOVING_WORDS)


def is_short(tag: str) -> bool:
    """Whether ``tag`` leaves the patch number open: ``8.0``, ``1.28``, ``3-alpine``."""
    return _SHORT_VERSION.fullmatch(tag) is not None


def _by_reference(uses: Sequence[Use]) -> dict[ImageReference, list[Use]]:
    found: dict[ImageReference, list[Use]] = defaultdict(list)
    for use in sorted(uses, key=lambda use: str(use.reference)):
        found[use.reference].append(use)
    return found
