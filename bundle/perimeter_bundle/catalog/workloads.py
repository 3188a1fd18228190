"""workloads.yaml → values: images and Python packages that a site's own people use.

The file is a site's, not the catalog's; docs/workloads.md is its documentation for writers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from perimeter_bundle.catalog.schema import Reference, Text, read_model
from perimeter_bundle.catalog.strict_yaml import YamlDocument, parse_yaml
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workload_values import PythonPackages, WorkloadImage, Workloads
from perimeter_bundle.collect.requirements import Requirement, normalise, parse_requirements
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import repeated
from perimeter_bundle.model.reference import INTERNAL_HOST, ImageReference

NO_LICENCE = "not stated"
_PACKAGE_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9_.!+-]*)"
)
_REQUIREMENTS_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.txt")
_WHEEL_PLATFORMS = ("linux/amd64", "linux/arm64")
_WITH_PATH = (ImageOrigin.OCI_LAYOUT, ImageOrigin.DOCKER_ARCHIVE)
_LOCAL_ORIGINS = (*_WITH_PATH, ImageOrigin.DOCKER_ENGINE)


def _source(text: str) -> str:
    origin, path, _ = _split_source(text)
    if origin in _WITH_PATH and not path:
        raise ValueError(f"{origin.value} needs a path, as in {origin.value}:./train")
    if not text.isprintable() or "\\" in text:
        raise ValueError("holds characters that do not belong there")
    return text


def _package(text: str) -> str:
    if not _PINNED.fullmatch(text) and not _REQUIREMENTS_FILE.fullmatch(text):
        raise ValueError("must be name==version, or the name of a .txt file beside workloads.yaml")
    return text


def _wheel_platform(text: str) -> str:
    if text not in _WHEEL_PLATFORMS:
        raise ValueError(f"must be one of {', '.join(_WHEEL_PLATFORMS)}")
    return text


PackageText = Annotated[str, AfterValidator(_package)]
PythonText = Annotated[str, StringConstraints(pattern=r"^3\.([89]|[1-9][0-9])$")]


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


class PythonModel(_Model):
    """``python``: packages for the site's own index."""

    packages: Annotated[list[PackageText], Field(min_length=1)]
    pythons: Annotated[list[PythonText], Field(min_length=1)]
    platforms: list[Annotated[str, AfterValidator(_wheel_platform)]] = Field(default_factory=list)
    provided: list[Annotated[str, StringConstraints(pattern=_PACKAGE_NAME)]] = Field(
        default_factory=list
    )


class WorkloadsModel(_Model):
    """A whole workloads.yaml."""

    images: list[WorkloadImageModel] = Field(default_factory=list)
    python: PythonModel | None = None


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
        python = _python(model.python, path.parent, document, problems)
        if not problems:
            images = tuple(_image(one, path.parent) for one in model.images)
            workloads = Workloads(images, python)
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


def _python(
    model: PythonModel | None, folder: Path, document: YamlDocument, problems: list[str]
) -> PythonPackages:
    if model is None:
        return PythonPackages()
    for key in ("packages", "pythons", "platforms", "provided"):
        for text in repeated(getattr(model, key)):
            problems.append(document.problem(("python", key), f"{text} stands there twice"))
    requirements: list[Requirement] = []
    for index, text in enumerate(model.packages):
        pinned = _PINNED.fullmatch(text)
        try:
            if pinned:
                name = normalise(pinned["name"])
                requirements.append(Requirement(name, pinned["version"], "", frozenset()))
            else:
                requirements += parse_requirements((folder / text).read_bytes(), text)
        except OSError as error:
            reason = f"cannot read {text}: {error.strerror}"
            problems.append(document.problem(("python", "packages", index), reason))
        except InputError as error:
            problems += [f"{text}: {problem}" for problem in error.problems]
    return PythonPackages(
        requirements=tuple(requirements),
        pythons=tuple(model.pythons),
        platforms=tuple(Platform.parse(one) for one in model.platforms),
        provided=tuple(normalise(one) for one in model.provided),
    )


def _image_problems(model: WorkloadsModel, document: YamlDocument) -> Iterable[str]:
    if not model.images and model.python is None:
        yield document.problem((), "asks for nothing: no images, no python")
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
