"""Strings with placeholders: `$X`, `${X:-y}`, `$(X)`, `{{ .Values.x | default "y" }}`, `{x}`.

A placeholder in the place of an image is never dropped: it is resolved from values of the same
input or stays unclassified.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from perimeter_bundle.discover.findings import Findings, Pending
from perimeter_bundle.discover.judge import judge_into
from perimeter_bundle.discover.shapes import parse_reference, without_scheme
from perimeter_bundle.discover.words import Position

MAX_CHOICES = 64
MAX_DEPTH = 6

_PLACEHOLDER = re.compile(
    r"\$\{(?P<brace>[A-Za-z_][\w.]*)(?::?[-=](?P<otherwise>[^}]*))?[^}]*\}"
    r"|\$\((?P<paren>[A-Za-z_][\w.\[\]\"'-]*)\)"
    r"|\$\{\{\s*(?P<action>[^}]*?)\s*\}\}"
    r"|\{\{-?\s*(?P<template>.*?)\s*-?\}\}"
    r"|\$(?P<plain>[A-Za-z_]\w*)"
    r"|%(?P<percent>[A-Za-z_]\w*)%"
    r"|@@?(?P<at>[A-Z][A-Z0-9_]+)@@?"
)
_DOTTED = re.compile(r"(?<![\w\"'`.])\$?\.?[A-Za-z_]\w*(?:\.\w+)+|(?<![\w\"'`.])\.[A-Za-z_]\w*")
_QUOTED = re.compile(r"\"([^\"]*)\"|`([^`]*)`|'([^']*)'")
_BARE_NAME = re.compile(r"[A-Za-z_]\w*")
_HOLDERS = re.compile(
    r"^\$?\.?(?:(?:\w+\.){0,2}(?:params|parameters)|Values|values|inputs|env|Env|spec|data)\."
)

Lookup = Callable[[str], Sequence[str]]


def has_placeholder(text: str) -> bool:
    """Whether something in ``text`` is to be filled in."""
    return ("$" in text or "{{" in text or "%" in text or "@" in text) and (
        _PLACEHOLDER.search(text) is not None
    )


def neutral(text: str) -> str:
    """``text`` with every placeholder replaced by a letter: its shape."""
    return _PLACEHOLDER.sub("x", text)


def resolve_pending(pending: Pending, findings: Findings) -> None:
    """Puts into ``findings`` what the string stands for, or that nobody can say."""
    local = dict(pending.local)
    missing: set[str] = set()

    def filled(*, whole: bool) -> list[str]:
        def lookup(name: str) -> Sequence[str]:
            if name in local and local[name] != pending.text:
                return [local[name]]
            return findings.values_of(_HOLDERS.sub("", name), pending.place, whole=whole)

        texts = sorted(set(_expand(pending.text, lookup, missing, 0)))
        return [text for text in texts if parse_reference(without_scheme(text)) is not None]

    # `{{ .hub }}/{{ .image }}:{{ .tag }}` wants parts, `{{ .Image }}` the whole
    good = filled(whole=neutral(pending.text) == "x") or filled(whole=True)
    for text in good:
        judge_into(
            findings, text, Position.CONTAINER, pending.place, pending.rule, written=pending.text
        )
    if not good:
        names = ", ".join(sorted(missing)) or "the placeholder"
        findings.unclear(pending.text, pending.place, f"no value for {names} in these objects")


def _expand(text: str, lookup: Lookup, missing: set[str], depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    parts: list[Sequence[str]] = []
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        parts.append([text[end : found.start()]])
        end = found.end()
        choices = list(_choices(found, lookup, missing))
        if not choices:
            return
        parts.append(choices)
    parts.append([text[end:]])
    for number, combination in enumerate(product(*parts)):
        if number >= MAX_CHOICES:
            return
        filled = "".join(combination).strip()
        if filled == text:
            return
        if has_placeholder(filled):
            yield from _expand(filled, lookup, missing, depth + 1)
        else:
            yield filled


def _choices(found: re.Match[str], lookup: Lookup, missing: set[str]) -> Iterator[str]:
    groups = found.groupdict()
    name = (
        groups["brace"] or groups["paren"] or groups["plain"] or groups["percent"] or groups["at"]
    )
    if name:
        values = [text for text in (_own_default(text, name) for text in lookup(name)) if text]
        if not values and groups["otherwise"]:
            values = [groups["otherwise"]]
        if not values:
            missing.add(name)
        yield from values
        return
    yield from _template_choices(groups["template"] or groups["action"] or "", lookup, missing)


def _own_default(text: str, name: str) -> str:
    """`REGISTRY=${REGISTRY:-quay.io}` says what it is when nothing else does."""
    found = _PLACEHOLDER.fullmatch(text)
    if found is None or found["brace"] != name:
        return text
    return found["otherwise"] or ""


def _template_choices(expression: str, lookup: Lookup, missing: set[str]) -> Iterator[str]:
    """The values a template expression may give: of each field it names, and quoted references."""
    found: list[str] = []
    unquoted = _QUOTED.sub(" ", expression)
    names = _DOTTED.findall(unquoted)
    if not names and _BARE_NAME.fullmatch(expression.strip()):
        names = [expression.strip()]
    # the last is what is printed: `annotation .ObjectMeta "x" .Values.proxy.image`
    for name in reversed(names):
        found += lookup(name)
        if found:
            break
    if not found:
        quoted = ["".join(groups) for groups in _QUOTED.findall(expression)]
        found = [text for text in quoted if parse_reference(text) and ("/" in text or ":" in text)]
    if not found:
        missing.update(names[-1:] or [expression[:60]])
    yield from found
