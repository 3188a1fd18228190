"""YAML that people wrote, as plain values with the line of each.

Every problem is collected with its line: duplicate keys (YAML forbids them, most loaders take the
last), anchors and aliases (a short file can stand for gigabytes), tags, keys that are not text,
nesting and size beyond what a site needs. YAML 1.2: ``no`` and ``on`` are text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from perimeter_bundle.model.errors import InputError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 12

PathKey = tuple[str | int, ...]
Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong and the line where; line 0 when it concerns the whole file."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(slots=True)
class YamlSource:
    """The values, the line (from 1) of every key and item, and what was wrong."""

    values: Mapping[str, Value]
    lines: dict[PathKey, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, *path: str | int) -> int:
        """The line of ``path``, or of the nearest thing around it that is there; else 0."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0


def read_yaml(path: Path) -> YamlSource:
    """The values in the file ``path``, with lines and with problems found on the way.

    Raises InputError[no-site-file, bad-site] when nothing can be read at all.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            "no-site-file",
            f"cannot read {path}: {error.strerror}",
            hint="write one with perimeter-install init, or name it with --site",
        ) from error
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, name: str) -> YamlSource:
    """As ``read_yaml``, from bytes; ``name`` is what messages call the file."""
    if len(data) > MAX_BYTES:
        raise _refused(name, f"larger than {MAX_BYTES} bytes: this is not a site.yaml")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(name, f"not UTF-8 text (byte {error.start})") from error
    reader = _Reader()
    try:
        reader.check_events(text)
        if reader.problems:  # composing would resolve what was just refused
            raise _refused(name, *map(str, sorted(reader.problems)))
        documents = list(YAML(typ="safe", pure=True).compose_all(io.StringIO(text)))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise _refused(name, f"{where}{error.problem or error.context}") from error
    except YAMLError as error:
        raise _refused(name, str(error).strip().replace("\n", " ")) from error
    if len(documents) != 1 or not isinstance(documents[0], MappingNode):
        raise _refused(name, "line 1: expected one document of keys and values")
    values = reader.mapping(documents[0], ())
    return YamlSource(values, reader.lines, reader.problems)


def _refused(name: str, *problems: str) -> InputError:
    return InputError("bad-site", f"{name} cannot be used", problems=problems)


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[PathKey, int] = {}
        self.problems: list[Problem] = []

    def check_events(self, text: str) -> None:
        """Looks at the stream of events before any recursion: depth, anchors, aliases, tags."""
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
            line = event.start_mark.line + 1
            if isinstance(event, CollectionStartEvent):
                depth += 1
                if depth == MAX_DEPTH + 1:
                    self.problems.append(Problem(line, f"nested deeper than {MAX_DEPTH} levels"))
                    return
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
            if isinstance(event, AliasEvent):
                self.problems.append(
                    Problem(line, "aliases (*name) are not taken; write the value out")
                )
            elif isinstance(event, NodeEvent) and event.anchor:
                self.problems.append(Problem(line, "anchors (&name) are not taken"))
            if getattr(event, "tag", None):
                self.problems.append(Problem(line, f"tags ({event.tag}) are not taken"))

    def mapping(self, node: MappingNode, path: PathKey) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self.key(key_node)
            if key is None:
                self.problems.append(Problem(line, "a key must be text; put it in quotes"))
                continue
            here = (*path, key)
            if key in values:
                first = self.lines[here]
                self.problems.append(
                    Problem(line, f"{dotted(here)}: stands there twice (first in line {first})")
                )
                continue
            self.lines[here] = line
            values[key] = self.value(value_node, here)
        return values

    def key(self, node: Node) -> str | None:
        if isinstance(node, ScalarNode) and _kind(node) == "str":
            return str(node.value)
        return None

    def value(self, node: Node, path: PathKey) -> Value:
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            items: list[Value] = []
            for number, item in enumerate(node.value):
                here = (*path, number)
                self.lines[here] = item.start_mark.line + 1
                items.append(self.value(item, here))
            return items
        return self.scalar(node, path)

    def scalar(self, node: Node, path: PathKey) -> Value:
        text, kind = str(node.value), _kind(node)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in _BASES else 10)
            if kind == "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self.problems.append(
                Problem(self.lines[path], f"{dotted(path)}: cannot read the number {text[:40]!r}")
            )
        return text


_BASES = ("0x", "0o", "0b")


def _kind(node: Node) -> str:
    return str(node.tag).rpartition(":")[2]


def dotted(path: PathKey) -> str:
    """``hosts.n1.groups[0]`` for ("hosts", "n1", "groups", 0)."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
