"""Rules that stand beside a component in the catalog, as frozen values.

They hold what is particular to one product; what is true of many is an extractor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from perimeter_bundle.discover.values import Place


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in glob)
    return re.compile("".join(parts), re.DOTALL)


def matches_glob(text: str, glob: str) -> bool:
    """Whether ``text`` fits: `*` and `?` stand for others, brackets for themselves."""
    return _pattern(glob).fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class TakeFrom:
    """The value at ``path`` of the objects whose name matches the glob ``object``."""

    object: str  # ConfigMap/*/pipeline-install-config
    path: str  # data.appVersion


@dataclass(frozen=True, slots=True)
class ComposeRule:
    """An image put together from several places, or one that a program makes up at run time."""

    name: str
    image: str  # ghcr.io/kubeflow/kfp-frontend:{version}
    evidence: str
    take: Mapping[str, TakeFrom] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """As manifest/discovery.json holds it; the closed side puts the image together again."""
        return {
            "name": self.name,
            "image": self.image,
            "evidence": self.evidence,
            "take": {
                name: {"object": one.object, "path": one.path}
                for name, one in sorted(self.take.items())
            },
        }


@dataclass(frozen=True, slots=True)
class ExcludeRule:
    """An image that a site never pulls; ``image`` is a glob over complete references."""

    image: str
    reason: str
    object: str = "*"
    path: str = "*"

    def matches(self, reference: str, place: Place) -> bool:
        """Whether it is about this reference at this place."""
        return matches_glob(reference, self.image) and _at(place, self.object, self.path)

    def __str__(self) -> str:
        return f"exclude {self.image}{_where(self.object, self.path)}"


@dataclass(frozen=True, slots=True)
class NotImageRule:
    """A string that looks like a reference and is none."""

    text: str
    reason: str
    object: str = "*"
    path: str = "*"

    def matches(self, text: str, place: Place) -> bool:
        """Whether it is about this string at this place."""
        return matches_glob(text, self.text) and _at(place, self.object, self.path)

    def __str__(self) -> str:
        return f"not_images {self.text}{_where(self.object, self.path)}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Every rule of one component."""

    compose: tuple[ComposeRule, ...] = ()
    exclude: tuple[ExcludeRule, ...] = ()
    not_images: tuple[NotImageRule, ...] = ()


NO_RULES = Rules()


def _at(place: Place, object_glob: str, path_glob: str) -> bool:
    return matches_glob(place.object, object_glob) and matches_glob(place.path, path_glob)


def _where(object_glob: str, path_glob: str) -> str:
    parts = [part for part in (object_glob, path_glob) if part != "*"]
    return f" at {' '.join(parts)}" if parts else ""
