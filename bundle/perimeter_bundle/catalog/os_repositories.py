"""--os-repositories: a file that says where packages of the hosts' systems are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from perimeter_bundle.catalog.schema import FileBeside, GitUrl, read_model
from perimeter_bundle.catalog.strict_yaml import YamlDocument, parse_yaml
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.ospackages.apt import AptRepository

_Part = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$", max_length=80),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AptModel(_Model):
    """One entry of ``apt``."""

    system: Annotated[
        str, StringConstraints(pattern=r"^(debian|ubuntu)[0-9]+(\.[0-9]+)?$", max_length=40)
    ]
    url: GitUrl
    suites: Annotated[list[_Part], Field(min_length=1)]
    components: Annotated[list[_Part], Field(min_length=1)]
    keyring: FileBeside


class OsRepositoriesModel(_Model):
    """The whole file."""

    apt: Annotated[list[AptModel], Field(min_length=1)]


def load_os_repositories(path: Path) -> tuple[AptRepository, ...]:
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
    return tuple(
        AptRepository(
            one.system,
            one.url.rstrip("/"),
            tuple(one.suites),
            tuple(one.components),
            path.parent.absolute() / one.keyring,
        )
        for one in model.apt
    )


def _problems(model: OsRepositoriesModel, document: YamlDocument, folder: Path) -> Iterable[str]:
    for index, one in enumerate(model.apt):
        if not (folder / one.keyring).is_file():
            yield document.problem(
                ("apt", index, "keyring"), f"there is no file {one.keyring} beside it"
            )
        for suite in (*one.suites, *one.components):
            if ".." in suite:
                yield document.problem(("apt", index), f"{suite} is no suite or component")
