"""Single strings: fields whose name promises an image, and forms that cannot be anything else."""

from __future__ import annotations

from perimeter_bundle.discover.classify import not_image_rule
from perimeter_bundle.discover.extract.note import note
from perimeter_bundle.discover.extract.text import scan_prose, scan_text
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.meaning import Meaning
from perimeter_bundle.discover.shapes import (
    is_complete_reference,
    is_like_reference,
    is_unmistakable,
    names_registry,
)
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.words import (
    Part,
    Position,
    is_expression,
    is_prose,
    part,
    word_set,
    words,
)

_RULE_OF_POSITION = {
    Position.NONE: "reference-form",
    Position.WEAK: "under-image-field",
    Position.STRONG: "image-field",
    Position.CONTAINER: "container-image",
}
# fields that say what something is, not where it comes from: `kind: go:1.11`
_KINDS = word_set("kind type class id key model runtime language version label protocol")
_NEAR = 2  # keys above a field that still speak of it
# a key and a value that nodes and pods are chosen by; a name nobody gave
_LABELS = word_set("label labels selector selectors taint taints toleration tolerations affinity")
_IDENTIFIERS = word_set("uid uuid guid")
# values worth remembering for placeholders: parts of references
_REMEMBERED = frozenset({Part.IMAGE, Part.REPOSITORY, Part.REGISTRY, Part.TAG, Part.DIGEST})


def single_value(spot: Spot, findings: Findings, text: str) -> None:
    """A string without spaces: what its field's name promises, or its form."""
    promise = spot.position()
    name = spot.name
    _remember(spot, findings, text)
    if _by_schema(spot, findings, text):
        return
    is_whole = promise is Position.STRONG and _is_plain_holder(spot, text)
    if is_whole and not not_image_rule(text, Position.STRONG):
        promise = Position.CONTAINER
    if _is_untagged_annotation(spot, text):
        findings.no_image(text, spot.place(), "annotation")
        return
    if promise is not Position.NONE and _is_of_machine(spot) and not is_complete_reference(text):
        findings.no_image(text, spot.place(), "machine-image")
        return
    if promise is Position.NONE and "/" not in text and words(name) and words(name)[-1] in _KINDS:
        if is_like_reference(text):
            findings.no_image(text, spot.place(), "name-and-version")
        return
    if promise is Position.NONE and is_like_reference(text) and not is_unmistakable(text):
        named = set(words(name))
        if named & (_LABELS | _IDENTIFIERS):
            rule = "label" if named & _LABELS else "identifier"
            findings.no_image(text, spot.place(), rule)
            return
    rule = _rule(spot, promise)
    if "," in text or "=" in text:
        scan_text(text, spot.place(), findings, spot.root, promise=promise, rule=rule)
        return
    note(findings, text, promise, spot.place(), rule, name=name)


def _by_schema(spot: Spot, findings: Findings, text: str) -> bool:
    """Judges ``text`` by what the schema of its object says; whether that says enough."""
    if spot.meaning is Meaning.IMAGE:
        is_other = bool(not_image_rule(text, Position.STRONG))
        promise = Position.STRONG if is_other else Position.CONTAINER
        return note(findings, text, promise, spot.place(), "schema-image", name=spot.name)
    if spot.meaning is Meaning.OTHER and not is_unmistakable(text):
        findings.no_image(text, spot.place(), "schema-of-other-image")
        return True
    return False


def words_in_value(spot: Spot, findings: Findings, text: str) -> None:
    """A string with spaces or lines that is no document."""
    promise = spot.position()
    is_line = promise is Position.STRONG and "\n" not in text.strip()
    # one value with a template in it: {{ .Values.image | default "x" }}
    if is_line and note_template(spot, findings, text):
        return
    promise = min(promise, Position.WEAK)
    rule = _rule(spot, promise) if promise is not Position.NONE else "reference-in-text"
    scan_text(text, spot.place(), findings, spot.root, promise=promise, rule=rule)


def note_template(spot: Spot, findings: Findings, text: str) -> bool:
    """Notes ``text`` when, its placeholders filled in, it could be one reference."""
    if "{{" not in text and "$" not in text:
        return False
    return note(findings, text, Position.STRONG, spot.place(), _rule(spot, Position.STRONG))


def prose(spot: Spot, findings: Findings, text: str) -> bool:
    """What people read, and expressions that judge objects; whether it is that."""
    if is_expression(spot.name):
        scan_prose(text, spot.place(), findings, rule="expression")
        return True
    if not (spot.root.in_prose or is_prose(spot.name) or _is_below_prose(spot)):
        return False
    scan_prose(text, spot.place(), findings)
    return True


def _is_untagged_annotation(spot: Spot, text: str) -> bool:
    """Where something came from; a name without a tag in an annotation pulls nothing."""
    is_annotation = spot.parent is not None and spot.parent.key in ("annotations", "labels")
    return is_annotation and names_registry(text) and not is_unmistakable(text)


def _is_of_machine(spot: Spot) -> bool:
    """Images of machines (Cluster API, autoscalers of nodes) are no container images."""
    kind = words(spot.root.kind)
    if "machine" not in kind and kind[-2:] != ("node", "class"):
        return False
    # a disk that comes as a container image: `containerDisk: {image: …}`
    near = [one.key for _, one in zip(range(_NEAR), spot.around(), strict=False)]
    return not any(isinstance(key, str) and "container" in words(key) for key in near)


def _is_below_prose(spot: Spot) -> bool:
    """Within `examples: […]`."""
    for number, outer in enumerate(spot.around()):
        if number == 4:
            return False
        if isinstance(outer.key, str) and is_prose(outer.key):
            return outer.key.lower().startswith("example")
    return False


def _is_plain_holder(spot: Spot, text: str) -> bool:
    """Environment variables and keys of ConfigMaps hold whole values: `busybox` is an image there.

    In documents a bare name may be completed by something else; there it must be explained.
    """
    if spot.key in ("value", "default") and spot.name != spot.key:
        return True
    # `moveResultsImage: busybox` of a resource; a plain `image` may be of something else
    is_named = not spot.root.prefix and len(words(spot.name)) > 1
    return is_named or _is_data_key(spot)


def _remember(spot: Spot, findings: Findings, text: str) -> None:
    if not isinstance(spot.key, str):
        return
    if _is_data_key(spot):
        findings.bind(spot.key, text, spot.root)
        return
    found = part(spot.key)
    if found is not None and found[1] in _REMEMBERED:
        findings.bind(spot.path, text, spot.root)


def _rule(spot: Spot, promise: Position) -> str:
    if promise is Position.NONE:
        return _RULE_OF_POSITION[promise]
    if spot.key in ("value", "default") and spot.name != spot.key:
        return "named-value"
    if _is_data_key(spot):
        return "configmap-key" if spot.root.kind == "ConfigMap" else "secret-key"
    return _RULE_OF_POSITION[promise]


def _is_data_key(spot: Spot) -> bool:
    """A key of a ConfigMap or Secret itself, not of a document in it."""
    in_data = spot.parent is not None and spot.parent.key in ("data", "stringData")
    return in_data and not spot.root.prefix and spot.root.kind in ("ConfigMap", "Secret")
