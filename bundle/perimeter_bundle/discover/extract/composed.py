"""References split over fields of one mapping, or inherited from the mappings around it."""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.discover.compose import compose, tag_of
from perimeter_bundle.discover.extract.containers import is_container
from perimeter_bundle.discover.extract.note import note, note_composed
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.meaning import Meaning
from perimeter_bundle.discover.shapes import is_unmistakable, is_version_tag, names_registry
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.words import Part, Position, part, position, words

_VERSIONS_UP = 2  # mappings around an image in which a version still speaks of it
# kustomize and others write an image as a mapping of its own
_UNDER_IMAGE = {
    "newName": "image",
    "newTag": "tag",
    "name": "image",
    "reference": "image",
    "prefix": "repository",
}


def split_fields(spot: Spot, findings: Findings) -> set[str]:
    """`repository` + `image` + `version`, `hub` + `image` + `tag`, `registry` + `repository` + …

    What a mapping lacks is taken from the nearest mapping around it, or its `global`.
    """
    node = spot.table
    if spot.meaning is Meaning.OTHER:
        return set()
    fields = {**_defaults(spot), **_scalars(node)}
    for name in [name for name in fields if _is_other(spot, name)]:
        del fields[name]
    under_image = (
        _is_under_image(spot)
        or spot.meaning is Meaning.PARTS
        or fields.keys() >= {"prefix", "name", "tag"}
    )
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
    tag = _tag_around(spot)
    for found in compose(fields, tuple(_around(spot)), under_image=under_image, tag=tag):
        main = renamed.get(found.main, found.main)
        place = spot.child(main).place() if main in node else spot.place()
        note_composed(findings, found, place, "split-fields")
        _bind(spot, main, found.text, findings, composed=True)
        for name in found.used:
            _bind(spot, renamed.get(name, name), fields[name], findings)
        explained.update(renamed.get(name, name) for name in found.used)
    explained |= _product_version(spot, findings, under_image=under_image, but=explained)
    if explained & set(renamed.values()):
        explained.update(name for name in _UNDER_IMAGE if name in node)
    return explained


def _bind(spot: Spot, name: str, text: str, findings: Findings, *, composed: bool = False) -> None:
    if name in spot.table:
        findings.bind(spot.child(name).path, text, spot.root, composed=composed)


def _is_other(spot: Spot, name: str) -> bool:
    known = spot.schema.below(name) if spot.schema else None
    return known is not None and known.meaning is Meaning.OTHER


def _defaults(spot: Spot) -> dict[str, str]:
    """What the API server fills in, when the object has something of these fields."""
    schema = spot.schema
    if schema is None or not schema.defaults or not any(part(name) for name in spot.table):
        return {}
    return {name: text for name, text in schema.defaults.items() if name not in spot.table}


def _product_version(
    spot: Spot, findings: Findings, *, under_image: bool, but: set[str]
) -> set[str]:
    """Values of a chart: a name without a tag, and the product's version in a mapping around it.

    `image: {name: cr.example/acme/web, version: ""}` below `acmeVersion: stable-2.1`. With the
    tag left empty and no such version it is a question, not `latest`.
    """
    if not (spot.root.prefix or spot.root.kind == "?"):
        return set()
    fields = _scalars(spot.table)
    for name, text in fields.items():
        if name in but:
            continue
        found = part(name)
        prefix = () if under_image and name == "name" else found[0] if found else None
        is_name = (found and found[1] in (Part.IMAGE, Part.REPOSITORY)) or (
            under_image and name == "name"
        )
        if prefix is None or not is_name or not names_registry(text) or is_unmistakable(text):
            continue
        if tag_of(fields, prefix):
            continue
        place = spot.child(name).place()
        version = _version_of_product(spot, text)
        if version:
            reference = f"{text}:{version}"
            note(findings, reference, Position.CONTAINER, place, "split-fields", written=reference)
            return {name}
        if any(part(other) == (prefix, Part.TAG) for other in fields):
            findings.repository(text, place, "its tag is left empty")
            return {name}
    return set()


def _version_of_product(spot: Spot, image: str) -> str:
    path = set(words(image.partition("/")[2]))
    for one in (spot, *spot.around()):
        found = {
            text
            for name, text in _scalars(one.table).items()
            if words(name)[-1:] == ("version",)
            and words(name)[:-1]
            and set(words(name)[:-1]) <= path
            and is_version_tag(text)
        }
        if len(found) == 1:
            return found.pop()
    return ""


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


def _tag_around(spot: Spot) -> str:
    """The tag for an image that has none, from the mappings around it.

    Beside `proxyImage: {name: …}` stands `proxyVersion`; in the specification of a resource
    `version` is that of all it runs.
    """
    outer = [one for one in spot.around() if isinstance(one.node, dict)]
    if isinstance(spot.key, str) and outer:
        parts = words(spot.key)
        if parts[-1:] == ("image",):
            found = tag_of(_scalars(outer[0].table), parts[:-1])
            if found:
                return found
    if spot.root.prefix or spot.root.kind in ("ConfigMap", "Secret"):
        return ""
    for one in outer[:_VERSIONS_UP]:
        found = tag_of(_scalars(one.table), ())
        if is_version_tag(found.replace("+", "-")):
            return found
    return ""


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
