"""Every value of an object, each with its surroundings, given to the extractors."""

from __future__ import annotations

from collections.abc import Callable

from perimeter_bundle.discover.extract.arguments import arguments, is_argument_list
from perimeter_bundle.discover.extract.composed import split_fields, switched_off
from perimeter_bundle.discover.extract.containers import (
    container_like,
    containers,
    image_volumes,
)
from perimeter_bundle.discover.extract.environment import named_values, split_variables
from perimeter_bundle.discover.extract.fields import prose, single_value, words_in_value
from perimeter_bundle.discover.extract.schemas import schema_defaults
from perimeter_bundle.discover.findings import Findings, PendingSource
from perimeter_bundle.discover.meaning import Field
from perimeter_bundle.discover.opened import MAX_OPENED, Form, decode_base64, open_text
from perimeter_bundle.discover.spots import Root, Spot, object_name
from perimeter_bundle.discover.stream import Document
from perimeter_bundle.discover.words import Position, is_prose

# for a mapping: each gives the keys it has explained
MAPPING_EXTRACTORS: tuple[Callable[[Spot, Findings], set[str]], ...] = (
    named_values,
    containers,
    image_volumes,
    split_fields,
    container_like,
    switched_off,
)
_SKIPPED_KEYS = frozenset({"managedFields", "ownerReferences"})
_ENCODED_FIELDS = {"Secret": "data", "ConfigMap": "binaryData"}


def walk_document(document: Document, findings: Findings, schema: Field | None = None) -> None:
    """Collects into ``findings`` what one object says; ``schema`` is what its kind's says of it."""
    kind, name = object_name(document.tree)
    root = Root(document.source, name, kind)
    _visit(Spot(document.tree, root, schema=schema), findings)


def _visit(spot: Spot, findings: Findings) -> None:
    node = spot.node
    if isinstance(node, str):
        _visit_text(spot, findings, node)
    elif isinstance(node, list):
        explained = arguments(spot, findings) if is_argument_list(spot) else set()
        if node and isinstance(node[0], dict):
            explained |= split_variables(spot, findings)
        for inner in spot.children():
            if inner.key not in explained:
                _visit(inner, findings)
    else:
        _visit_mapping(spot, findings)


def _visit_mapping(spot: Spot, findings: Findings) -> None:
    explained_keys: set[str] = set()
    for extract in MAPPING_EXTRACTORS:
        if "image" not in explained_keys or extract is not container_like:
            explained_keys |= extract(spot, findings)
    for inner in spot.children():
        key = inner.key
        if key in explained_keys or key in _SKIPPED_KEYS:
            continue
        if key == "openAPIV3Schema":
            schema_defaults(inner, findings)
        else:
            _visit(inner, findings)


def _visit_text(spot: Spot, findings: Findings, text: str) -> None:
    if len(text) < 2:
        return
    if _is_encoded(spot):
        decoded = decode_base64(text)
        if decoded is None:
            return
        text = decoded
        spot = Spot(text, spot.root, spot.key, spot.parent)
    if prose(spot, findings, text):
        return
    opened = open_text(text, spot.name)
    if opened.form is Form.PLAIN:
        single_value(spot, findings, text.strip())
    elif opened.form is Form.PYTHON:
        findings.sources.append(PendingSource(text, spot.place(), spot.root))
    elif opened.form is Form.DOCUMENTS and spot.root.depth < MAX_OPENED:
        inside = _inside(spot)
        for tree in opened.trees:
            _visit(Spot(tree, inside), findings)
    else:
        words_in_value(spot, findings, text)


def _is_encoded(spot: Spot) -> bool:
    """Base64, as Secrets and binary data of ConfigMaps hold values."""
    field = _ENCODED_FIELDS.get(spot.root.kind)
    return (
        field is not None
        and not spot.root.prefix
        and bool(spot.parent and spot.parent.key == field)
    )


def _inside(spot: Spot) -> Root:
    """The root of a document inside a string."""
    return Root(
        source=spot.root.source,
        object=spot.root.object,
        kind=spot.root.kind,
        prefix=f"{spot.root.prefix}{spot.path} -> ",
        depth=spot.root.depth + 1,
        position=min(spot.position(), Position.WEAK),
        in_prose=spot.root.in_prose or is_prose(spot.name),
    )
