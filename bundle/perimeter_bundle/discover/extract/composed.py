"""References split over fields of one mapping, or inherited from the mappings around it."""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.containers import is_container
from perimeter_bundle.discover.extract.note import note
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.words import Position, part, position

# kustomize and others write an image as a mapping of its own
_UNDER_IMAGE = {"newName": "image", "newTag": "tag", "name": "image", "reference": "image"}


def split_fields(spot: Spot, findings: Findings) -> set[str]:
    """`repository` + `image` + `version`, `hub` + `image` + `tag`, `registry` + `repository` + …

    What a mapping lacks is taken from the nearest mapping around it, or its `global`.
    """
    node = spot.table
    fields = _scalars(node)
    under_image = _is_under_image(spot)
    renamed: dict[str, str] = {}
    if under_image:
        for name, role in _UNDER_IMAGE.items():  # the new name before the old one
            if fields.get(name) and role not in fields:
                fields[role] = fields[name]
                renamed[role] = name
    if not any(part(name) for name in fields):
        return set()
    if is_container(spot):
        return set()
    explained: set[str] = set()
    for found in compose(fields, tuple(_around(spot)), under_image=under_image):
        main = renamed.get(found.main, found.main)
        place = spot.child(main).place()
        note(
            findings,
            found.text,
            Position.CONTAINER,
            place,
            "split-fields",
            written=found.written,
        )
        findings.bind(spot.child(main).path, found.text, spot.root, composed=True)
        explained.update(renamed.get(name, name) for name in found.used)
    if explained & set(renamed.values()):
        explained.update(name for name in _UNDER_IMAGE if name in node)
    return explained


def switched_off(spot: Spot, findings: Findings) -> set[str]:
    """A bare name that nothing completes, in a block with `enabled: false`, is no image yet."""
    node = spot.table
    image = node.get("image")
    if not isinstance(image, str) or not image or any(mark in image for mark in "/:@"):
        return set()
    if node.get("enabled") != "false" or is_container(spot):
        return set()
    findings.no_image(image, spot.child("image").place(), "switched-off-and-incomplete")
    return {"image"}


def _is_under_image(spot: Spot) -> bool:
    if isinstance(spot.key, str):
        return position(spot.key) is not Position.NONE
    parent = spot.parent
    key = parent.key if parent else None
    return isinstance(key, str) and position(key) is not Position.NONE


def _scalars(node: dict[str, Tree]) -> dict[str, str]:
    return {name: text for name, text in node.items() if isinstance(text, str)}


def _around(spot: Spot) -> Iterator[dict[str, str]]:
    own = spot.table.get("global")
    if isinstance(own, dict):
        yield _scalars(own)
    for outer in spot.around():
        if isinstance(outer.node, dict):
            yield _scalars(outer.node)
            for shared in ("global", "image"):
                inner = outer.node.get(shared)
                if isinstance(inner, dict) and inner is not spot.node:
                    yield _scalars(inner)
