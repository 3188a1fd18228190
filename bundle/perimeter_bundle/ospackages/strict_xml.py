"""XML of repositories, read one child of the root at a time. No document type, so no entities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_DEPTH = 8
MAX_TEXT = 1024 * 1024  # of one element
MAX_ELEMENTS = 500_000  # inside one child of the root
_CHUNK_BYTES = 256 * 1024


@dataclass(slots=True)
class Element:
    """One element; ``name`` is namespace, space, local name."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def first(self, name: str) -> Element:
        """The first child called so; an empty element when there is none."""
        return next((child for child in self.children if child.name == name), Element(name, {}))

    def text_of(self, name: str) -> str:
        """The text of the first child called so."""
        return self.first(name).text.strip()


def children_of_root(data: bytes, root: str) -> Iterator[Element]:
    """The children of the element ``root``, in order; raises ValueError."""
    reader = _Reader(root)
    for start in range(0, len(data), _CHUNK_BYTES):
        reader.feed(data[start : start + _CHUNK_BYTES], is_last=False)
        yield from reader.taken()
    reader.feed(b"", is_last=True)
    yield from reader.taken()


class _Reader:
    def __init__(self, root: str) -> None:
        self._root, self._depth, self._elements = root, 0, 0
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._length = 0
        self._finished: list[Element] = []
        # whatever it declares: no other occurs, and some make the parser call Python's codecs
        self._parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes, *, is_last: bool) -> None:
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise ValueError(f"it is not XML: {error}") from error

    def taken(self) -> list[Element]:
        found, self._finished = self._finished, []
        return found

    def _doctype(self, *_: object) -> None:
        raise ValueError("it declares a document type, as no repository does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            if name != self._root:
                raise ValueError(f"its root is {name[-60:]!r}")
            return
        self._elements = self._elements + 1 if self._depth > 2 else 0
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise ValueError("its elements are deeper or more than in any honest one")
        self._open.append(Element(name, attributes))
        self._texts.append([])
        self._length = 0

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_TEXT:
            raise ValueError("it has a longer text than any honest one")
        if self._texts:
            self._texts[-1].append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if not self._open:
            return
        element = self._open.pop()
        element.text = "".join(self._texts.pop())
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._finished.append(element)
