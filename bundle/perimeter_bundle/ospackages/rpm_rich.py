"""Requirements in brackets: ``(a and b)``, ``(a if b else c)``, ``(a >= 2 with a < 3)``.

https://rpm-software-management.github.io/rpm/manual/boolean_dependencies.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from perimeter_bundle.ospackages.rpm_version import Capability, Evr

MAX_NESTING = 16
MAX_LENGTH = 10_000
_OPERATORS = ("<=", ">=", "<", "=", ">")
_WORDS = ("and", "or", "if", "unless", "with", "without", "else")
_TOKEN = re.compile(r"\s*(?:([()])|([^\s()]+(?:\([^()]*\)[^\s()]*)*))")


@dataclass(frozen=True, slots=True)
class Rich:
    """``parts`` joined by ``word``; ``if`` and ``unless`` may have a third part, the else."""

    word: str
    parts: tuple[Need, ...]

    def __str__(self) -> str:
        words = [f" {self.word} ", " else "] if self.word in ("if", "unless") else []
        text = str(self.parts[0])
        for index, part in enumerate(self.parts[1:]):
            text += (words[index] if words else f" {self.word} ") + str(part)
        return f"({text})"


Need: TypeAlias = Capability | Rich


def read_need(text: str) -> Need:
    """The requirement ``text``; raises ValueError."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{text[:60]!r} is longer than any honest requirement")
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(f"cannot read the requirement {text[:60]!r}")
        tokens.append(match[1] or match[2])
        position = match.end()
    reader = _Reader(tokens, text)
    need = reader.need(0)
    if reader.position != len(tokens):
        raise reader.problem()
    return need


class _Reader:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens, self.text, self.position = tokens, text, 0

    def need(self, depth: int) -> Need:
        if depth > MAX_NESTING:
            raise self.problem()
        if self._peek() != "(":
            return self._capability()
        self.position += 1
        parts = [self.need(depth + 1)]
        word = self._peek()
        if word == ")":
            self.position += 1
            return parts[0]
        if word not in _WORDS or word == "else":
            raise self.problem()
        while self._peek() == word:
            self.position += 1
            parts.append(self.need(depth + 1))
        if word in ("if", "unless"):
            if self._peek() == "else":
                self.position += 1
                parts.append(self.need(depth + 1))
            elif len(parts) > 2:
                raise self.problem()
        if self._peek() != ")" or (word in ("if", "unless", "without") and len(parts) > 3):
            raise self.problem()
        self.position += 1
        return Rich(word, tuple(parts))

    def problem(self) -> ValueError:
        return ValueError(f"cannot read the requirement {self.text[:60]!r}")

    def _capability(self) -> Capability:
        name = self._peek()
        if name in ("", ")", *_WORDS, *_OPERATORS):
            raise self.problem()
        self.position += 1
        operator = self._peek()
        if operator not in _OPERATORS:
            return Capability(name)
        evr = Evr.parse(self.tokens[self.position + 1] if self._has(2) else "")
        self.position += 2
        return Capability(name, operator, evr)

    def _peek(self) -> str:
        return self.tokens[self.position] if self._has(1) else ""

    def _has(self, count: int) -> bool:
        return self.position + count <= len(self.tokens)
