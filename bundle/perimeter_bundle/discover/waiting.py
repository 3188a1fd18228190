"""Custom resources that come before the definition of their kind wait for it.

Definitions come first in what kustomize and Helm render, so few wait; in a folder of files any
order is possible. What may wait is bounded, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.discover.meaning import Schemas, custom_kind
from perimeter_bundle.discover.stream import Document, Tree

MAX_WAITING_VALUES = 300_000


class Waiting:
    """Documents whose kind is not yet known, in the order in which they came."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._left = MAX_WAITING_VALUES
        self._documents: dict[tuple[str, str], list[Document]] = {}

    def after(self, document: Document) -> Iterator[Document]:
        """What can be read now that ``document`` has come."""
        defined = self._schemas.learn(document)
        if defined is not None:
            yield document
            yield from self._documents.pop(defined, ())
            return
        kind = custom_kind(document.tree)
        if kind is None or self._schemas.knows(kind) or not self._has_room(document.tree):
            yield document
        else:
            self._documents.setdefault(kind, []).append(document)

    def rest(self) -> Iterator[Document]:
        """Those whose definition never came."""
        for documents in self._documents.values():
            yield from documents

    def _has_room(self, tree: Tree) -> bool:
        self._left -= _count(tree)
        return self._left >= 0


def _count(tree: Tree) -> int:
    if isinstance(tree, dict):
        return 1 + sum(map(_count, tree.values()))
    return 1 + sum(map(_count, tree)) if isinstance(tree, list) else 1
