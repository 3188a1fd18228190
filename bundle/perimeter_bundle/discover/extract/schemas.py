"""Schemas of custom resources: defaults that the API server fills in.

Descriptions, examples and patterns in a schema are text for people.
"""

from __future__ import annotations

from perimeter_bundle.discover.classify import not_image_rule
from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.note import note, note_composed
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.meaning import Field, Meaning, read_field
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.words import Part, Position, part, position

_NESTED = ("items", "additionalProperties", "not")
_LISTS = ("allOf", "anyOf", "oneOf")


def schema_defaults(spot: Spot, findings: Findings) -> None:
    """`default:` of each property, judged by its name and by what the schema says of it."""
    _defaults(spot, findings, "", read_field("", spot.node))


def _defaults(spot: Spot, findings: Findings, name: str, known: Field | None) -> None:
    node = spot.node
    if not isinstance(node, dict):
        return
    if "default" in node:
        _default(spot.child("default"), findings, name, known)
    properties = node.get("properties")
    if isinstance(properties, dict):
        holder = spot.child("properties")
        composed = _composed(holder, findings, name, known)
        for key in properties:
            if key not in composed and not _is_completed(key, properties, holder, findings):
                inner = known.properties.get(key) if known else None
                _defaults(holder.child(key), findings, key, inner)
    for key in _NESTED:
        if isinstance(node.get(key), dict):
            _defaults(spot.child(key), findings, name, known.each if known else None)
    for key in _LISTS:
        if isinstance(node.get(key), list):
            for inner_spot in spot.child(key).children():
                _defaults(inner_spot, findings, name, known)


def _composed(holder: Spot, findings: Findings, name: str, known: Field | None) -> set[str]:
    """Properties whose defaults together are one image."""
    if known is None or not known.defaults:
        return set()
    under_image = known.meaning is Meaning.PARTS or position(name) is not Position.NONE
    fields = dict(known.defaults)
    if under_image and "name" in fields:
        fields.setdefault("image", fields["name"])
    used: set[str] = set()
    for found in compose(fields, under_image=under_image):
        if "@" in found.text or ":" in found.text.rpartition("/")[2]:
            main = found.main if found.main in holder.table else "name"
            place = holder.child(main).child("default").place()
            note_composed(findings, found, place, "schema-default")
            used.update((*found.used, main))
    return used


def _is_completed(key: str, properties: dict[str, Tree], holder: Spot, findings: Findings) -> bool:
    """A name without a tag, beside a property that holds the tag, is no image by itself."""
    schema = properties[key]
    default = schema.get("default") if isinstance(schema, dict) else None
    if position(key) is Position.NONE or not isinstance(default, str) or not default:
        return False
    prefix_and_part = part(key)
    wanted = (prefix_and_part[0] if prefix_and_part else (), Part.TAG)
    has_tag = ":" in default.rpartition("/")[2] or "@" in default
    if has_tag or not any(part(other) == wanted for other in properties):
        return False
    place = holder.child(key).child("default").place()
    findings.no_image(default, place, "completed-by-another-field")
    return True


def _default(spot: Spot, findings: Findings, name: str, known: Field | None) -> None:
    node: Tree = spot.node
    if isinstance(node, str):
        if node and not any(char.isspace() for char in node):
            _text(spot, node, findings, name, known.meaning if known else Meaning.NONE)
    elif isinstance(node, dict):
        for inner in spot.children():
            _default(inner, findings, str(inner.key), known.below(inner.key) if known else None)
    else:
        for inner in spot.children():
            _default(inner, findings, name, known.each if known else None)


def _text(spot: Spot, text: str, findings: Findings, name: str, meaning: Meaning) -> None:
    promise = position(name)
    if meaning is Meaning.OTHER:
        promise = Position.NONE
    elif meaning is Meaning.IMAGE:
        is_other = bool(not_image_rule(text, Position.STRONG))
        promise = Position.STRONG if is_other else Position.CONTAINER
    note(findings, text, promise, spot.place(), "schema-default", name=name)
