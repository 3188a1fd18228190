"""workloads.yaml → values: images and Python packages that a site's own people use.

The file is a site's, not the catalog's; docs/workloads.md is its documentation for writers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from perimeter_bundle.catalog.schema import Reference, Text, read_model
from perimeter_bundle.catalog.strict_yaml import YamlDocument, parse_yaml
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workload_values import WorkloadImage, Workloads
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.reader import repeated
from perimeter_bundle.model.reference import INTERNAL_HOST, ImageReference

NO_LICENCE = "not stated"
_WITH_PATH = (ImageOrigin.OCI_LAYOUT, ImageOrigin.DOCKER_ARCHIVE)
_LOCAL_ORIGINS = (*_WITH_PATH, ImageOrigin.DOCKER_ENGINE)


def _source(text: str) -> str:
    origin, path, _ = _split_source(text)
    if origin in _WITH_PATH and not path:
        raise ValueError(f"{origin.value} needs a path, as in {origin.value}:./train")
    if not text.isprintable() or "\\" in text:
        raise ValueError("holds characters that do not belong there")
    return text


def _split_source(text: str) -> tuple[ImageOrigin, str, str]:
    """Origin, path and name; raises ValueError."""
    kind, colon, rest = text.partition(":")
    origin = next((one for one in _LOCAL_ORIGINS if one.value == kind), None)
    if origin is None:
        kinds = ", ".join(f"{one.value}:" for one in _LOCAL_ORIGINS)
        raise ValueError(f"must begin with one of {kinds}; leave it out for a registry")
    if not colon:
        raise ValueError(f"must be {kind}: and what follows it")
    if origin not in _WITH_PATH:
        return origin, "", rest
    path, _, name = rest.partition(":")
    return origin, path, name


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class WorkloadImageModel(_Model):
    """One entry of ``images``."""

    reference: Reference
    why: Text
    licence: Text | None = None
    source: Annotated[str | None, AfterValidator(lambda text: text and _source(text))] = Field(
        default=None, alias="from"
    )


class WorkloadsModel(_Model):
    """A whole workloads.yaml."""

    images: list[WorkloadImageModel] = Field(default_factory=list)


def load_workloads(path: Path) -> Workloads:
    """What ``path`` says; raises InputError[no-workloads], [bad-workloads] with every problem."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "no-workloads",
            f"cannot read {path}: {error.strerror}",
            hint="docs/workloads.md shows what it holds",
        ) from error
    problems: list[str] = []
    document = model = None
    try:
        document = parse_yaml(data, path.name)
        model = read_model(WorkloadsModel, document, problems)
    except InputError as error:
        problems += error.problems
    workloads = Workloads()
    if document is not None and model is not None:
        problems += _image_problems(model, document)
        if not problems:
            workloads = Workloads(tuple(_image(one, path.parent) for one in model.images))
    if problems:
        raise InputError(
            "bad-workloads",
            f"{path} cannot be used: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            problems=problems,
            hint="docs/workloads.md describes every key",
        )
    return workloads


def with_workloads(release: Release, workloads: Workloads) -> Release:
    """The release and what a site adds to it."""
    return replace(release, workloads=workloads)


def _image(model: WorkloadImageModel, folder: Path) -> WorkloadImage:
    origin, path, name = (
        _split_source(model.source) if model.source else (ImageOrigin.REGISTRY, "", "")
    )
    return WorkloadImage(
        reference=ImageReference.parse(model.reference),
        why=model.why,
        licence=model.licence or NO_LICENCE,
        origin=origin,
        path=folder / path if path else None,
        name=name,
    )


def _image_problems(model: WorkloadsModel, document: YamlDocument) -> Iterable[str]:
    if not model.images:
        yield document.problem((), "asks for nothing: no images")
    for name in repeated(image.reference for image in model.images):
        yield document.problem(("images",), f"{name} stands there twice")
    for index, image in enumerate(model.images):
        reference = ImageReference.parse(image.reference)
        where = ("images", index, "reference")
        if reference.host == INTERNAL_HOST:
            yield document.problem(where, f"{INTERNAL_HOST} is perimeter's own host")
        if image.source and (reference.digest or not reference.tag):
            yield document.problem(
                where, "must be a tag without a digest: the lock writes the digest down"
            )
