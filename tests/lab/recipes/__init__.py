"""Recipes: which upstream programs the lab builds, from which modules, stamped how.

A recipe is a folder with `recipe.toml`, and for Go a `go.mod` and `go.sum` that pin every module.
What a recipe may ask for is what the classes here can say; there is no place for a shell command.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..state import LabError

FOLDER = Path(__file__).resolve().parent
_GO_LINE = re.compile(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", re.MULTILINE)
_RECIPE_KEYS = {
    *("name", "version", "license", "source", "ldflags", "program", "patch"),
    *("debian_packages", "sums_taken_on_trust"),
}
_PROGRAM_KEYS = {"package", "c_source", "output", "ldflags", "tags", "build_flags", "cgo"}


@dataclass(frozen=True, slots=True)
class Program:
    """One executable: a Go package, or a C file of the recipe itself."""

    output: str
    package: str | None
    c_source: str | None
    ldflags: tuple[str, ...]
    tags: tuple[str, ...]
    build_flags: tuple[str, ...]
    cgo: bool


@dataclass(frozen=True, slots=True)
class DropFolder:
    """Leave a folder of a module out."""

    module: str
    folder: str


@dataclass(frozen=True, slots=True)
class DropImport:
    """Leave one blank import out of a file of a module."""

    module: str
    file: str
    imported: str


Patch = DropFolder | DropImport


@dataclass(frozen=True, slots=True)
class Recipe:
    """A set of programs that come from one upstream version."""

    name: str
    version: str
    license: str
    programs: tuple[Program, ...]
    patches: tuple[Patch, ...]
    debian_packages: tuple[str, ...]
    sums_taken_on_trust: tuple[str, ...]
    folder: Path

    @property
    def is_go(self) -> bool:
        return (self.folder / "go.mod").exists()

    def digest(self, go_version: str) -> str:
        """Identity of what the recipe builds: its files, and the compiler."""
        lines = [f"go {go_version}"] if self.is_go else []
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{content}  {path.relative_to(self.folder)}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def go_needed(self) -> tuple[int, int, int]:
        """The oldest Go that go.mod admits; (0, 0, 0) where none is needed."""
        if not self.is_go:
            return (0, 0, 0)
        found = _GO_LINE.search((self.folder / "go.mod").read_text())
        if not found:
            raise LabError(f"recipe {self.name}: go.mod has no go line")
        return (int(found[1]), int(found[2]), int(found[3] or 0))


def recipe_names() -> tuple[str, ...]:
    """All recipes, in the order of the alphabet."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/recipe.toml")))


def load_recipe(name: str) -> Recipe:
    """The recipe of that name; raises LabError naming everything that is wrong with it."""
    folder = FOLDER / name
    try:
        data = tomllib.loads((folder / "recipe.toml").read_text())
    except FileNotFoundError as err:
        known = ", ".join(recipe_names())
        raise LabError(f"there is no recipe {name!r}; there are: {known}") from err
    except tomllib.TOMLDecodeError as err:
        raise LabError(f"recipe {name}: recipe.toml: {err}") from err
    problems = [f"unknown key {key!r}" for key in sorted(data.keys() - _RECIPE_KEYS)]
    problems += [f"{key} is missing" for key in ("name", "version", "license") if key not in data]
    if data.get("name", name) != name:
        problems.append(f"name is {data['name']!r}, the folder is {name!r}")
    for table in data.get("program", []):
        problems += [f"unknown program key {k!r}" for k in sorted(table.keys() - _PROGRAM_KEYS)]
        if ("package" in table) == ("c_source" in table) or "output" not in table:
            problems.append(f"program needs an output and either package or c_source: {table}")
    if not data.get("program"):
        problems.append("it builds no program")
    patches = [_patch(table, problems) for table in data.get("patch", [])]
    if problems:
        raise LabError(f"recipe {name}: " + "; ".join(problems))
    common = tuple(data.get("ldflags", ()))
    return Recipe(
        name=name,
        version=data["version"],
        license=data["license"],
        programs=tuple(_program(table, common) for table in data["program"]),
        patches=tuple(patch for patch in patches if patch is not None),
        debian_packages=tuple(data.get("debian_packages", ())),
        sums_taken_on_trust=tuple(data.get("sums_taken_on_trust", ())),
        folder=folder,
    )


def _program(table: Mapping[str, object], common: tuple[str, ...]) -> Program:
    def texts(key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        return tuple(str(item) for item in value) if isinstance(value, list) else ()

    package, c_source = table.get("package"), table.get("c_source")
    return Program(
        output=str(table["output"]),
        package=None if package is None else str(package),
        c_source=None if c_source is None else str(c_source),
        ldflags=("-s", "-w", *common, *texts("ldflags")),
        tags=texts("tags"),
        build_flags=texts("build_flags"),
        cgo=bool(table.get("cgo", False)),
    )


def _patch(table: Mapping[str, str], problems: list[str]) -> Patch | None:
    match dict(table):
        case {"module": str(module), "drop_dir": str(folder), **rest} if not rest:
            return DropFolder(module, folder)
        case {"module": str(module), "drop_import": str(name), "file": str(file), **rest} if (
            not rest
        ):
            return DropImport(module, file, name)
    problems.append(f"a patch is neither drop_dir nor drop_import with a file: {dict(table)}")
    return None


def apply_patch(patch: Patch, source: Path) -> None:
    """Change the module's copy; refuses when there is nothing to change any more."""
    match patch:
        case DropFolder(folder=folder):
            if not (source / folder).is_dir():
                raise LabError(f"{patch.module}: there is no folder {folder} to leave out")
            for path in sorted((source / folder).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (source / folder).rmdir()
        case DropImport(file=file, imported=imported):
            line = f'\t_ "{imported}"\n'
            text = (source / file).read_text()
            if text.count(line) != 1:
                raise LabError(f"{patch.module}: {file} does not import {imported} exactly once")
            (source / file).write_text(text.replace(line, ""))
