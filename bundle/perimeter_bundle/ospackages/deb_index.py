"""Indexes of apt repositories: what they list, and everything that some packages need. Pure.

https://wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, PerimeterError
from perimeter_bundle.ospackages.deb_version import DebVersion

CODE = "bad-apt-index"
MAX_PACKAGE_BYTES = 4 * 1024**3
MAX_CLOSURE = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")
_RELATION = re.compile(
    r"\s*([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?"  # name, and :any
    r"(?:\s*\(\s*(<<|<=|=|>=|>>)\s*([^\s()]+)\s*\))?"
    r"(?:\s*\[[^\]]*\])?(?:\s*<[^>]*>)*\s*"
)
_FIELDS = frozenset(
    {
        "package", "version", "architecture", "filename", "size", "sha256", "depends",
        "pre-depends", "provides", "essential", "priority",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Relation:
    """``name (>= version)``; without a version ``operator`` is empty."""

    name: str
    operator: str = ""
    version: str = ""

    def holds(self, version: DebVersion) -> bool:
        """Whether a package of this version satisfies it."""
        if not self.operator:
            return True
        wanted = DebVersion(self.version)
        return {
            "<<": version < wanted,
            "<=": version <= wanted,
            "=": version == wanted,
            ">=": version >= wanted,
            ">>": version > wanted,
        }[self.operator]


@dataclass(frozen=True, slots=True)
class DebPackage:
    """One package of an index. ``base``: every installation of the distribution has it."""

    name: str
    version: DebVersion
    architecture: str
    filename: str  # below the repository's address
    size_bytes: int
    digest: Digest
    depends: tuple[tuple[Relation, ...], ...]  # all of them, one of each
    provides: tuple[str, ...]
    base: bool
    url: str = ""


@dataclass(frozen=True, slots=True)
class Closure:
    """Packages to carry, sorted, and what no index has (name, and who needs it)."""

    packages: tuple[DebPackage, ...]
    missing: tuple[tuple[str, str], ...]


def read_release(text: str, what: str) -> Mapping[str, tuple[Digest, int]]:
    """Digest and size by path, out of the SHA256 field; raises IntegrityError[bad-apt-index]."""
    found: dict[str, tuple[Digest, int]] = {}
    inside = False
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = line.strip() == "SHA256:"
        elif inside:
            words = line.split()
            if len(words) != 3 or not words[1].isdigit() or len(words[1]) > 15:
                raise _bad(what, f"cannot read {line[:100]!r}")
            found[words[2]] = (_digest(words[0], what), int(words[1]))
    if not found:
        raise _bad(what, "it has no SHA256 sums")
    return found


def read_packages(data: bytes, what: str) -> list[DebPackage]:
    """Every package in an index; raises IntegrityError[bad-apt-index]."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(what, "it is not UTF-8") from error
    return [_package(_fields(stanza), what) for stanza in text.split("\n\n") if stanza.strip()]


def by_name(packages: Iterable[DebPackage]) -> dict[str, list[DebPackage]]:
    """Packages by their name and by what they provide, the newest first."""
    found: dict[str, list[DebPackage]] = {}
    for package in packages:
        for name in (package.name, *package.provides):
            found.setdefault(name, []).append(package)
    for name, candidates in found.items():
        candidates.sort(key=lambda one: one.version, reverse=True)
        candidates.sort(key=lambda one: one.name != name)  # the real one before who provides it
    return found


def closure(
    index: Mapping[str, Sequence[DebPackage]],
    install: Sequence[str],
    download: Sequence[str],
    if_there: Sequence[str] = (),
) -> Closure:
    """``install`` with all they depend on, ``download`` and ``if_there`` alone.

    What every installation of the distribution has is left out. Raises
    IntegrityError[bad-apt-index] when a closure grows past any honest one.
    """
    chosen: dict[str, DebPackage] = {}
    missing: list[tuple[str, str]] = []
    for name in (*download, *if_there):
        candidates = index.get(name, ())
        if candidates:
            chosen[candidates[0].name] = candidates[0]
        elif name in download:
            missing.append((name, ""))
    waiting: list[tuple[tuple[Relation, ...], str]] = [((Relation(name),), "") for name in install]
    while waiting:
        alternatives, needed_by = waiting.pop(0)
        package = _choose(index, alternatives)
        if package is None:
            missing.append((" | ".join(each.name for each in alternatives), needed_by))
            continue
        if package.name in chosen and needed_by:
            continue
        if needed_by and package.base:
            continue
        chosen[package.name] = package
        if len(chosen) > MAX_CLOSURE:
            raise _bad("the repository", f"{install[0]} needs more than {MAX_CLOSURE} packages")
        waiting += [(each, package.name) for each in package.depends]
    return Closure(tuple(chosen[name] for name in sorted(chosen)), tuple(sorted(set(missing))))


def _choose(
    index: Mapping[str, Sequence[DebPackage]], alternatives: Sequence[Relation]
) -> DebPackage | None:
    for relation in alternatives:
        for package in index.get(relation.name, ()):
            # what provides a name has no version of it
            if relation.holds(package.version) or package.name != relation.name:
                return package
    return None


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")) and name.lower() in _FIELDS:
            fields[name.lower()] = value.strip()
    return fields


def _package(fields: Mapping[str, str], what: str) -> DebPackage:
    name = fields.get("package", "")
    if not _NAME.fullmatch(name):
        raise _bad(what, f"{name[:60]!r} is not the name of a package")
    where = f"{what}: {name}"
    filename, size = fields.get("filename", ""), fields.get("size", "")
    if path_problem(filename.removeprefix("./")):
        raise _bad(where, f"{filename[:60]!r} is not a path in the repository")
    if not size.isdigit() or len(size) > 15 or int(size) > MAX_PACKAGE_BYTES:
        raise _bad(where, f"{size[:30]!r} is not a size")
    try:
        version = DebVersion(fields.get("version", ""))
        depends = [
            *_relations(fields.get("pre-depends", "")),
            *_relations(fields.get("depends", "")),
        ]
        provides = [each[0].name for each in _relations(fields.get("provides", ""))]
    except ValueError as error:
        raise _bad(where, str(error)) from error
    return DebPackage(
        name=name,
        version=version,
        architecture=fields.get("architecture", ""),
        filename=filename.removeprefix("./"),
        size_bytes=int(size),
        digest=_digest(fields.get("sha256", ""), where),
        depends=tuple(depends),
        provides=tuple(provides),
        base=fields.get("essential") == "yes" or fields.get("priority") == "required",
    )


def _relations(text: str) -> list[tuple[Relation, ...]]:
    found = []
    for part in text.split(",") if text else []:
        alternatives = []
        for one in part.split("|"):
            match = _RELATION.fullmatch(one)
            if not match:
                raise ValueError(f"cannot read the relation {one.strip()[:60]!r}")
            if match[3]:
                DebVersion(match[3])  # refused here and not while choosing
            alternatives.append(Relation(match[1], match[2] or "", match[3] or ""))
        found.append(tuple(alternatives))
    return found


def _digest(text: str, what: str) -> Digest:
    try:
        return Digest.parse(f"sha256:{text}")
    except PerimeterError as error:
        raise _bad(what, "it has no usable SHA-256") from error


def _bad(what: str, reason: str) -> IntegrityError:
    return IntegrityError(
        CODE,
        f"{what} cannot be used: {reason}",
        hint="is this an apt repository, and whole? another mirror may help",
    )
