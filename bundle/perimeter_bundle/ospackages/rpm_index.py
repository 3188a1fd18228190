"""repomd.xml and primary.xml: what a repository of rpm packages lists. Pure.

There is no specification; createrepo_c writes these files and libsolv reads them:
https://github.com/rpm-software-management/createrepo_c
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.model.digest import Algorithm, Digest
from perimeter_bundle.model.errors import IntegrityError, PerimeterError
from perimeter_bundle.ospackages.rpm_rich import Need, read_need
from perimeter_bundle.ospackages.rpm_version import Capability, Evr
from perimeter_bundle.ospackages.strict_xml import Element, children_of_root

CODE = "bad-rpm-index"
MAX_PACKAGE_BYTES = 4 * 1024**3
MAX_PACKAGES = 200_000
NOARCH = "noarch"
REPO, COMMON, RPM = (
    f"http://linux.duke.edu/metadata/{name} " for name in ("repo", "common", "rpm")
)
OPERATORS = {"": "", "LT": "<", "LE": "<=", "EQ": "=", "GE": ">=", "GT": ">"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9._+~^]{1,200}")
_WORD = re.compile(r"[a-z0-9_]{1,20}")
# dnf refuses these without the metadata of their module, which is not carried
_MODULAR = re.compile(r"\.module[+_]")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index that repomd.xml names."""

    path: str  # below the repository's address
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Repomd:
    """``revision`` grows with each state of the repository; most use the time in seconds."""

    revision: int
    primary: IndexFile


@dataclass(frozen=True, slots=True, eq=False)
class RpmPackage:
    """One package of an index; ``files`` are those that the primary index tells."""

    name: str
    evr: Evr
    architecture: str
    location: str  # below the repository's address
    size_bytes: int
    digest: Digest
    provides: tuple[Capability, ...]
    requires: tuple[Need, ...]
    files: tuple[str, ...]
    url: str = ""

    @property
    def full_name(self) -> str:
        """``kernel-5.14.0-570.el9_6.x86_64``, as uname and rpm write it."""
        return f"{self.name}-{self.evr.version}-{self.evr.release}.{self.architecture}"


def read_repomd(data: bytes, what: str) -> Repomd:
    """Raises IntegrityError[bad-rpm-index]."""
    try:
        return _repomd(data)
    except ValueError as error:
        raise bad(what, str(error)) from error


def read_primary(data: bytes, architecture: str, what: str) -> list[RpmPackage]:
    """The packages for ``architecture`` (x86_64) and for every one.

    Raises IntegrityError[bad-rpm-index].
    """
    try:
        return list(_primary(data, architecture))
    except ValueError as error:
        raise bad(what, str(error)) from error


def check_same(packages: Iterable[RpmPackage]) -> Mapping[str, RpmPackage]:
    """Packages by full name; several repositories may list one, if it is the same.

    Raises IntegrityError[bad-rpm-index].
    """
    found: dict[str, RpmPackage] = {}
    for package in packages:
        name = f"{package.evr.epoch}:{package.full_name}"
        before = found.setdefault(name, package)
        if before.digest != package.digest:
            raise bad(
                package.url or "the repository",
                f"{package.full_name} stands there twice with other bytes"
                + (f", also at {before.url}" if before.url else ""),
            )
    return found


def bad(what: str, reason: str) -> IntegrityError:
    """The error for a repository that no honest one is."""
    return IntegrityError(
        CODE,
        f"{what} cannot be used: {reason}",
        hint="is this a repository of rpm packages, and whole? another mirror may help",
    )


def _repomd(data: bytes) -> Repomd:
    revision, latest, primary = 0, 0, None
    for child in children_of_root(data, f"{REPO}repomd"):
        if child.name == f"{REPO}revision" and child.text.strip():
            revision = _number(child.text.strip(), "a revision")
        if child.name != f"{REPO}data":
            continue
        stamp = child.text_of(f"{REPO}timestamp").partition(".")[0]
        latest = max(latest, _number(stamp, "a time") if stamp else 0)
        if child.attributes.get("type") == "primary":
            if primary:
                raise ValueError("it names two primary indexes")
            primary = _index_file(child)
    if primary is None:
        raise ValueError("it names no primary index")
    return Repomd(revision or latest, primary)


def _primary(data: bytes, architecture: str) -> Iterator[RpmPackage]:
    for count, child in enumerate(children_of_root(data, f"{COMMON}metadata")):
        if count >= MAX_PACKAGES:
            raise ValueError(f"it lists more than {MAX_PACKAGES} packages")
        if child.name != f"{COMMON}package":
            raise ValueError(f"it lists a {child.name[-60:]!r}")
        if child.text_of(f"{COMMON}arch") in (architecture, NOARCH):
            package = _package(child)
            if not _MODULAR.search(package.evr.release):
                yield package


def _index_file(data: Element) -> IndexFile:
    checksum, place = data.first(f"{REPO}checksum"), data.first(f"{REPO}location")
    return IndexFile(
        _location(place, "the primary index"),
        _digest(checksum, "the primary index"),
        _number(data.text_of(f"{REPO}size"), "a size"),
    )


def _package(element: Element) -> RpmPackage:
    name = element.text_of(f"{COMMON}name")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is not the name of a package")
    try:
        return _named(element, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _named(element: Element, name: str) -> RpmPackage:
    architecture = element.text_of(f"{COMMON}arch")
    if not _WORD.fullmatch(architecture):
        raise ValueError(f"{architecture[:30]!r} is not an architecture")
    evr = _evr(element.first(f"{COMMON}version").attributes)
    if evr is None or not all(map(_VERSION.fullmatch, (evr.version, evr.release))):
        raise ValueError(f"{str(evr)[:60]!r} is not version and release of a package")
    size = _number(element.first(f"{COMMON}size").attributes.get("package", ""), "a size")
    if size > MAX_PACKAGE_BYTES:
        raise ValueError(f"{size} bytes are more than any honest package has")
    digest = _digest(element.first(f"{COMMON}checksum"), name)
    if digest.algorithm is not Algorithm.SHA256:
        raise ValueError("its checksum is not a SHA-256")
    location = _location(element.first(f"{COMMON}location"), name)
    if not location.endswith(".rpm"):
        raise ValueError(f"{location[-60:]!r} is not the file of a package")
    details = element.first(f"{COMMON}format")
    return RpmPackage(
        name=name,
        evr=evr,
        architecture=architecture,
        location=location,
        size_bytes=size,
        digest=digest,
        provides=tuple(map(_capability, details.first(f"{RPM}provides").children)),
        requires=tuple(_needs(details.first(f"{RPM}requires").children)),
        files=tuple(each.text for each in details.children if each.name == f"{COMMON}file"),
    )


def _needs(entries: Iterable[Element]) -> Iterator[Need]:
    for entry in entries:
        name = entry.attributes.get("name", "")
        if name.startswith("rpmlib("):  # what rpm itself can do
            continue
        yield _rich(name) if name.startswith("(") else _capability(entry)


def _rich(text: str) -> Need:
    """What cannot be read is provided by nobody: it stops only who needs that package."""
    try:
        return read_need(text)
    except ValueError:
        return Capability(text)


def _capability(entry: Element) -> Capability:
    name, flags = entry.attributes.get("name", ""), entry.attributes.get("flags", "")
    if not name or len(name) > 2000 or not name.isprintable():
        raise ValueError(f"{name[:60]!r} is nothing that a package provides or needs")
    if flags not in OPERATORS:
        raise ValueError(f"{flags[:20]!r} is not a relation")
    evr = _evr(entry.attributes) if flags else None
    return Capability(name, OPERATORS[flags] if evr else "", evr)


def _evr(attributes: Mapping[str, str]) -> Evr | None:
    version = attributes.get("ver", "")
    if not version:
        return None
    return Evr.make(attributes.get("epoch", ""), version, attributes.get("rel", ""))


def _location(element: Element, what: str) -> str:
    path = element.attributes.get("href", "").removeprefix("./")
    if path_problem(path) or "?" in path or "#" in path:
        raise ValueError(f"{path[:60]!r} of {what} is not a path in the repository")
    if any(name.endswith(" base") for name in element.attributes):
        raise ValueError(f"{what} lies at another address than the repository")
    return path


def _digest(element: Element, what: str) -> Digest:
    try:
        return Digest.parse(f"{element.attributes.get('type')}:{element.text.strip()}")
    except PerimeterError as error:
        raise ValueError(f"{what} has no usable SHA-256 or SHA-512") from error


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise ValueError(f"{text[:30]!r} is not {what}")
    return int(text)
