"""Environment variables and other lists of name and value."""

from __future__ import annotations

from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.note import note_composed
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.spots import Spot

_VALUES = ("value", "default", "defaultValue")


def named_values(spot: Spot, findings: Findings) -> set[str]:
    """Remembers `{name: X, value: Y}`, for placeholders that stand for X."""
    node = spot.table
    name = node.get("name")
    if not isinstance(name, str) or not name:
        return set()
    for key in _VALUES:
        value = node.get(key)
        if isinstance(value, str):
            findings.bind(name, value, spot.root)
    value_from = node.get("valueFrom")
    if isinstance(value_from, dict):
        for key in ("configMapKeyRef", "secretKeyRef"):
            source = value_from.get(key)
            if isinstance(source, dict):
                holder, inner = source.get("name"), source.get("key")
                if isinstance(holder, str) and isinstance(inner, str):
                    findings.bind(name, "", spot.root, reference=(holder, inner))
    return set()


def split_variables(spot: Spot, findings: Findings) -> set[int]:
    """`FOO_IMAGE` and `FOO_TAG` as two variables of one list."""
    node = spot.items
    fields: dict[str, str] = {}
    index_of: dict[str, int] = {}
    for index, item in enumerate(node):
        if not isinstance(item, dict):
            return set()
        name, value = item.get("name"), item.get("value")
        if isinstance(name, str) and isinstance(value, str):
            fields[name] = value
            index_of[name] = index
    explained: set[int] = set()
    for found in compose(fields):
        index = index_of[found.main]
        place = Spot(node[index], spot.root, index, spot).child("value").place()
        note_composed(findings, found, place, "split-variables")
        findings.bind(found.main, found.text, spot.root, composed=True)
        explained.update(index_of[name] for name in found.used)
    return explained
