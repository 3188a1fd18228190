"""A value in a tree together with everything around it: keys, parents, siblings, the object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from perimeter_bundle.discover.meaning import Field, Meaning
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Position, position

_SIMPLE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# keys that only say "here is the value"; the name stands beside or above them
_GENERIC_KEYS = frozenset(
    {"value", "values", "default", "defaultValue", "options", "option", "choices", "enum", "items"}
)
_NAMING_KEYS = ("name", "key", "parameter")


@dataclass(frozen=True, slots=True)
class Root:
    """The object a tree belongs to, and where in it the tree was found."""

    source: str
    object: str  # Deployment/kubeflow/ml-pipeline
    kind: str
    prefix: str = ""  # `data[katib-config.yaml] -> ` for a document inside a string
    depth: int = 0  # strings opened on the way here
    position: Position = Position.NONE  # what the name of the string that was opened promises
    in_prose: bool = False
    tree: Tree = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Spot:
    """One value; ``parent`` is the mapping or list it stands in."""

    node: Tree
    root: Root
    key: str | int | None = None
    parent: Spot | None = None
    schema: Field | None = None  # what the definition of the object's kind says of it

    def children(self) -> Iterator[Spot]:
        """What stands in it."""
        if isinstance(self.node, dict):
            for key, value in self.node.items():
                yield Spot(value, self.root, key, self, self._schema_of(key))
        elif isinstance(self.node, list):
            for index, value in enumerate(self.node):
                yield Spot(value, self.root, index, self, self._schema_of(index))

    def _schema_of(self, key: str | int) -> Field | None:
        return self.schema.below(key) if self.schema else None

    @property
    def meaning(self) -> Meaning:
        """What the schema of its object says it is."""
        return self.schema.meaning if self.schema else Meaning.NONE

    @property
    def table(self) -> dict[str, Tree]:
        """The value as a mapping; empty when it is none."""
        return self.node if isinstance(self.node, dict) else {}

    @property
    def items(self) -> list[Tree]:
        """The value as a list; empty when it is none."""
        return self.node if isinstance(self.node, list) else []

    def child(self, key: str) -> Spot:
        """The value at ``key`` of this mapping."""
        return Spot(self.table[key], self.root, key, self, self._schema_of(key))

    def around(self) -> Iterator[Spot]:
        """The values it stands in, nearest first."""
        spot = self.parent
        while spot is not None:
            yield spot
            spot = spot.parent

    @property
    def path(self) -> str:
        """``spec.containers[0].image``."""
        keys: list[str | int] = []
        spot: Spot | None = self
        while spot is not None and spot.key is not None:
            keys.append(spot.key)
            spot = spot.parent
        return join_path(reversed(keys))

    def place(self, line: int | None = None) -> Place:
        """Where it is, for people; ``line`` in a text."""
        path = self.root.prefix + self.path
        if line is not None:
            path = f"{path.removesuffix(' -> ')} line {line}"
        return Place(self.root.source, self.root.object, path.strip())

    def names(self) -> Iterator[str]:
        """What the value is called: its key; a name beside a generic key; then names around it."""
        spot: Spot | None = self
        while spot is not None and spot.key is not None:
            if isinstance(spot.key, str):
                generic = spot.key in _GENERIC_KEYS
                if generic:
                    beside = spot.parent.node if spot.parent else None
                    named = _name_in(beside)
                    if named:
                        yield named
                        return
                yield spot.key
                if not generic:
                    return
            spot = spot.parent

    @property
    def name(self) -> str:
        """The name that tells most about the value; empty at the root."""
        last = ""
        for last in self.names():
            if last not in _GENERIC_KEYS:
                return last
        return last

    def position(self) -> Position:
        """What its name promises; what stands in a list or a table only by its form."""
        found = position(self.name)
        if found is Position.NONE:
            return self._position_around()
        # options of an image field, entries of a list: by their form
        if isinstance(self.key, int) or (self.key in _GENERIC_KEYS and self.key != "value"):
            return min(found, Position.WEAK)
        return found

    def _position_around(self) -> Position:
        """`images: {web: …}` and `image: {value: …, options: […]}`: the name is further up."""
        steps = 0
        for spot in self.around():
            if isinstance(spot.key, str):
                if position(spot.key) is not Position.NONE:
                    return Position.WEAK
                steps += 1
            if steps == 2:
                break
        else:
            return min(self.root.position, Position.WEAK)
        return Position.NONE


def _name_in(node: Tree | None) -> str:
    if isinstance(node, dict):
        for key in _NAMING_KEYS:
            name = node.get(key)
            if isinstance(name, str) and name:
                return name
        path = node.get("path")
        if "op" in node and isinstance(path, str) and path.startswith("/"):
            return path.rpartition("/")[2]  # https://www.rfc-editor.org/rfc/rfc6902
    return ""


def join_path(keys: Iterator[str | int]) -> str:
    """``["data", "a.yaml", 0]`` → ``data[a.yaml][0]``."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif _SIMPLE_KEY.fullmatch(key):
            path += f".{key}" if path else key
        else:
            path += f"[{key}]"
    return path


def object_name(tree: Tree) -> tuple[str, str]:
    """Kind, and ``kind/namespace/name`` of an object; ``?`` for what it lacks."""
    table = tree if isinstance(tree, dict) else {}
    kind = table.get("kind")
    metadata = table.get("metadata")
    kind = kind if isinstance(kind, str) and kind else "?"
    parts = [kind]
    if isinstance(metadata, dict):
        parts += [str(metadata[key]) for key in ("namespace", "name") if metadata.get(key)]
        if not metadata.get("name") and metadata.get("generateName"):
            parts.append(str(metadata["generateName"]))
    return kind, "/".join(parts) if len(parts) > 1 else f"{kind}/?"
