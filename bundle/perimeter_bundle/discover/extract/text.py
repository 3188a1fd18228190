"""Text: scripts, templates, properties, sentences.

An image is found in text by what stands before it (`image: x`, `X_IMAGE=x`, `--image x`,
`docker pull x`) or by a form that cannot be anything else. A comment names no image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from perimeter_bundle.discover.classify import not_image_rule
from perimeter_bundle.discover.compose import compose
from perimeter_bundle.discover.extract.note import note, note_composed
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.placeholders import has_placeholder, neutral
from perimeter_bundle.discover.shapes import (
    is_complete_reference,
    is_unmistakable,
    names_registry,
    without_scheme,
)
from perimeter_bundle.discover.spots import Root
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Part, Position, part, position

MAX_LINE = 20_000

_COMMENT = re.compile(r"\s*(?:#(?!!)|//|;|\*|--\s|<!--|\{\{-?\s*/\*|%|REM\s)")
_TRAILING_COMMENT = re.compile(r"\s#\s.*$")
_PAIR = re.compile(
    r"^\s*(?:- )?(?:export |local |readonly |declare |set |ENV |ARG |var |const |let )?"
    r"[\"']?(?P<key>[A-Za-z_][\w./-]*)[\"']?\]?\s*(?P<sign>:=|\?=|[:=])(?!=)\s*(?P<value>\S.*?)?\s*,?\s*$"
)
# properties may have a space alone between key and value: x.container.image acme/x:1
_PROPERTY = re.compile(r"^\s*(?P<key>[\w-]+(?:\.[\w-]+)+)\s+(?P<value>[^\s=:]\S*)\s*$")
_FLAG = re.compile(r"(?<![\w-])--?(?P<key>[A-Za-z][\w.-]*)(?:=|\s+)(?P<value>[^\s;|&)]+)")
_VERB = re.compile(
    r"\b(?:docker|podman|nerdctl|crictl|ctr|buildah|img)\b[^\n;|&]*?\b(?:pull|run|create)\s+"
    r"(?P<rest>[^\n;|&]+)"
)
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(?P<value>\S+)")
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_TOKEN = re.compile(r"[^\s\"'`,;|<>()\[\]\\]+")
_EDGE = ".,:;!?*_~"
_WHOLE_TEMPLATE = re.compile(r"\{\{(?!.*\}\}.*\{\{).*\}\}")


@dataclass(frozen=True, slots=True)
class _Text:
    """A text, and what the name of its field promises for values in it."""

    place: Place
    findings: Findings
    root: Root
    promise: Position
    rule: str
    local: tuple[tuple[str, str], ...]


def scan_text(
    text: str,
    place: Place,
    findings: Findings,
    root: Root,
    *,
    promise: Position = Position.NONE,
    rule: str = "reference-in-text",
) -> None:
    """Every image that ``text`` names, line by line."""
    lines = [line for line in text.splitlines() if len(line) <= MAX_LINE]
    pairs = _pairs(lines)
    one = _Text(place, findings, root, promise, rule, tuple(pairs.items()))
    composed = _compose_pairs(pairs, one)
    fence = False
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_LINE or _COMMENT.match(line):
            continue
        fence = fence or line.startswith("```")
        at = replace(one, place=_line_place(place, number, len(lines)))
        _scan_line(_TRAILING_COMMENT.sub("", line), at, composed)


def scan_prose(text: str, place: Place, findings: Findings, *, rule: str = "prose") -> None:
    """What people read names no image to pull; unmistakable ones are noted for the reviewer."""
    if "/" not in text or len(text) > 1024 * 1024:
        return
    for token in _TOKEN.findall(text):
        if "/" in token and is_unmistakable(token.strip(_EDGE)):
            findings.no_image(token.strip(_EDGE), place, rule)


def _line_place(place: Place, number: int, lines: int) -> Place:
    if lines < 2:
        return place
    return replace(place, path=f"{place.path} line {number}")


def _pairs(lines: list[str]) -> dict[str, str]:
    """Assignments at the start of a line, for placeholders further down."""
    pairs: dict[str, str] = {}
    for line in lines:
        found = _PAIR.match(line)
        if found and found["sign"] != ":" and found["value"] and len(found["value"]) < 500:
            pairs.setdefault(found["key"], found["value"].strip("\"'"))
    return pairs


def _compose_pairs(pairs: dict[str, str], text: _Text) -> set[str]:
    """`FOO_IMAGE=` and `FOO_TAG=` of one text."""
    used: set[str] = set()
    for found in compose(pairs):
        note_composed(text.findings, found, text.place, "split-assignments", text.local)
        used.update(found.used)
    return used


def _scan_line(line: str, text: _Text, composed: set[str]) -> None:
    seen: set[str] = set()
    pair = _PAIR.match(line)
    if pair and pair["value"] and pair["key"] not in composed:
        _value(pair["key"], pair["value"], text, seen, "assignment", sign=pair["sign"])
    elif pair and pair["key"] in composed:
        return
    elif property_line := _PROPERTY.match(line):
        _value(property_line["key"], property_line["value"], text, seen, "assignment")
    for found in _FLAG.finditer(line):
        if position(found["key"]) is not Position.NONE:
            _value(found["key"], found["value"], text, seen, "argument-in-text")
    for value in _after_verbs(line):
        if value not in seen and note(
            text.findings, value, Position.CONTAINER, text.place, "pull-command", local=text.local
        ):
            seen.add(value)
    _tokens(line, text, seen)


def _value(
    key: str, value: str, text: _Text, seen: set[str], rule: str, *, sign: str = ":"
) -> None:
    value = value.strip().rstrip(",").strip().strip("\"'")
    promise = position(key)
    if promise is Position.NONE or not value:
        return
    is_template = _WHOLE_TEMPLATE.fullmatch(value) is not None or has_placeholder(value)
    if not is_template and any(char.isspace() for char in value):
        return
    if is_template and any(char.isspace() for char in neutral(value)):
        return
    is_assigned = rule == "assignment" and sign != ":"
    if promise is Position.STRONG and not is_template and _is_value(value, assigned=is_assigned):
        promise = Position.CONTAINER
    if note(text.findings, value, promise, text.place, rule, local=text.local, name=key):
        seen.add(value)


def _is_value(value: str, *, assigned: bool) -> bool:
    """Whether it is surely a value: `image = "busybox"` is one, a word after a colon may not be."""
    return "/" in value or ":" in value or (assigned and not not_image_rule(value, Position.STRONG))


def _after_verbs(line: str) -> Iterator[str]:
    found = _FROM.match(line)
    if found and found["value"] != "scratch" and "/" in found["value"]:
        yield found["value"]
    for verb in _VERB.finditer(line):
        for word in verb["rest"].split():
            word = word.strip("\"'")
            if is_complete_reference(word) or is_unmistakable(neutral(word)):
                yield word
                break


def _tokens(line: str, text: _Text, seen: set[str]) -> None:
    if "/" not in line and text.promise is Position.NONE:
        return
    line = _TEMPLATE.sub(lambda found: found[0].replace(" ", "\x00"), line)
    for raw in _TOKEN.findall(line):
        for token in _split(raw):
            token = without_scheme(token.replace("\x00", " ").strip(_EDGE))
            if token in seen or not token:
                continue
            form = neutral(token) if has_placeholder(token) else token
            if is_unmistakable(form) or (
                text.promise is not Position.NONE and is_complete_reference(token)
            ):
                promise = max(text.promise, Position.WEAK)
                note(text.findings, token, promise, text.place, text.rule, local=text.local)
                seen.add(token)
            elif names_registry(token) and not part_of_known(line, token):
                note(
                    text.findings,
                    token,
                    Position.NONE,
                    text.place,
                    text.rule,
                    name=_before(line, token),
                )
                seen.add(token)


def _split(raw: str) -> Iterator[str]:
    """`3.5.0=quay.io/a/b:1`: what stands after a sign of assignment."""
    if "=" in raw and "://" not in raw:
        yield from raw.split("=")
    else:
        yield raw.strip("{}") if raw.count("{") != raw.count("}") else raw


def part_of_known(line: str, token: str) -> bool:
    """Whether the token is only the beginning of an address with a scheme."""
    return f"://{token}" in line


def _before(line: str, token: str) -> str:
    """The name to which the token is assigned, if it is."""
    pair = _PAIR.match(line)
    if pair and pair["value"] and token in pair["value"]:
        found = part(pair["key"])
        return pair["key"] if found is None or found[1] is not Part.IMAGE else ""
    return ""
