"""References that are split over fields: registry, repository, image, tag, digest. Pure.

Fields that belong together have the same words before these: `sidecar_image`, `sidecar_tag`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.discover.placeholders import has_placeholder, neutral
from perimeter_bundle.discover.shapes import is_registry, parse_reference
from perimeter_bundle.discover.words import Part, Words, part, words

Fields = Mapping[str, str]  # name of the field → its text

_NO_PARTS = frozenset({"true", "false", "yes", "no", "null", "~"})
_WEAK_TAGS = ("version",)


@dataclass(frozen=True, slots=True)
class Composed:
    """A reference and the fields it was put together from; ``main`` holds the name."""

    text: str
    main: str
    used: tuple[str, ...]
    written: str


@dataclass(frozen=True, slots=True)
class _Group:
    """The parts that belong together, each with the name of its field."""

    parts: Mapping[Part, tuple[str, str]]

    def text(self, which: Part) -> str:
        return self.parts[which][1] if which in self.parts else ""

    def name(self, which: Part) -> str:
        return self.parts[which][0] if which in self.parts else ""


def compose(
    fields: Fields,
    around: Sequence[Fields] = (),
    *,
    under_image: bool = False,
    tag: str = "",
) -> Iterator[Composed]:
    """Every reference that ``fields`` put together; ``around`` are enclosing ones, nearest first.

    ``under_image``: the fields stand in something called an image, so a name alone is enough.
    ``tag``: what an image without a tag gets when the fields have none.
    """
    groups = _groups(fields)
    shared = _shared(groups)
    for prefix, group in groups.items():
        if Part.IMAGE not in group.parts and Part.REPOSITORY not in group.parts:
            continue
        completed = _with_shared(group, shared)
        if prefix in shared and any(
            _with_shared(one, shared) is not one for one in groups.values()
        ):
            continue  # it holds what the others have in common
        found = _join(completed, around, under_image=under_image, tag=tag)
        if found is not None:
            yield found
        yield from _variants(group, groups, around, under_image=under_image)


def _shared(groups: Mapping[Words, _Group]) -> dict[Words, _Group]:
    """The one group of parts that has no image of its own: `DOCKER_REPO` and `DOCKER_TAG`."""
    holders = {
        prefix: group
        for prefix, group in groups.items()
        if Part.IMAGE not in group.parts
        and (Part.REGISTRY in group.parts or Part.REPOSITORY in group.parts)
    }
    return holders if len(holders) == 1 else {}


def _with_shared(group: _Group, shared: Mapping[Words, _Group]) -> _Group:
    """A bare name takes registry, repository and tag from the group that holds them for all."""
    image = group.text(Part.IMAGE)
    own = Part.REGISTRY in group.parts or Part.REPOSITORY in group.parts
    if not shared or own or not image or _has_host(image) or _has_tag(image):
        return group
    (common,) = shared.values()
    if "/" in image and (Part.REPOSITORY in common.parts or Part.TAG not in common.parts):
        return group  # its repository is said; what the others share may be of something else
    return _Group({**common.parts, **group.parts})


def _variants(
    group: _Group,
    groups: Mapping[Words, _Group],
    around: Sequence[Fields],
    *,
    under_image: bool,
) -> Iterator[Composed]:
    """`defaultGpuImageVersion` beside `defaultImageVersion`: the same image with another tag."""
    if Part.TAG not in group.parts:
        return
    for prefix, other in groups.items():
        if prefix[:1] == ("default",) and set(other.parts) == {Part.TAG}:
            varied = _Group({**group.parts, Part.TAG: other.parts[Part.TAG]})
            found = _join(varied, around, under_image=under_image, tag="")
            if found is not None:
                yield found


def tag_of(fields: Fields, prefix: Words) -> str:
    """The tag that ``fields`` hold for names beginning with ``prefix``; empty when none."""
    group = _groups(fields).get(prefix)
    return group.text(Part.TAG) if group else ""


def _groups(fields: Fields) -> dict[Words, _Group]:
    groups: dict[Words, dict[Part, tuple[str, str]]] = {}
    for name, text in fields.items():
        found = part(name)
        text = text.strip()
        if found is None or not text or len(text) > 512 or "\n" in text or text in _NO_PARTS:
            continue
        prefix, which = found
        table = groups.setdefault(prefix, {})
        # a tag that is called so before one that is called version; else the first
        if which not in table or (which is Part.TAG and _is_weak(table[which][0])):
            table[which] = (name, text)
    return {prefix: _Group(table) for prefix, table in groups.items()}


def _is_weak(name: str) -> bool:
    return words(name)[-1:] == _WEAK_TAGS


def _join(
    group: _Group, around: Sequence[Fields], *, under_image: bool, tag: str
) -> Composed | None:
    image, repository = group.text(Part.IMAGE), group.text(Part.REPOSITORY)
    tag, digest = group.text(Part.TAG) or tag, group.text(Part.DIGEST)
    registry, used_registry = group.text(Part.REGISTRY), group.name(Part.REGISTRY)
    used = [group.name(which) for which in (Part.IMAGE, Part.REPOSITORY)]
    base = image
    if repository and not (image and _has_host(image)):
        base = f"{repository.strip('/')}/{image}" if image else repository
        if image and image.startswith(f"{repository.strip('/')}/"):
            base = image
    if not base or "://" in base or any(char.isspace() for char in neutral(base)):
        return None
    if _has_tag(base) and _has_host(base):
        return None
    if not image and "/" not in base and is_registry(base):
        return None  # where images are; which is said elsewhere
    if not registry and not _has_host(base) and (image or tag):
        registry, inherited_tag = _inherited(around)
        if registry and not tag and not digest and "/" not in base:
            tag = inherited_tag
        used_registry = ""
    is_inside = has_placeholder(base) and used_registry and used_registry in base
    if registry and not _has_host(base) and "://" not in registry and not is_inside:
        base = f"{registry.strip('/')}/{base}"
    complete = base
    if not _has_tag(base):
        complete = _with_tag(base, tag, digest)
    if complete == image or (complete == repository and not under_image):
        return None
    if not image and not _is_image_repository(group, under_image=under_image):
        return None
    if parse_reference(neutral(complete)) is None:
        return None
    used += [used_registry, group.name(Part.TAG), group.name(Part.DIGEST)]
    parts = [registry, repository, image, tag, digest]
    return Composed(
        text=complete,
        main=group.name(Part.IMAGE) or group.name(Part.REPOSITORY),
        used=tuple(name for name in used if name),
        written=" + ".join(text for text in parts if text),
    )


def _is_image_repository(group: _Group, *, under_image: bool) -> bool:
    """A repository without an image may be one of git or of charts; what says it is of images?"""
    if under_image or Part.REGISTRY in group.parts:
        return Part.TAG in group.parts or Part.DIGEST in group.parts or under_image
    name, text = group.parts[Part.REPOSITORY]
    if "image" in words(name):
        return Part.TAG in group.parts or Part.DIGEST in group.parts
    has_tag = Part.TAG in group.parts and not _is_weak(group.name(Part.TAG))
    return (has_tag or Part.DIGEST in group.parts) and "/" in text


def _inherited(around: Sequence[Fields]) -> tuple[str, str]:
    """Registry and tag of the nearest fields around that name a registry."""
    for fields in around:
        group = _groups(fields).get((), _Group({}))
        registry = group.text(Part.REGISTRY)
        is_one = "." in registry or ":" in registry or registry == "localhost"
        if is_one and parse_reference(neutral(f"{registry.strip('/')}/x")) is not None:
            return registry, group.text(Part.TAG)
    return "", ""


def _with_tag(base: str, tag: str, digest: str) -> str:
    if "{" not in tag:
        tag = tag.replace("+", "-")  # a version may have it, a tag may not
    if tag.startswith("sha256:"):
        tag, digest = "", tag
    if digest and not digest.startswith("sha256:"):
        digest = f"sha256:{digest}" if len(digest) == 64 else ""
    return base + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _has_tag(text: str) -> bool:
    return "@" in text or ":" in text.rpartition("/")[2]


def _has_host(text: str) -> bool:
    head, slash, _ = text.partition("/")
    return bool(slash) and (is_registry(head) or "." in head or ":" in head or head == "localhost")
