"""The part of a lock that was written for one site: which facts, images and values of charts."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.reader import Reader, Table
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.model.toml_writer import TomlValue, toml_table

_SITE_KEYS = ("name", "facts", "signed_by")
_COMPONENT_KEYS = ("name", "images", "values", "packages", "keys")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~^_-]{0,127}")
MAX_VALUE_LINE = 500
MAX_KEYS = 1024 * 1024
_NOTHING = Digest.of_bytes(b"")


@dataclass(frozen=True, slots=True, order=True)
class SitePackage:
    """A package of the hosts' system; ``reference`` is the file that carries it."""

    system: str  # ubuntu22.04
    name: str
    version: str
    architecture: str  # as the distribution calls it; all: for every one
    reference: ImageReference

    @classmethod
    def parse(cls, text: str) -> SitePackage:
        """Five words; raises ValueError or InputError."""
        words = text.split(" ")
        if len(words) != 5 or not all(_WORD.fullmatch(word) for word in words[:4]):
            raise ValueError(f"{text[:60]!r} is not system, name, version, architecture, reference")
        system, name, version, architecture, reference = words
        return cls(system, name, version, architecture, ImageReference.parse(reference))

    def __str__(self) -> str:
        parts = (self.system, self.name, self.version, self.architecture, self.reference)
        return " ".join(map(str, parts))


@dataclass(frozen=True, slots=True, order=True)
class SystemKeys:
    """Public keys that packages of a system are signed with, as their distribution gives them."""

    system: str
    data: bytes

    @classmethod
    def parse(cls, text: str) -> SystemKeys:
        """System and base64; raises ValueError."""
        system, _, encoded = text.partition(" ")
        if not _WORD.fullmatch(system) or not encoded or len(encoded) > MAX_KEYS:
            raise ValueError(f"{text[:60]!r} is not system and keys")
        try:
            return cls(system, base64.b64decode(encoded, validate=True))
        except binascii.Error as error:
            raise ValueError(f"the keys of {system} are not base64") from error

    def __str__(self) -> str:
        return f"{self.system} {base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class LockedSiteComponent:
    """What a component gets at this site beyond the catalog: images, and values of its chart."""

    name: str
    images: tuple[ImageReference, ...]
    values: tuple[str, ...]  # lines of YAML
    packages: tuple[SitePackage, ...] = ()
    keys: tuple[SystemKeys, ...] = ()

    @property
    def values_bytes(self) -> bytes:
        """The values as a YAML file."""
        return "".join(f"{line}\n" for line in self.values).encode()


@dataclass(frozen=True, slots=True)
class LockedSite:
    """The site a lock was written for; ``facts`` is the digest of its site-facts.json."""

    name: str
    facts: Digest
    signed_by: str  # id of the key
    components: tuple[LockedSiteComponent, ...]

    def __post_init__(self) -> None:
        ordered = sorted(self.components, key=lambda component: component.name)
        object.__setattr__(self, "components", tuple(ordered))

    @property
    def images(self) -> frozenset[ImageReference]:
        """Every image that is there for this site alone."""
        return frozenset(image for one in self.components for image in one.images)

    @property
    def packages(self) -> frozenset[ImageReference]:
        """Every file that is a package for this site alone."""
        return frozenset(package.reference for one in self.components for package in one.packages)

    def to_tables(self) -> list[str]:
        """The tables of the lock, as text."""
        top = {"name": self.name, "facts": str(self.facts), "signed_by": self.signed_by}
        tables = [toml_table("[[site_component]]", _pairs(one)) for one in self.components]
        return [toml_table("[site]", top), *tables]


def _pairs(one: LockedSiteComponent) -> dict[str, TomlValue]:
    pairs: dict[str, TomlValue] = {
        "name": one.name,
        "images": [str(image) for image in sorted(one.images)],
        "values": one.values,
    }
    if one.packages:
        pairs["packages"] = [str(package) for package in sorted(one.packages)]
    if one.keys:
        pairs["keys"] = [str(key) for key in sorted(one.keys)]
    return pairs


def read_locked_site(reader: Reader, document: Table) -> LockedSite | None:
    """The site in a lock's document; None for a lock that fits every site."""
    if "site" not in document:
        if "site_component" in document:
            reader.problems.append("[[site_component]] stands there without [site]")
        return None
    table = reader.table(document, "site", "lock")
    reader.only(table, "[site]", _SITE_KEYS)
    return LockedSite(
        name=reader.text(table, "name", "[site]"),
        facts=reader.value(table, "facts", "[site]", Digest.parse, _NOTHING),
        signed_by=reader.text(table, "signed_by", "[site]"),
        components=tuple(reader.tables(document, "site_component", _read_component)),
    )


def _read_component(reader: Reader, table: Table, where: str) -> LockedSiteComponent:
    reader.only(table, where, _COMPONENT_KEYS)
    return LockedSiteComponent(
        name=reader.value(table, "name", where, _plain_name, ""),
        images=tuple(reader.each(table, "images", where, ImageReference.parse)),
        values=tuple(reader.each(table, "values", where, _value_line)),
        packages=(
            tuple(reader.each(table, "packages", where, SitePackage.parse))
            if "packages" in table
            else ()
        ),
        keys=(
            tuple(reader.each(table, "keys", where, SystemKeys.parse)) if "keys" in table else ()
        ),
    )


def _plain_name(text: str) -> str:
    """A component's name becomes the name of a file."""
    if not text.isascii() or not all(part.isalnum() for part in text.split("-")):
        raise ValueError(f"{text[:60]!r} is not the name of a component")
    return text


def _value_line(text: str) -> str:
    if not text.isprintable() or len(text) > MAX_VALUE_LINE:
        raise ValueError(f"{text[:60]!r} is not a line of YAML")
    return text
