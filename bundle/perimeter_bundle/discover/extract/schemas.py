"""Schemas of custom resources: defaults that the API server fills in.

Descriptions, examples and patterns in a schema are text for people.
"""

from __future__ import annotations

from perimeter_bundle.discover.extract.note import note
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.words import Part, Position, part, position

_NESTED = ("items", "additionalProperties", "not")
_LISTS = ("allOf", "anyOf", "oneOf")


def schema_defaults(spot: Spot, findings: Findings, name: str = "") -> None:
    """`default:` of each property, judged by the property's name."""
    node = spot.node
    if not isinstance(node, dict):
        return
    if "default" in node:
        _default(spot.child("default"), findings, name)
    properties = node.get("properties")
    if isinstance(properties, dict):
        holder = spot.child("properties")
        for key in properties:
            if not _is_completed_by_another(key, properties, holder, findings):
                schema_defaults(holder.child(key), findings, key)
    for key in _NESTED:
        if isinstance(node.get(key), dict):
            schema_defaults(spot.child(key), findings, name)
    for key in _LISTS:
        if isinstance(node.get(key), list):
            for inner in spot.child(key).children():
                schema_defaults(inner, findings, name)


def _is_completed_by_another(
    key: str, properties: dict[str, Tree], holder: Spot, findings: Findings
) -> bool:
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


def _default(spot: Spot, findings: Findings, name: str) -> None:
    node: Tree = spot.node
    if isinstance(node, str):
        if node and not any(char.isspace() for char in node):
            note(findings, node, position(name), spot.place(), "schema-default", name=name)
    elif isinstance(node, dict):
        for inner in spot.children():
            _default(inner, findings, str(inner.key))
    else:
        for inner in spot.children():
            _default(inner, findings, name)
