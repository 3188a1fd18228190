"""YAML that people write, read strictly, with the line of every value kept for messages.

Duplicate keys, anchors, aliases, tags, several documents, and sizes or depths no person writes are
refused: what one reader sees must be what every reader sees. YAML 1.2, so ``on`` is a string.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from perimeter_bundle.model.errors import InputError

MAX_YAML_BYTES = 1024 * 1024
MAX_YAML_DEPTH = 24

KeyPath = tuple[str | int, ...]
_PLAIN_TAG = "tag:yaml.org,2002:"
_COLLECTION_TAGS = frozenset({f"{_PLAIN_TAG}map", f"{_PLAIN_TAG}seq"})


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """``value`` holds dict, list, str, int, float, bool and None; ``lines`` where each stands."""

    name: str
    value: object
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line_of(self, path: KeyPath) -> int:
        """The line of the value at ``path``, or of the nearest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: KeyPath, text: str) -> str:
        """One problem as it is shown: file, line, field, what is wrong."""
        field_name = field_path(path)
        return f"{self.name}:{self.line_of(path)}: {field_name + ': ' if field_name else ''}{text}"


def field_path(path: KeyPath) -> str:
    """``images[0].reference`` for ``("images", 0, "reference")``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse_yaml(data: bytes, name: str) -> YamlDocument:
    """The one document in ``data``; ``name`` is the file as messages name it.

    Raises InputError[bad-yaml] with every problem found.
    """
    problems: list[str] = []
    lines: dict[KeyPath, int] = {}
    try:
        text = _text(data)
        problems = _event_problems(text, name)
        value: object = None
        if not problems:
            root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
            value = None if root is None else _build(root, (), name, lines, problems)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problems = [f"{name}:{line}: {error.problem or error.context}"]
    except (YAMLError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        problems = [f"{name}: {reason}"]
    if problems:
        raise InputError("bad-yaml", f"{name} cannot be read", problems=problems)
    return YamlDocument(name, value, lines)


def _text(data: bytes) -> str:
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(f"{len(data)} bytes are more than the {MAX_YAML_BYTES} allowed")
    return data.decode("utf-8")


def _event_problems(text: str, name: str) -> list[str]:
    """What is refused before anything is built: a bomb is seen without setting it off."""
    problems: list[str] = []
    depth = documents = 0
    for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
        line = event.start_mark.line + 1
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents == 2:
                problems.append(f"{name}:{line}: a second document begins; write one a file")
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
            if depth > MAX_YAML_DEPTH:
                raise ValueError(f"line {line}: nested deeper than {MAX_YAML_DEPTH}")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1
        if isinstance(event, AliasEvent):
            problems.append(f"{name}:{line}: alias *{event.anchor}: write the value out")
        elif isinstance(event, NodeEvent) and event.anchor is not None:
            problems.append(f"{name}:{line}: anchor &{event.anchor}: write the value out")
    return problems


def _build(
    node: Node, path: KeyPath, name: str, lines: dict[KeyPath, int], problems: list[str]
) -> object:
    lines[path] = node.start_mark.line + 1
    if not isinstance(node, ScalarNode) and node.tag not in _COLLECTION_TAGS:
        problems.append(f"{name}:{lines[path]}: tag {node.tag} is not allowed")
    if isinstance(node, SequenceNode):
        return [
            _build(item, (*path, index), name, lines, problems)
            for index, item in enumerate(node.value)
        ]
    if isinstance(node, MappingNode):
        table: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node, name, problems) if isinstance(key_node, ScalarNode) else None
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                problems.append(f"{name}:{line}: key {key!r} is not a string; put it in quotes")
                continue
            if key in table:
                first = lines[(*path, key)]
                where = field_path((*path, key))
                problems.append(f"{name}:{line}: {where}: key stands twice, first in line {first}")
                continue
            table[key] = _build(value_node, (*path, key), name, lines, problems)
            lines[(*path, key)] = line
        return table
    return _scalar(node, name, problems)


def _scalar(node: Node, name: str, problems: list[str]) -> object:
    text = str(node.value)
    kind = str(node.tag).removeprefix(_PLAIN_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        try:
            return int(text.replace("_", ""), 0)
        except ValueError:
            return text  # 007 and the like: a string to people, refused where a number is asked
    if kind == "float":
        try:
            return float(text.replace("_", ""))
        except ValueError:
            return text
    if kind in ("str", "timestamp"):
        return text  # a date is text here: versions look like dates
    problems.append(f"{name}:{node.start_mark.line + 1}: tag {node.tag} is not allowed")
    return None
