"""--os-repositories: a file that says where packages of the hosts' systems are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from perimeter_bundle.catalog.schema import FileBeside, GitUrl, read_model
from perimeter_bundle.catalog.strict_yaml import YamlDocument, parse_yaml
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.ospackages.apt import AptRepository
from perimeter_bundle.ospackages.found import FAMILIES, Family
from perimeter_bundle.ospackages.repositories import OsRepository
from perimeter_bundle.ospackages.rpm import RpmRepository, Signed

_Part = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$", max_length=80),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _system(family: Family) -> StringConstraints:
    ids = "|".join(name for name, one in FAMILIES.items() if one is family)
    return StringConstraints(pattern=rf"^({ids})[0-9]+(\.[0-9]+)?$", max_length=40)


class _RepositoryModel(_Model):
    url: GitUrl
    keyring: FileBeside


class AptModel(_RepositoryModel):
    """One entry of ``apt``."""

    system: Annotated[str, _system(Family.DEB)]
    suites: Annotated[list[_Part], Field(min_length=1)]
    components: Annotated[list[_Part], Field(min_length=1)]


class RpmModel(_RepositoryModel):
    """One entry of ``rpm``."""

    system: Annotated[str, _system(Family.RPM)]
    alternates: list[GitUrl] = Field(default_factory=list)
    signed: Annotated[Signed, Field(strict=False)] = Signed.METADATA
    at_least: Annotated[int, Field(ge=0, lt=10**15)] = 0


class OsRepositoriesModel(_Model):
    """The whole file."""

    apt: Annotated[list[AptModel], Field(min_length=1)] | None = None
    rpm: Annotated[list[RpmModel], Field(min_length=1)] | None = None


def load_os_repositories(path: Path) -> tuple[OsRepository, ...]:
    """The repositories in ``path``.

    Raises InputError[no-os-repositories] or [bad-os-repositories] with every problem.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "no-os-repositories",
            f"cannot read {path}: {error.strerror}",
            hint="docs/site-facts.md shows what it holds",
        ) from error
    problems: list[str] = []
    model = None
    try:
        document = parse_yaml(data, path.name)
        model = read_model(OsRepositoriesModel, document, problems)
        if model is not None:
            problems += _problems(model, document, path.parent)
    except InputError as error:
        problems += error.problems
    if problems or model is None:
        raise InputError(
            "bad-os-repositories",
            f"{path} cannot be used",
            problems=problems,
            hint="docs/site-facts.md shows what it holds",
        )
    folder = path.parent.absolute()
    apt = (
        AptRepository(
            one.system,
            one.url.rstrip("/"),
            tuple(one.suites),
            tuple(one.components),
            folder / one.keyring,
        )
        for one in model.apt or ()
    )
    rpm = (
        RpmRepository(
            one.system,
            tuple(url.rstrip("/") for url in (one.url, *one.alternates)),
            folder / one.keyring,
            one.signed,
            one.at_least,
        )
        for one in model.rpm or ()
    )
    return (*apt, *rpm)


def _problems(model: OsRepositoriesModel, document: YamlDocument, folder: Path) -> Iterable[str]:
    if not model.apt and not model.rpm:
        yield document.problem((), "it names neither apt nor rpm repositories")
    entries: dict[str, Sequence[_RepositoryModel]] = {
        "apt": model.apt or [],
        "rpm": model.rpm or [],
    }
    for key, listed in entries.items():
        for index, one in enumerate(listed):
            if not (folder / one.keyring).is_file():
                yield document.problem(
                    (key, index, "keyring"), f"there is no file {one.keyring} beside it"
                )
    for index, apt in enumerate(model.apt or ()):
        for suite in (*apt.suites, *apt.components):
            if ".." in suite:
                yield document.problem(("apt", index), f"{suite} is no suite or component")
    for index, rpm in enumerate(model.rpm or ()):
        if rpm.signed is Signed.PACKAGES and rpm.at_least:
            yield document.problem(
                ("rpm", index, "at_least"), "means nothing where repomd.xml is not signed"
            )
