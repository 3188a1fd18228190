"""Arguments of programs: `--x-image=REF`, `--x-image REF` as two items, `KEY=REF`, scripts."""

from __future__ import annotations

import re

from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.note import note, note_composed
from perimeter_bundle.discover.extract.text import scan_text
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.placeholders import has_placeholder
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.stream import Tree
from perimeter_bundle.discover.words import Position, position

_FLAG_WITH_VALUE = re.compile(r"(--?[A-Za-z][\w.-]*|[A-Za-z_][\w.\[\]-]*)=(.*)", re.DOTALL)
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_LISTS = frozenset({"args", "command", "arguments", "extraArgs", "extraArguments", "cmd", "argv"})


def is_argument_list(spot: Spot) -> bool:
    """Whether it is a list of strings that a program gets."""
    node = spot.node
    if not isinstance(node, list) or not any(isinstance(item, str) for item in node):
        return False
    return spot.key in _LISTS or any(isinstance(item, str) and item[:1] == "-" for item in node)


def arguments(spot: Spot, findings: Findings) -> set[int]:
    """Flags and their values; gives the items it has dealt with."""
    node = spot.items
    explained: set[int] = set()
    fields: dict[str, tuple[int, str]] = {}
    skip = False
    for index, item in enumerate(node):
        if skip or not isinstance(item, str):
            skip = False
            continue
        following = _value_after(node, index)
        if following is not None:
            fields.setdefault(item.lstrip("-"), (index + 1, following))
            skip = True
        elif found := _FLAG_WITH_VALUE.fullmatch(item):
            fields.setdefault(found[1].lstrip("-"), (index, found[2]))
    composed = set(_composed(spot, fields, findings))
    for index, item in enumerate(node):
        if not isinstance(item, str) or index in explained or index in composed:
            continue
        following = _value_after(node, index)
        if following is not None and index + 1 not in composed:
            if _flag(findings, item, following, spot, index + 1):
                explained.add(index + 1)
            explained.add(index)
        elif _item(findings, item, spot, index):
            explained.add(index)
    return explained | composed


def _item(findings: Findings, item: str, spot: Spot, index: int) -> bool:
    if "\n" in item.strip() or (" " in item.strip() and not _FLAG.match(item)):
        return False  # a script or a sentence: read as text
    found = _FLAG_WITH_VALUE.fullmatch(item)
    if found is None:
        return False
    return _flag(findings, found[1], found[2], spot, index)


def _flag(findings: Findings, flag: str, value: str, spot: Spot, index: int) -> bool:
    """A flag and its value; whether that explains the item."""
    place = Spot(value, spot.root, index, spot).place()
    promise = position(flag)
    rule = "argument" if promise is not Position.NONE else "reference-form"
    value = value.strip().strip("\"'")
    if promise is Position.STRONG and not any(char.isspace() for char in value):
        promise = Position.CONTAINER if _is_name(value) else promise
    if not has_placeholder(value) and ("," in value or any(char.isspace() for char in value)):
        scan_text(value, place, findings, spot.root, promise=promise, rule=rule)
        return True
    if "=" in value and promise is Position.NONE:
        scan_text(value, place, findings, spot.root)
        return True
    note(findings, value, promise, place, rule, name=flag)
    return True


def _is_name(value: str) -> bool:
    return value.lower() not in ("true", "false", "auto", "default", "none", "latest")


def _value_after(node: list[Tree], index: int) -> str | None:
    """The item after a flag, when it is the flag's value."""
    item = node[index]
    if not isinstance(item, str) or not _FLAG.fullmatch(item) or index + 1 >= len(node):
        return None
    following = node[index + 1]
    return following if isinstance(following, str) and following[:1] != "-" else None


def _composed(spot: Spot, fields: dict[str, tuple[int, str]], findings: Findings) -> list[int]:
    explained = []
    for found in compose({name: text for name, (_, text) in fields.items()}):
        index = fields[found.main][0]
        place = Spot("", spot.root, index, spot).place()
        note_composed(findings, found, place, "split-arguments")
        explained += [fields[name][0] for name in found.used]
    return explained
