"""manifest/discovery.json: what discovery found for each component, as ``why`` reads it."""

from __future__ import annotations

from functools import partial

from perimeter_bundle.format.strict_json import MIB, parse_object
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.reader import Reader, Table
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.why import Noted, Reason

DISCOVERY_FORMAT = "perimeter-discovery/1"
MAX_DISCOVERY_BYTES = 64 * MIB
_NO_REFERENCE = ImageReference("invalid.invalid", "x", "x")


def parse_discovery(data: bytes) -> tuple[Noted, ...]:
    """Every image that was found or left out, with its places, for each component.

    Raises IntegrityError[bad-json] or [bad-discovery] with every problem.
    """
    document = parse_object(data, "discovery.json", max_bytes=MAX_DISCOVERY_BYTES)
    if document.get("format") != DISCOVERY_FORMAT:
        raise IntegrityError(
            "bad-discovery",
            f"discovery.json has the unknown format {document.get('format')!r}",
            context={"expected": DISCOVERY_FORMAT},
        )
    reader = Reader()
    components = reader.table(document, "components", "discovery.json")
    noted: list[Noted] = []
    for component in components:
        table = reader.table(components, component, "components")
        read = partial(_noted, component)
        noted += [*reader.tables(table, "images", read), *reader.tables(table, "excluded", read)]
    if reader.problems:
        raise IntegrityError(
            "bad-discovery", "discovery.json cannot be used", problems=reader.problems[:20]
        )
    return tuple(sorted(noted))


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
