"""Python wheels in images.lock: each file pinned by its SHA-256, and for whom it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import Reader
from perimeter_bundle.model.toml_writer import TomlValue

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # as PEP 503 normalises it
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,127}")
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.whl")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")


@dataclass(frozen=True, slots=True, order=True)
class PythonTarget:
    """A Python and the platform it runs on, such as ``3.12 linux/amd64``."""

    python: str
    platform: Platform

    @classmethod
    def parse(cls, text: str) -> PythonTarget:
        """The target written in ``text``; raises InputError[bad-target], [bad-platform]."""
        python, _, platform = text.partition(" ")
        if not _PYTHON.fullmatch(python):
            raise InputError("bad-target", f"not a Python and a platform: {text[:100]!r}")
        return cls(python, Platform.parse(platform))

    def __str__(self) -> str:
        return f"{self.python} {self.platform}"


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One wheel; without a digest a requirement whose files nobody asked for yet."""

    name: str
    version: str  # as it was asked for
    filename: str
    targets: tuple[PythonTarget, ...]
    url: str  # without credentials; empty when it came from a folder
    digest: Digest | None
    size_bytes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(sorted(self.targets)))

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.filename or f"{self.name}=={self.version}"


def package_pairs(package: LockedPackage) -> dict[str, TomlValue]:
    """The table of a package, keys in order."""
    return {
        "name": package.name,
        "version": package.version,
        "filename": package.filename,
        "targets": [str(target) for target in package.targets],
        "url": package.url,
        "digest": str(package.digest or ""),
        "size_bytes": package.size_bytes,
    }


def read_package(reader: Reader, table: Mapping[str, object], where: str) -> LockedPackage:
    """The package of a table; every problem goes to ``reader``."""
    reader.only(table, where, _KEYS)
    digest = reader.digest(table, where)
    return LockedPackage(
        name=reader.value(table, "name", where, _matching(_NAME), "x"),
        version=reader.value(table, "version", where, _matching(_VERSION), "0"),
        filename=(
            reader.value(table, "filename", where, _matching(_WHEEL), "")
            if digest
            else reader.text(table, "filename", where, empty=True)
        ),
        targets=tuple(reader.each(table, "targets", where, PythonTarget.parse)),
        url=reader.text(table, "url", where, empty=True),
        digest=digest,
        size_bytes=reader.count(table, "size_bytes", where),
    )


_KEYS = ("name", "version", "filename", "targets", "url", "digest", "size_bytes")


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """A parser that takes what ``pattern`` allows."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text[:100]!r} is not allowed there")
        return text

    return parse
