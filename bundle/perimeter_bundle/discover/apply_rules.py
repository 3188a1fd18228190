"""The catalog's rules, applied to what the extractors found."""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.rules import ComposeRule, Rules, matches_glob
from perimeter_bundle.discover.shapes import parse_reference
from perimeter_bundle.discover.spots import join_path, object_name
from perimeter_bundle.discover.stream import Document, Tree, TreeError, parse_trees
from perimeter_bundle.discover.values import (
    Discovery,
    Evidence,
    ExcludedImage,
    FoundImage,
    NotImage,
    Place,
    Unclassified,
)
from perimeter_bundle.model.reference import ImageReference

_INTO_STRING = " -> "


class RuleUse:
    """Collects, while documents pass by, the values that compose rules take."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._taken: dict[tuple[str, str], set[tuple[str, Place]]] = {}
        self._wanted = [
            (rule, name, take) for rule in rules.compose for name, take in rule.take.items()
        ]

    def look_at(self, document: Document) -> None:
        """Takes what rules want from this object."""
        if not self._wanted:
            return
        _, name = object_name(document.tree)
        for rule, field, take in self._wanted:
            if matches_glob(name, take.object):
                for path, text in _values_at(document.tree, take.path):
                    place = Place(document.source, name, path)
                    self._taken.setdefault((rule.name, field), set()).add((text, place))

    def composed(self, rule: ComposeRule) -> Iterator[tuple[str, str, Place]]:
        """Reference, how it came about, and the place of a value it was taken from."""
        choices: list[tuple[str, Place | None]] = [(rule.image, None)]
        for field in rule.take:
            choices = [
                (text.replace(f"{{{field}}}", value), place)
                for text, _ in choices
                for value, place in sorted(self._taken.get((rule.name, field), ()))
            ]
        for text, place in choices:
            yield text, rule.image, place or Place("catalog", rule.name, "rules.compose")


def apply_rules(findings: Findings, use: RuleUse) -> Discovery:
    """The result: composed images added, excluded ones taken away, strings explained."""
    rules = use.rules
    unused: list[str] = []
    for rule in rules.compose:
        found = list(use.composed(rule))
        for text, written, place in found:
            reference = parse_reference(text)
            if reference is None:
                findings.unclear(text, place, f"rule {rule.name} makes it, and it is no reference")
            else:
                findings.image(reference, rule.name, written, place)
        if not found:
            unused.append(f"compose {rule.name}")
    unclassified, not_images, unused_not = _without_not_images(findings, rules)
    images, excluded, unused_exclude = _without_excluded(findings.images, rules)
    unused += unused_exclude + unused_not
    return Discovery(
        images=images,
        excluded=excluded,
        unclassified=tuple(sorted(unclassified)),
        not_images=tuple(sorted(not_images)),
        unused_rules=tuple(unused),
        compose=rules.compose,
    )


def _without_not_images(
    findings: Findings, rules: Rules
) -> tuple[set[Unclassified], set[NotImage], list[str]]:
    not_images = set(findings.not_images)
    unclassified = set(findings.unclassified)
    unused = []
    for rule in rules.not_images:
        hits = {one for one in unclassified if rule.matches(one.text, one.place)}
        not_images |= {NotImage(h.text, h.place, f"catalog: {rule}", rule.reason) for h in hits}
        unclassified -= hits
        taken = False
        for reference, evidence in list(findings.images.items()):
            gone = {e for e in evidence if rule.matches(e.written, e.place)}
            not_images |= {
                NotImage(e.written, e.place, f"catalog: {rule}", rule.reason) for e in gone
            }
            taken = taken or bool(gone)
            findings.images[reference] = evidence - gone
            if not findings.images[reference]:
                del findings.images[reference]
        if not hits and not taken:
            unused.append(str(rule))
    return unclassified, not_images, unused


def _without_excluded(
    images: dict[ImageReference, set[Evidence]], rules: Rules
) -> tuple[tuple[FoundImage, ...], tuple[ExcludedImage, ...], list[str]]:
    found, excluded = [], []
    used: set[str] = set()
    for reference, evidence in sorted(images.items(), key=lambda item: str(item[0])):
        left = set(evidence)
        for rule in rules.exclude:
            gone = {e for e in left if rule.matches(str(reference), e.place)}
            if gone:
                used.add(str(rule))
                left -= gone
                excluded.append(
                    ExcludedImage(reference, rule.reason, str(rule), tuple(sorted(gone)))
                )
        if left:
            found.append(FoundImage(reference, tuple(sorted(left))))
    unused = [str(rule) for rule in rules.exclude if str(rule) not in used]
    return tuple(found), tuple(excluded), unused


def _values_at(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
    """Scalars whose path matches the glob; ` -> ` goes on inside a string that is a document."""
    outer, into, inner = path.partition(_INTO_STRING)
    for found, text in _scalars(tree, []):
        if not matches_glob(found, outer):
            continue
        if not into:
            yield found, text
            continue
        try:
            documents = list(parse_trees(text))
        except TreeError:
            continue
        for document in documents:
            for below, value in _values_at(document, inner):
                yield f"{found}{_INTO_STRING}{below}", value


def _scalars(tree: Tree, keys: list[str | int]) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield join_path(iter(keys)), tree
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from _scalars(item, [*keys, index])
    else:
        for key, item in tree.items():
            yield from _scalars(item, [*keys, key])
