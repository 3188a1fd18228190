"""manifest/discovery.json: what discovery found for each component, read by both programs.

``why`` tells it; the closed side compares with it what the site's values make of the objects.
docs/formats/discovery.md describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from perimeter_bundle.discover.rules import ComposeRule, TakeFrom
from perimeter_bundle.format.strict_json import MIB, parse_object
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.reader import Reader, Table
from perimeter_bundle.model.reference import ImageReference

DISCOVERY_FORMAT = "perimeter-discovery/1"
MAX_DISCOVERY_BYTES = 64 * MIB
CATALOG_RULE = "catalog: "  # begins the name of a rule under not_images: of a component.yaml
_NO_REFERENCE = ImageReference("invalid.invalid", "x", "x")


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """One place that asks for an image, and the rule that found it."""

    component: str
    object_name: str
    path: str
    rule: str
    written: str
    source: str

    def to_dict(self) -> dict[str, object]:
        """As ``why --json`` prints it."""
        return {
            "component": self.component,
            "rule": self.rule,
            "written": self.written,
            "source": self.source,
            "object": self.object_name,
            "path": self.path,
        }


@dataclass(frozen=True, slots=True)
class Noted:
    """An image as discovery wrote it down for one component; ``excluded`` has the reason."""

    image: ImageReference
    reasons: tuple[Reason, ...]
    excluded: str = ""
    excluded_by: str = ""  # the rule


@dataclass(frozen=True, slots=True, order=True)
class NotedText:
    """A string that looks like an image and is none, by the rule of this name."""

    component: str
    object_name: str
    text: str
    rule: str

    @property
    def by_catalog(self) -> bool:
        """Whether a rule of the catalog says so, and no look at the string alone."""
        return self.rule.startswith(CATALOG_RULE)


@dataclass(frozen=True, slots=True)
class NotedDiscovery:
    """The whole file, sorted."""

    images: tuple[Noted, ...] = ()
    not_images: tuple[NotedText, ...] = ()
    compose: Mapping[str, tuple[ComposeRule, ...]] = field(default_factory=dict)  # by component


def parse_discovery(data: bytes) -> NotedDiscovery:
    """Every image that was found or left out, with its places, and every string that is none.

    Raises IntegrityError[bad-json] or [bad-discovery] with every problem.
    """
    document = parse_object(data, "discovery.json", max_bytes=MAX_DISCOVERY_BYTES)
    if document.get("format") != DISCOVERY_FORMAT:
        raise IntegrityError(
            "bad-discovery",
            f"discovery.json has the unknown format {str(document.get('format'))[:100]!r}",
            context={"expected": DISCOVERY_FORMAT},
        )
    reader = Reader()
    components = reader.table(document, "components", "discovery.json")
    noted: list[Noted] = []
    texts: list[NotedText] = []
    compose: dict[str, tuple[ComposeRule, ...]] = {}
    for component in components:
        table = reader.table(components, component, "components")
        read = partial(_noted, component)
        noted += [*reader.tables(table, "images", read), *reader.tables(table, "excluded", read)]
        texts += reader.tables(table, "not_images", partial(_noted_text, component))
        compose[component] = tuple(reader.tables(table, "compose", _compose_rule))
    if reader.problems:
        raise IntegrityError(
            "bad-discovery", "discovery.json cannot be used", problems=reader.problems[:20]
        )
    noted.sort(key=lambda one: (str(one.image), one.reasons, one.excluded, one.excluded_by))
    return NotedDiscovery(tuple(noted), tuple(sorted(texts)), compose)


def _noted(component: str, reader: Reader, table: Table, where: str) -> Noted:
    def reason(reader: Reader, one: Table, where: str) -> Reason:
        return Reason(
            component=component,
            object_name=reader.text(one, "object", where, empty=True),
            path=reader.text(one, "path", where, empty=True),
            rule=reader.text(one, "rule", where),
            written=reader.text(one, "written", where, empty=True),
            source=reader.text(one, "source", where, empty=True),
        )

    is_excluded = "reason" in table
    return Noted(
        image=reader.value(table, "image", where, ImageReference.parse, _NO_REFERENCE),
        reasons=tuple(reader.tables(table, "evidence", reason)),
        excluded=reader.text(table, "reason", where) if is_excluded else "",
        excluded_by=reader.text(table, "rule", where) if is_excluded else "",
    )


def _noted_text(component: str, reader: Reader, table: Table, where: str) -> NotedText:
    return NotedText(
        component=component,
        object_name=reader.text(table, "object", where, empty=True),
        text=reader.text(table, "text", where, empty=True),
        rule=reader.text(table, "rule", where),
    )


def _compose_rule(reader: Reader, table: Table, where: str) -> ComposeRule:
    takes = reader.table(table, "take", where)
    return ComposeRule(
        name=reader.text(table, "name", where),
        image=reader.text(table, "image", where),
        evidence=reader.text(table, "evidence", where, empty=True),
        take={name: _take_from(reader, reader.table(takes, name, where), where) for name in takes},
    )


def _take_from(reader: Reader, table: Table, where: str) -> TakeFrom:
    return TakeFrom(reader.text(table, "object", where), reader.text(table, "path", where))
