"""What a string holds: a document, source code, or text.

Strings inside objects hold YAML, JSON, templates, scripts and programs; each is opened as what it
is, so that an image in it is found by its field and not by luck.
"""

from __future__ import annotations

import ast
import base64
import binascii
import re
import warnings
from dataclasses import dataclass
from enum import Enum

from perimeter_bundle.discover.stream import Tree, TreeError, parse_trees

MAX_OPENED = 6  # strings in strings in strings
MAX_OPENED_NODES = 500_000
MAX_SOURCE_BYTES = 1024 * 1024
MIN_ENCODED = 8

_KEY_LINE = re.compile(r"^\s*(?:- )?[\"']?[\w.$/-]+[\"']?\s*:(?:\s|$)", re.MULTILINE)
_LIST_LINE = re.compile(r"^\s*- \S", re.MULTILINE)
_PYTHON = re.compile(r"^(?:import \w|from [\w.]+ import |def \w+\(|class \w+)", re.MULTILINE)
_ENCODED = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


class Form(Enum):
    """What was recognised."""

    PLAIN = "plain"  # one value; nothing to open
    DOCUMENTS = "documents"
    PYTHON = "python"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Opened:
    """The form and what is in it."""

    form: Form
    trees: tuple[Tree, ...] = ()


_PLAIN = Opened(Form.PLAIN)
_TEXT = Opened(Form.TEXT)


def open_text(text: str, name: str = "") -> Opened:
    """What ``text`` holds; ``name`` is its key, often a file name."""
    head = text.lstrip()[:2]
    if head[:1] in ("{", "[") and head != "{{" and len(text) > 2:
        trees = _documents(text)
        return Opened(Form.DOCUMENTS, trees) if trees else _TEXT
    if "\n" not in text.strip():
        return _TEXT if " " in text.strip() else _PLAIN
    if name.endswith(".py") or _PYTHON.search(text):
        return Opened(Form.PYTHON) if python_tree(text) is not None else _TEXT
    if head != "#!" and (_KEY_LINE.search(text) or _LIST_LINE.search(text)):
        trees = _documents(text)
        if trees:
            return Opened(Form.DOCUMENTS, trees)
    return _TEXT


def python_tree(text: str) -> ast.Module | None:
    """Python source as a tree; None when it is not Python or too large to be worth it."""
    if len(text) > MAX_SOURCE_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in somebody else's source
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def decode_base64(text: str) -> str | None:
    """The text behind base64, as Secrets hold it; None when it is binary or none."""
    if len(text) < MIN_ENCODED or not _ENCODED.fullmatch(text):
        return None
    try:
        decoded = base64.b64decode(text, validate=False).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return decoded if "\x00" not in decoded else None


def _documents(text: str) -> tuple[Tree, ...]:
    """Mappings and lists; a document that is one sentence is text."""
    try:
        trees = tuple(parse_trees(text, limit=MAX_OPENED_NODES))
    except TreeError:
        return ()
    return trees if trees and all(isinstance(tree, dict | list) for tree in trees) else ()
