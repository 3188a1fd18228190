"""What the name of a field says: does an image stand there, or a part of one.

Names are taken apart into words, so `queue-sidecar-image`, `queueSidecarImage` and
`QUEUE_SIDECAR_IMAGE` are one name. Nothing here knows a product.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum
from functools import lru_cache

Words = tuple[str, ...]


def word_set(*lines: str) -> frozenset[str]:
    """A set of words, written as lines of words."""
    return frozenset(" ".join(lines).split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IMAGE = frozenset({"image", "img", "images", "imgs"})
_NAME_OF_IMAGE = frozenset({"name", "url", "uri", "ref", "reference", "full", "fullname", "spec"})
# what follows `image` in names of things that are about an image and are none
_ABOUT = word_set(
    "pull policy policies secret secrets type types size format quality width height tag tags",
    "version versions digest digests sha registry registries repository repo hub id ids gc fs",
    "prefix suffix mode verification signature scan scanner automation stream streams archive",
    "count dir directory file files editor credential credentials provider cache caching",
    "minimum maximum threshold age timeout progress deadline validation check updater update",
    "upload enabled enable required allowed restrictions parallel serialize generation label",
    "labels resolution channel arch os config configuration model bucket store collector",
    "cleanup service processing classification segmentation recognition input output",
    "optimization optional changed reason status state list pulls streaming quota layer",
    "layers copy tool tools volume path paths mount verify verifier key keys user volumes",
    "strategy source sources acceleration mirrors mirror content build builder builders",
    "builds api exporter container containers",
)
_CASE = re.compile(r"([a-z0-9])(image)s?$")


class Position(IntEnum):
    """How surely a field of this name holds an image."""

    NONE = 0
    WEAK = 1  # what stands there is one if it looks like one
    STRONG = 2
    CONTAINER = 3  # of a container: even a bare word is one


class Part(Enum):
    """Which part of a reference a field holds."""

    IMAGE = "image"
    REPOSITORY = "repository"
    REGISTRY = "registry"
    TAG = "tag"
    DIGEST = "digest"


@lru_cache(maxsize=65536)
def words(name: str) -> Words:
    """``queueSidecarImage`` → ``("queue", "sidecar", "image")``."""
    return tuple(word.lower() for word in _WORD.findall(name))


@lru_cache(maxsize=65536)
def position(name: str) -> Position:
    """What the name of a field, an environment variable or a flag promises."""
    if len(name) > 256 or "im" not in name.lower():
        return Position.NONE
    parts = words(name)
    at = next((i for i in range(len(parts) - 1, -1, -1) if parts[i] in _IMAGE), -1)
    if at < 0:
        # all in lower case: dockerimage, baseimage
        return Position.WEAK if parts and _CASE.search(parts[-1]) else Position.NONE
    after = parts[at + 1 :]
    if _is_related(parts):
        return Position.STRONG
    if not after:
        return Position.STRONG if parts[at] in ("image", "img") else Position.WEAK
    if set(after) <= _NAME_OF_IMAGE:
        return Position.STRONG
    return Position.NONE if set(after) & _ABOUT else Position.WEAK


def _is_related(parts: Words) -> bool:
    """`RELATED_IMAGE_X`: what follows is the image's name, whatever words it has."""
    return parts[:2] == ("related", "image")


# longest ending first: `image-tag` is the tag of an image, not a thing called `image`
_ENDINGS: tuple[tuple[Words, Part], ...] = (
    (("default", "image", "version"), Part.TAG),
    (("default", "version"), Part.TAG),
    (("image", "tag", "version"), Part.TAG),
    (("image", "tag"), Part.TAG),
    (("image", "version"), Part.TAG),
    (("tag",), Part.TAG),
    (("version",), Part.TAG),
    (("image", "digest"), Part.DIGEST),
    (("image", "sha"), Part.DIGEST),
    (("digest",), Part.DIGEST),
    (("sha",), Part.DIGEST),
    (("sha", "256"), Part.DIGEST),
    (("image", "registry"), Part.REGISTRY),
    (("container", "registry"), Part.REGISTRY),
    (("docker", "registry"), Part.REGISTRY),
    (("image", "hub"), Part.REGISTRY),
    (("registry",), Part.REGISTRY),
    (("repo", "url"), Part.REGISTRY),
    (("hub",), Part.REGISTRY),
    (("image", "repository"), Part.REPOSITORY),
    (("image", "repo"), Part.REPOSITORY),
    (("repository",), Part.REPOSITORY),
    (("repo",), Part.REPOSITORY),
    (("base", "image"), Part.IMAGE),
    (("image", "name"), Part.IMAGE),
    (("image",), Part.IMAGE),
    (("img",), Part.IMAGE),
)


@lru_cache(maxsize=65536)
def part(name: str) -> tuple[Words, Part] | None:
    """``frontend_image_tag`` → ``(("frontend",), Part.TAG)``; None for other names."""
    parts = words(name)
    ordered = sorted(_ENDINGS, key=lambda ending: -len(ending[0]))
    for ending, which in ordered:
        if parts[-len(ending) :] == ending:
            return parts[: -len(ending)], which
    return None


def is_prefix_name(name: str) -> bool:
    """Whether a field of this name holds where images are, not which: a registry, a hub."""
    return bool(set(words(name)) & _PREFIX_WORDS)


_PREFIX_WORDS = word_set(
    "registry registries repository repositories repo repos hub prefix prefixes mirror",
    "mirrors server servers host hosts endpoint endpoints insecure skipping domain domains",
    "org organization location locations base match matches scope scopes chart charts",
)


@lru_cache(maxsize=65536)
def is_model_name(name: str) -> bool:
    """Whether a field of this name holds a model: `--served-model-name team/llm:v1`."""
    parts = words(name)
    return bool(parts) and (parts[-1] in _MODEL or parts[-2:-1] in (("model",), ("models",)))


_MODEL = frozenset({"model", "models"})
_PROSE = word_set(
    "description descriptions summary message messages note notes comment comments",
    "documentation docs example examples help title usage readme tooltip runbook warning",
    "license",
)


_TEXT_FILE = re.compile(r"\.(?:txt|md|rst|adoc)$")  # NOTES.txt, README.md
_EXPRESSIONS = word_set(
    "rego cel expression expressions expr regex regexp jsonpath jmespath promql"
)


@lru_cache(maxsize=65536)
def is_expression(name: str) -> bool:
    """Whether what stands there judges objects: it may name images, and pulls none."""
    return "." not in name and bool(words(name)) and words(name)[-1] in _EXPRESSIONS


@lru_cache(maxsize=65536)
def is_prose(name: str) -> bool:
    """Whether people read what stands there and no program does: descriptions, examples."""
    parts = words(_TEXT_FILE.sub("", name))
    return bool(parts) and (
        parts[-1] in _PROSE or parts[0] in ("example", "examples") or parts[:1] == ("readme",)
    )
