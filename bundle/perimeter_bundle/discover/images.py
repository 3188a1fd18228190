"""Images in pod specifications, wherever they stand in an object, and in YAML inside ConfigMaps.

A pod specification is known by its container lists, so Deployments, CronJobs, templates inside
custom resources and ConfigMaps are all covered by one rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

from perimeter_bundle.discover.objects import flatten_lists, parse_objects
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.reference import ImageReference

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")
MAX_NODES = 5_000_000  # aliases make a small file a large tree; no honest one is larger


@dataclass(frozen=True, slots=True, order=True)
class FoundImage:
    """An image as it is written, and the place: ``Deployment/x spec.template.spec…``."""

    written: str
    where: str


def find_images(data: bytes, what: str) -> tuple[FoundImage, ...]:
    """Every image named in the Kubernetes YAML ``data``, sorted, each place once.

    Raises IntegrityError[bad-manifest-file].
    """
    budget = [MAX_NODES]
    found: set[FoundImage] = set()
    for item in flatten_lists(parse_objects(data, what)):
        found.update(_walk(item, f"{what}: {_object_name(item)}", "", budget))
    return tuple(sorted(found))


def missing_images(
    found: Iterable[FoundImage], listed: Iterable[ImageReference]
) -> tuple[str, ...]:
    """What is named but not listed, one line each; empty when the list is complete."""
    known = set(listed)
    problems = set()
    for image in found:
        try:
            reference = ImageReference.parse(image.written)
        except InputError:
            problems.add(f"{image.where}: {image.written!r} is not an image reference")
            continue
        if reference not in known:
            problems.add(f"{reference} is not listed: {image.where}")
    return tuple(sorted(problems))


def _walk(node: object, name: str, path: str, budget: list[int]) -> Iterator[FoundImage]:
    budget[0] -= 1
    if budget[0] < 0:
        raise IntegrityError("bad-manifest-file", f"{name}: more than {MAX_NODES} values")
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _walk(item, name, f"{path}[{index}]", budget)
    elif isinstance(node, dict):
        for key, value in node.items():
            inner = f"{path}.{key}" if path else str(key)
            if key in CONTAINER_LISTS and isinstance(value, list):
                yield from _containers(value, name, inner)
            elif key == "volumes" and isinstance(value, list):
                yield from _image_volumes(value, name, inner)
            if key in ("data", "stringData") and not path and isinstance(value, dict):
                yield from _texts(value, name, inner, budget)
            else:
                yield from _walk(value, name, inner, budget)


def _containers(containers: list[object], name: str, path: str) -> Iterator[FoundImage]:
    for index, container in enumerate(containers):
        image = container.get("image") if isinstance(container, dict) else None
        if isinstance(image, str) and image:
            yield FoundImage(image, f"{name} {path}[{index}].image")


def _image_volumes(volumes: list[object], name: str, path: str) -> Iterator[FoundImage]:
    for index, volume in enumerate(volumes):
        source = volume.get("image") if isinstance(volume, dict) else None
        image = source.get("reference") if isinstance(source, dict) else None
        if isinstance(image, str) and image:
            yield FoundImage(image, f"{name} {path}[{index}].image.reference")


def _texts(
    table: dict[object, object], name: str, path: str, budget: list[int]
) -> Iterator[FoundImage]:
    """YAML inside the values of a ConfigMap; text that is not YAML names no pod."""
    for key, text in table.items():
        if not isinstance(text, str) or not any(word in text for word in CONTAINER_LISTS):
            continue
        try:
            documents = list(yaml.safe_load_all(text))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        for document in documents:
            yield from _walk(document, f"{name} {path}[{key}]", "-", budget)


def _object_name(item: object) -> str:
    if not isinstance(item, dict):
        return "?"
    metadata = item.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
    return f"{item.get('kind', '?')}/{name}"
