"""What the walk over the objects collects: images, strings to explain, and values by name.

A value by name is what a placeholder elsewhere may stand for: environment variables, keys of
ConfigMaps, fields of documents inside strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from perimeter_bundle.discover.spots import Root
from perimeter_bundle.discover.values import Evidence, NotImage, Place, Unclassified
from perimeter_bundle.discover.words import Words, words
from perimeter_bundle.model.reference import ImageReference

MAX_BOUND_TEXT = 400
MAX_SHOWN_TEXT = 300


@dataclass(frozen=True, slots=True)
class Bound:
    """A value somebody may refer to by name."""

    name: str
    words: Words
    text: str
    source: str
    object: str
    composed: bool = False
    reference: tuple[str, str] | None = None  # the value is key [1] of ConfigMap or Secret [0]


@dataclass(frozen=True, slots=True)
class Pending:
    """A string in the place of an image that holds placeholders; resolved when all is read."""

    text: str
    place: Place
    rule: str
    local: tuple[tuple[str, str], ...] = ()  # assignments in the text it stands in


@dataclass(frozen=True, slots=True)
class PendingSource:
    """Source code that is read when the environment of every container is known."""

    text: str
    place: Place
    root: Root


@dataclass(slots=True)
class Findings:
    """Filled during one walk."""

    images: dict[ImageReference, set[Evidence]] = field(default_factory=dict)
    unclassified: set[Unclassified] = field(default_factory=set)
    not_images: set[NotImage] = field(default_factory=set)
    pending: list[Pending] = field(default_factory=list)
    sources: list[PendingSource] = field(default_factory=list)
    bound: dict[str, list[Bound]] = field(default_factory=dict)  # by last word of the name
    repositories: set[tuple[str, Place, str]] = field(default_factory=set)  # names without a tag

    def image(self, reference: ImageReference, rule: str, written: str, place: Place) -> None:
        """An image is needed, by the extractor of this name."""
        self.images.setdefault(reference, set()).add(Evidence(rule, _shown(written), place))

    def unclear(self, text: str, place: Place, why: str) -> None:
        """Nobody can say what ``text`` is."""
        self.unclassified.add(Unclassified(_shown(text), place, why))

    def repository(self, text: str, place: Place, why: str) -> None:
        """A name without a tag: explained when an image is put together from it."""
        self.repositories.add((text, place, why))

    def no_image(self, text: str, place: Place, rule: str) -> None:
        """It looks like one and is none, by the rule of this name."""
        self.not_images.add(NotImage(_shown(text), place, rule))

    def bind(
        self,
        name: str,
        text: str,
        root: Root,
        *,
        composed: bool = False,
        reference: tuple[str, str] | None = None,
    ) -> None:
        """``name`` has this value in this object."""
        parts = words(name)
        if parts and len(text) <= MAX_BOUND_TEXT and len(name) <= 256:
            bound = Bound(name, parts, text, root.source, root.object, composed, reference)
            self.bound.setdefault(parts[-1], []).append(bound)

    def values_of(self, name: str, place: Place, *, whole: bool = True) -> tuple[str, ...]:
        """What ``name`` stands for, nearest object first; empty when nothing is called so.

        The same name is asked for first; then one that ends alike (`ProxyImage`, `proxy.image`).
        ``whole``: rather a complete reference than the part that is written there.
        """
        wanted = words(name)
        if not wanted:
            return ()
        candidates = [
            b for b in self.bound.get(wanted[-1], ()) if b.words[-len(wanted) :] == wanted
        ]
        exact = [b for b in candidates if b.words == wanted]
        if len(wanted) == 1:  # `image` alone says too little to look elsewhere
            candidates = [b for b in candidates if b.object == place.object]
        for choice in (exact, candidates):
            for near in _by_nearness(choice, place):
                texts = [text for bound in near for text in self._texts(bound)]
                best = [t for b in near if b.composed is whole for t in self._texts(b)] or texts
                found = tuple(sorted({text for text in best if text}))
                if found:
                    return found
        return ()

    def _texts(self, bound: Bound) -> Iterable[str]:
        if bound.reference is None:
            return (bound.text,)
        holder, key = bound.reference
        return [
            other.text
            for other in self.bound.get(words(key)[-1] if words(key) else "", ())
            if other.name == key
            and other.reference is None
            and other.object.startswith(("ConfigMap/", "Secret/"))
            and other.object.rpartition("/")[2] == holder
        ]


def _by_nearness(bound: list[Bound], place: Place) -> Iterable[list[Bound]]:
    yield [b for b in bound if b.object == place.object and b.source == place.source]
    yield [b for b in bound if b.source == place.source]
    yield bound


def _shown(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_TEXT else text[:MAX_SHOWN_TEXT] + "…"
