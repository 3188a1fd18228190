"""What the schema of a custom resource says of its fields: an image, a container, or none of them.

Only what leads to something said is kept, so the schemas of a whole platform take little memory.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from perimeter_bundle.discover.stream import Document, Tree
from perimeter_bundle.discover.words import Part, Position, part, position, word_set

MAX_DESCRIPTION = 600

_CONTAINER_FIELDS = word_set(
    "command args env envFrom ports volumeMounts volumeDevices livenessProbe readinessProbe",
    "startupProbe lifecycle workingDir terminationMessagePath imagePullPolicy",
)
_FEWEST_CONTAINER_FIELDS = 3
_NAME_FIELDS = word_set("repository repo image name")
_VERSION_FIELDS = word_set("tag digest version")
_ONLY_OF_IMAGES = word_set(
    "pullPolicy imagePullPolicy pullSecrets imagePullSecrets registry digest"
)
_OF_OTHER_SOURCES = word_set("branch commit revision git gitRef url chart path bucket")
# "Image is the container image to run", "Optional OCI image of the agent": how a sentence begins
_IS_IMAGE = re.compile(
    r"(?:(?:the|an?|optional|required|default|custom|full|fully|qualified|name|url|uri|reference|"
    r"override|overrides|specify|specifies|define|defines|set|sets|holds|contains|is|of|to|which|"
    r"[\w.-]+(?= (?:is|specifies|defines|sets|holds|contains|overrides)\b))[\s.:,]+){0,8}"
    r"(?:container|docker|oci|pod)[ -]images?\b(?!['’])"
    r"(?!s?[ -](?:pull|registr|repositor|tag|version|digest|prefix|secret|polic|format|size))",
    re.IGNORECASE,
)
_WHOLE_NAME = re.compile(r"fully[ -]qualified (?:container |docker |oci )?image", re.IGNORECASE)
_CONTAINER_IMAGE = re.compile(r"\b(?:container|docker|oci)(?:'s)?[ -]images?\b", re.IGNORECASE)
_OTHER_IMAGE = re.compile(
    r"\b(?:machine|disk|vm|virtual machine|ami|boot|os|operating system|iso|qcow2?|raw|glance|"
    r"cloud|snapshot|marketplace|compute|server|node|logo|icon|avatar|picture|kernel|vhd|vmdk|"
    r"template)[ -]images?\b"
    r"|\bimages? (?:id|family|project|offer|gallery|of the (?:machine|node|instance|logo))\b",
    re.IGNORECASE,
)


class Meaning(Enum):
    """What a schema says stands in a field."""

    NONE = "nothing"
    IMAGE = "image"  # a whole reference
    OTHER = "other"  # called an image, and none of a container; a source of charts, of git
    CONTAINER = "container"
    PARTS = "parts"  # of one image: repository, tag


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a custom resource, and what is known of those below."""

    meaning: Meaning = Meaning.NONE
    properties: Mapping[str, Field] = field(default_factory=dict)
    each: Field | None = None  # items of a list, values of a table
    defaults: Mapping[str, str] = field(default_factory=dict)  # of its properties

    def below(self, key: str | int | None) -> Field | None:
        """What is known of the field at ``key``."""
        if isinstance(key, str) and key in self.properties:
            return self.properties[key]
        return self.each


class Schemas:
    """The schemas met so far, by group, kind and version."""

    def __init__(self) -> None:
        self._fields: dict[tuple[str, str], dict[str, Field]] = {}

    def learn(self, document: Document) -> tuple[str, str] | None:
        """Group and kind that ``document`` defines; None when it defines none."""
        found = dict(_schemas_in(document.tree))
        names = _defined(document.tree)
        if names is None:
            return None
        self._fields.setdefault(names, {}).update(
            {version: read_field("", schema) for version, schema in found.items()}
        )
        return names

    def of(self, tree: Tree) -> Field | None:
        """What is known of the fields of this object; None without a schema."""
        kind = custom_kind(tree)
        versions = self._fields.get(kind) if kind else None
        if not versions or not isinstance(tree, dict):
            return None
        version = str(tree.get("apiVersion")).rpartition("/")[2]
        return versions.get(version) or next(iter(versions.values()))

    def knows(self, kind: tuple[str, str]) -> bool:
        """Whether its definition has been met."""
        return kind in self._fields


_BUILT_IN = word_set(
    "rbac.authorization.k8s.io networking.k8s.io storage.k8s.io admissionregistration.k8s.io",
    "apiextensions.k8s.io apiregistration.k8s.io scheduling.k8s.io coordination.k8s.io node.k8s.io",
    "discovery.k8s.io certificates.k8s.io flowcontrol.apiserver.k8s.io events.k8s.io",
    "authentication.k8s.io authorization.k8s.io resource.k8s.io storagemigration.k8s.io",
)


def custom_kind(tree: Tree) -> tuple[str, str] | None:
    """Group and kind of an object that somebody must have defined; None for built-in ones."""
    if not isinstance(tree, dict):
        return None
    version, kind = tree.get("apiVersion"), tree.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return None
    group = version.rpartition("/")[0]
    return (group, kind) if "." in group and group not in _BUILT_IN else None


def _defined(tree: Tree) -> tuple[str, str] | None:
    spec = _table(_table(tree).get("spec"))
    if not str(_table(tree).get("kind", "")).endswith("ResourceDefinition"):
        return None
    group, kind = spec.get("group"), _table(spec.get("names")).get("kind")
    return (group, kind) if isinstance(group, str) and isinstance(kind, str) else None


def _schemas_in(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Version and schema; before apiextensions/v1 one schema could be for all versions."""
    spec = _table(_table(tree).get("spec"))
    shared = _table(spec.get("validation")).get("openAPIV3Schema")
    if shared is not None:
        yield str(spec.get("version", "")), shared
    versions = spec.get("versions")
    for version in versions if isinstance(versions, list) else []:
        schema = _table(_table(version).get("schema")).get("openAPIV3Schema", shared)
        if schema is not None:
            yield str(_table(version).get("name", "")), schema


def read_field(name: str, schema: Tree) -> Field:
    """What ``schema`` says of the field called ``name`` and of those below."""
    node = _table(schema)
    properties = _table(node.get("properties"))
    read = {key: _read_beside(key, inner, properties) for key, inner in properties.items()}
    for key in ("allOf", "anyOf", "oneOf"):
        choices = node.get(key)
        for choice in choices if isinstance(choices, list) else []:
            for inner_name, inner in read_field(name, choice).properties.items():
                read.setdefault(inner_name, inner)
    each = node.get("items") or node.get("additionalProperties")
    inner_each = read_field(name, each) if isinstance(each, dict) else None
    defaults = {
        key: default
        for key, inner in properties.items()
        if isinstance(default := _table(inner).get("default"), str)
    }
    said = _meaning_of_object(properties) if properties else _meaning_of_text(name, node)
    if said is Meaning.CONTAINER and read["image"].meaning is not Meaning.OTHER:
        read["image"] = Field(Meaning.IMAGE)
    kept = {key: inner for key, inner in read.items() if _says_something(inner)}
    return Field(
        meaning=said,
        properties=kept,
        each=inner_each if inner_each and _says_something(inner_each) else None,
        defaults=defaults if any(part(key) or key == "name" for key in defaults) else {},
    )


def _read_beside(name: str, schema: Tree, siblings: Mapping[str, Tree]) -> Field:
    """A field that others of the same mapping complete is no image by itself."""
    read = read_field(name, schema)
    if read.meaning is not Meaning.IMAGE:
        return read
    found = part(name)
    prefix = found[0] if found else ()
    completing = {Part.TAG, Part.REPOSITORY, Part.REGISTRY, Part.DIGEST}
    for other in siblings:
        beside = part(other) if other != name else None
        if beside and beside[0] == prefix and beside[1] in completing:
            return Field()
    return read


def _meaning_of_object(properties: Mapping[str, Tree]) -> Meaning:
    names = properties.keys()
    image = properties.get("image")
    if image is not None and _is_text(image):
        others = {(), ("image",)}
        is_whole = not any(
            (found := part(other)) and found[0] in others and found[1] is not Part.IMAGE
            for other in names
        )
        if is_whole and len(_CONTAINER_FIELDS & names) >= _FEWEST_CONTAINER_FIELDS:
            return Meaning.CONTAINER
    if not (_NAME_FIELDS & names and _VERSION_FIELDS & names):
        return Meaning.NONE
    if _ONLY_OF_IMAGES & names:
        return Meaning.NONE if _OF_OTHER_SOURCES & names else Meaning.PARTS
    return Meaning.OTHER if _OF_OTHER_SOURCES & names and "image" not in names else Meaning.NONE


def _meaning_of_text(name: str, node: dict[str, Tree]) -> Meaning:
    description = node.get("description")
    if not _is_text(node) or "enum" in node or not isinstance(description, str):
        return Meaning.NONE
    description = " ".join(description[:MAX_DESCRIPTION].split())
    if position(name) is Position.STRONG:
        if _OTHER_IMAGE.search(description) and not _CONTAINER_IMAGE.search(description):
            return Meaning.OTHER
        return Meaning.IMAGE if _CONTAINER_IMAGE.search(description) else Meaning.NONE
    if position(name) is Position.NONE and part(name) is not None:
        return Meaning.NONE  # tag, registry: a part, whatever the sentence says
    is_image = _IS_IMAGE.match(description) or _WHOLE_NAME.search(description)
    return Meaning.IMAGE if is_image and "pull" not in name.lower() else Meaning.NONE


def _says_something(read: Field) -> bool:
    return read.meaning is not Meaning.NONE or bool(read.properties or read.each or read.defaults)


def _is_text(schema: Tree) -> bool:
    node = _table(schema)
    return node.get("type", "string") == "string" and "format" not in node


def _table(tree: Tree | None) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}
