"""Kubernetes YAML or JSON → one document at a time, with bounds that a bomb cannot pass.

Scalars stay text as it is written: `1.10` is a tag here and no number, `on` is no boolean. Trees
are made from libyaml's nodes directly, so a key that stands twice and an alias are seen.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from perimeter_bundle.model.errors import InputError

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_OBJECTS_BYTES = 64 * 1024 * 1024  # what one manifest or kustomization of a release may give
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024  # etcd takes 1.5 MiB; a List of a whole namespace is larger
MAX_NODES = 3_000_000  # aliases make a small file a large tree; no honest one is larger
MAX_ALIASED_NODES = 100_000
MAX_DEPTH = 200

try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # PyYAML without libyaml: slower, the same nodes
    from yaml import BaseLoader as _Loader  # type: ignore[assignment]

_DEEP_LINE = re.compile(rf"^[ \t?:-]{{{MAX_DEPTH},}}", re.MULTILINE)

Tree = dict[str, "Tree"] | list["Tree"] | str


class TreeError(ValueError):
    """A document that is refused; the message says why and in which line."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    source: str
    line: int  # where it begins
    tree: Tree


def read_documents(source: str, data: bytes) -> Iterator[Document]:
    """Every document in ``data`` that holds something; a ``kind: List`` gives its items.

    Raises InputError[bad-manifest-file], which names the file, the line, and the object if known.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InputError("bad-manifest-file", f"{source} is larger than {MAX_FILE_BYTES} bytes")
    for line, chunk in _chunks(data):
        if len(chunk) > MAX_DOCUMENT_BYTES:
            raise _refusal(source, line, chunk, f"is larger than {MAX_DOCUMENT_BYTES} bytes")
        try:
            trees = list(parse_trees(chunk.decode("utf-8-sig"), first_line=line))
        except (TreeError, UnicodeDecodeError) as error:
            raise _refusal(source, line, chunk, str(error)) from error
        for tree in trees:
            for item in _flatten(tree):
                yield Document(source, line, item)


def parse_trees(text: str, *, first_line: int = 1, limit: int = MAX_NODES) -> Iterator[Tree]:
    """The documents in ``text``, empty ones left out; raises TreeError."""
    if text.lstrip()[:1] == "{":
        parsed = _json_tree(text, limit)
        if parsed is not None:
            yield parsed
            return
    try:
        _check_depth(text, first_line)
        for node in yaml.compose_all(text, Loader=_Loader):
            tree = _Builder(limit, first_line).build(node, 0)
            if tree:
                yield tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {first_line + mark.line}: " if mark else ""
        raise TreeError(f"{where}is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, TreeError):
            raise
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise TreeError(f"is not YAML: {reason[:300]}".replace("\n", " ")) from error


def _check_depth(text: str, first_line: int) -> None:
    """Raises TreeError for nesting that would overflow the stack of libyaml's composer.

    Brackets and leading marks bound the depth from above, those in strings included; only where
    they allow too much is the text read event by event.
    """
    brackets = text.count("[") + text.count("{")
    if brackets < MAX_DEPTH and _DEEP_LINE.search(text) is None:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = first_line + (event.start_mark.line if event.start_mark else 0)
                raise TreeError(f"line {line}: nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Text between document markers: `---` at the start of a line is one wherever it stands.

    https://yaml.org/spec/1.2.2/#914-explicit-documents
    """
    start, line = 0, 1
    while True:
        at = start if _is_marker(data, start) else _next_marker(data, start)
        if at < 0:
            yield line, data[start:]
            return
        if at > start:
            yield line, data[start:at]
            line += data.count(b"\n", start, at)
        end = _next_marker(data, at)
        yield line, data[at:] if end < 0 else data[at:end]
        if end < 0:
            return
        line += data.count(b"\n", at, end)
        start = end


def _is_marker(data: bytes, at: int) -> bool:
    return data[at : at + 3] == b"---" and data[at + 3 : at + 4] in (b"", b" ", b"\n", b"\r", b"\t")


def _next_marker(data: bytes, start: int) -> int:
    at = start
    while (at := data.find(b"\n---", at)) >= 0:
        at += 1
        if _is_marker(data, at):
            return at
    return -1


class _Builder:
    """libyaml's nodes → dict, list, str."""

    def __init__(self, limit: int, first_line: int) -> None:
        self.left = limit
        self.aliased_left = MAX_ALIASED_NODES
        self.first_line = first_line
        self.seen: set[int] = set()
        self.inside: set[int] = set()

    def build(self, node: yaml.Node, depth: int, *, aliased: bool = False) -> Tree:
        if isinstance(node, yaml.ScalarNode):
            self._count(node, aliased=aliased)
            return str(node.value)
        if depth > MAX_DEPTH:
            raise TreeError(f"{self._line(node)}: nested deeper than {MAX_DEPTH}")
        if id(node) in self.inside:
            raise TreeError(f"{self._line(node)}: an alias holds itself")
        aliased = aliased or id(node) in self.seen
        self._count(node, aliased=aliased)
        self.seen.add(id(node))
        self.inside.add(id(node))
        tree: Tree
        if isinstance(node, yaml.SequenceNode):
            tree = [self.build(item, depth + 1, aliased=aliased) for item in node.value]
        else:
            tree = self._mapping(node, depth, aliased=aliased)
        self.inside.discard(id(node))
        return tree

    def _mapping(self, node: yaml.Node, depth: int, *, aliased: bool) -> dict[str, Tree]:
        table: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise TreeError(f"{self._line(key_node)}: a key is not a string")
            key = str(key_node.value)
            value = self.build(value_node, depth + 1, aliased=aliased)
            if key == "<<" and key_node.style is None:
                for part in value if isinstance(value, list) else [value]:
                    merged = {**part, **merged} if isinstance(part, dict) else merged
            elif key in table:
                raise TreeError(f"{self._line(key_node)}: key {key!r} stands twice")
            else:
                table[key] = value
        return {**merged, **table} if merged else table

    def _count(self, node: yaml.Node, *, aliased: bool) -> None:
        self.left -= 1
        self.aliased_left -= aliased
        if self.left < 0 or self.aliased_left < 0:
            raise TreeError(f"{self._line(node)}: more values than any honest document has (bomb)")

    def _line(self, node: yaml.Node) -> str:
        return f"line {self.first_line + node.start_mark.line}"


def _json_tree(text: str, limit: int) -> Tree | None:
    """JSON text as a tree; None when it is not JSON (a flow mapping of YAML looks alike)."""
    try:
        parsed = json.loads(text, strict=False, object_pairs_hook=_unique)
    except TreeError:
        raise
    except RecursionError as error:
        raise TreeError("nested too deep") from error
    except ValueError:
        return None
    left = [limit]
    return _json_part(parsed, 0, left) if isinstance(parsed, dict) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise TreeError(f"key {twice!r} stands twice")
    return table


def _json_part(value: object, depth: int, left: list[int]) -> Tree:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise TreeError("nested too deep" if depth > MAX_DEPTH else "more values than allowed")
    if isinstance(value, dict):
        return {str(key): _json_part(part, depth + 1, left) for key, part in value.items()}
    if isinstance(value, list):
        return [_json_part(part, depth + 1, left) for part in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _flatten(tree: Tree) -> Iterator[Tree]:
    items = tree.get("items") if isinstance(tree, dict) else None
    kind = tree.get("kind") if isinstance(tree, dict) else None
    if isinstance(items, list) and isinstance(kind, str) and kind.endswith("List"):
        for item in items:
            yield from _flatten(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _flatten(item)
    else:
        yield tree


def _refusal(source: str, line: int, chunk: bytes, reason: str) -> InputError:
    """The object's name is looked for in the text: the document could not be read."""
    head = chunk[:65536].decode("utf-8", "replace").splitlines()
    kind = next((row[5:].strip() for row in head if row.startswith("kind:")), "")
    name = next((row.strip()[5:].strip() for row in head if row.startswith("  name:")), "")
    what = f" ({kind or '?'}/{name or '?'})" if kind or name else ""
    return InputError(
        "bad-manifest-file",
        f"{source}, document at line {line}{what}: {reason}",
        context={"file": source, "object": f"{kind or '?'}/{name or '?'}"},
    )
