"""Python inside ConfigMaps: images as string literals, f-strings and settings from the environment.

The source is parsed, never run. What a name stands for is looked up among the assignments of the
same source and the environment of the containers in the same input.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product

from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.note import note, note_composed
from perimeter_bundle.discover.findings import Findings, PendingSource
from perimeter_bundle.discover.opened import python_tree
from perimeter_bundle.discover.shapes import is_unmistakable, parse_reference
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Position, Words, part, position, words

MAX_DEPTH = 12
MAX_CHOICES = 32
_ENVIRONMENT_CALLS = frozenset({"get", "getenv"})

Choices = tuple[str, ...]


def python_images(source: PendingSource, findings: Findings) -> None:
    """Notes every image the source names; a name that cannot be resolved is unclassified."""
    tree = python_tree(source.text)
    if tree is None:
        return
    reader = _Reader(tree, source, findings)
    composed = reader.compose_assignments()
    for name, value in reader.images():
        reader.note(name, value, composed)


class _Reader:
    def __init__(self, tree: ast.Module, source: PendingSource, findings: Findings) -> None:
        self.tree = tree
        self.source = source
        self.findings = findings
        self.assigned: dict[Words, list[ast.expr]] = {}
        for name, value in _assignments(tree):
            self.assigned.setdefault(words(name), []).append(value)

    def compose_assignments(self) -> set[str]:
        """Names that end alike and hold the parts of one image; gives the names without a tag."""
        fields: dict[str, str] = {}
        for name, values in self.assigned.items():
            if part("_".join(name)) is not None:
                choices = [c for value in values for c in self._choices(value, frozenset(), 0)]
                if choices:
                    fields["_".join(name)] = choices[0]
        parts: set[str] = set()
        for found in compose(fields):
            place = self._place(self._line_of(words(found.main)))
            note_composed(self.findings, found, place, "python-assignments")
            parts.update(fields[name] for name in found.used)
        return parts

    def images(self) -> Iterator[tuple[str, ast.expr]]:
        """Expressions in the place of an image: of a key, an argument, an assignment."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    name = _constant(key) if key is not None else ""
                    if position(name) is not Position.NONE:
                        yield name, value
            elif isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg and position(keyword.arg) is not Position.NONE:
                        yield keyword.arg, keyword.value
            elif isinstance(node, ast.Constant) and is_unmistakable(_constant(node)):
                yield "", node
        for name, value in _assignments(self.tree):
            if position(name) is not Position.NONE:
                yield "", value

    def note(self, name: str, value: ast.expr, composed: set[str]) -> None:
        choices = [text for text in self._choices(value, frozenset(), 0) if text not in composed]
        place = self._place(value.lineno)
        for text in choices:
            if "/" not in text and ":" not in text:
                continue  # a word; a program's variables are called image for many reasons
            promise = position(name)
            if is_unmistakable(text) or (promise is Position.STRONG and parse_reference(text)):
                note(self.findings, text, Position.STRONG, place, "python-source")
            elif "/" in text:
                note(self.findings, text, Position.WEAK, place, "python-source")
        if not choices and isinstance(value, ast.JoinedStr) and position(name) is Position.STRONG:
            text = ast.unparse(value)
            self.findings.unclear(text, place, "no value for a name in it in these objects")

    def _choices(self, node: ast.expr, seen: frozenset[Words], depth: int) -> Choices:
        if depth > MAX_DEPTH:
            return ()
        inner = depth + 1
        if isinstance(node, ast.Constant):
            return (node.value,) if isinstance(node.value, str) else ()
        if isinstance(node, ast.JoinedStr):
            return self._product(node.values, seen, inner)
        if isinstance(node, ast.FormattedValue):
            return self._choices(node.value, seen, inner)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._product([node.left, node.right], seen, inner)
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                found = self._choices(value, seen, inner)
                if found:
                    return found
            return ()
        if isinstance(node, ast.IfExp):
            return (
                *self._choices(node.body, seen, inner),
                *self._choices(node.orelse, seen, inner),
            )
        if isinstance(node, ast.Call):
            return self._call(node, seen, inner)
        if isinstance(node, ast.Subscript):
            key = _constant(node.slice)
            if key and _is_environ(node.value):
                return self._environment(key)
            return self._assigned(key, seen, inner) if key else ()
        if isinstance(node, ast.Attribute):
            return self._assigned(node.attr, seen, inner)
        if isinstance(node, ast.Name):
            return self._assigned(node.id, seen, inner)
        return ()

    def _product(self, nodes: list[ast.expr], seen: frozenset[Words], depth: int) -> Choices:
        parts = [self._choices(node, seen, depth) for node in nodes]
        if not all(parts):
            return ()
        combined = ("".join(combination) for combination in product(*parts))
        return tuple(text for _, text in zip(range(MAX_CHOICES), combined, strict=False))

    def _call(self, node: ast.Call, seen: frozenset[Words], depth: int) -> Choices:
        function = node.func
        if not isinstance(function, ast.Attribute):
            if isinstance(function, ast.Name) and function.id == "getenv":
                return self._from_environment(node, seen, depth)
            return ()
        is_environment = _is_environ(function.value) or function.attr == "getenv"
        if function.attr in _ENVIRONMENT_CALLS and node.args and is_environment:
            return self._from_environment(node, seen, depth)
        if function.attr == "format" and not node.keywords:
            template = self._choices(function.value, seen, depth)
            parts = [self._choices(argument, seen, depth) for argument in node.args]
            if template and all(parts):
                return tuple(
                    text
                    for one in template
                    for combination in product(*parts)
                    if (text := _filled(one, combination))
                )[:MAX_CHOICES]
        return ()

    def _from_environment(self, node: ast.Call, seen: frozenset[Words], depth: int) -> Choices:
        key = _constant(node.args[0]) if node.args else ""
        found = self._environment(key) if key else ()
        if not found and len(node.args) > 1:
            return self._choices(node.args[1], seen, depth)
        return found

    def _environment(self, name: str) -> Choices:
        return self.findings.values_of(name, self.source.place)

    def _assigned(self, name: str, seen: frozenset[Words], depth: int) -> Choices:
        key = words(name)
        if key in seen:
            return ()
        for value in self.assigned.get(key, ()):
            found = self._choices(value, seen | {key}, depth)
            if found:
                return found
        return ()

    def _line_of(self, name: Words) -> int:
        values = self.assigned.get(name)
        return values[0].lineno if values else 1

    def _place(self, line: int) -> Place:
        place = self.source.place
        return Place(place.source, place.object, f"{place.path} line {line}")


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names, keys and parameters with the expressions they get."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                name = _target(target)
                if name:
                    yield name, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            name = _target(node.target)
            if name:
                yield name, node.value
        elif isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args]
            defaults = node.args.defaults
            for argument, default in zip(
                arguments[len(arguments) - len(defaults) :], defaults, strict=True
            ):
                yield argument.arg, default


def _target(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return _constant(node.slice) if isinstance(node, ast.Subscript) else ""


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_environ(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in ("environ", "env", "ENV", "os")


def _filled(template: str, parts: tuple[str, ...]) -> str:
    try:
        return template.format(*parts)
    except (IndexError, KeyError, ValueError, AttributeError):
        return ""
