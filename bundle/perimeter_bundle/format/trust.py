"""Whom a site trusts: a folder of public keys, with an optional trust.toml.

The folder belongs to the site. Keys that travel inside a bundle are never looked at.
docs/formats/trust.md describes it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from perimeter_bundle.format.files import read_file
from perimeter_bundle.format.signature import MAX_KEY_BYTES, PublicKey
from perimeter_bundle.model.errors import PerimeterError, TrustError
from perimeter_bundle.model.reader import Reader, Table, repeated

TRUST_FILE = "trust.toml"
TRUST_FORMAT = "perimeter-trust/1"
MAX_TRUST_BYTES = 256 * 1024
KEY_SUFFIX = ".pub"


class Role(Enum):
    """In which capacity a key signs."""

    BUILDER = "builder"
    REVIEWER = "reviewer"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and the roles in which its signature counts."""

    name: str  # file name, for people
    key: PublicKey
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys, how many of each role must have signed, and the oldest release still accepted."""

    keys: tuple[TrustedKey, ...]
    threshold: Mapping[Role, int]
    minimum_release: int = 0

    def __post_init__(self) -> None:
        problems = _problems(self)
        if not self.keys:
            raise TrustError(
                "empty-trust",
                "no key is trusted, so nothing can be verified",
                hint="put the builder's .pub file into the trust folder",
            )
        if problems:
            raise TrustError("bad-trust", "the trust folder contradicts itself", problems=problems)

    @classmethod
    def load(cls, path: Path) -> Trust:
        """The trust in a folder, or in a single .pub file.

        Raises TrustError[no-trust], [empty-trust], [bad-trust], [bad-key] or [private-key].
        """
        if path.is_file():
            return cls.of_keys([(path.name, _load_key(path))])
        if not path.is_dir():
            raise TrustError(
                "no-trust",
                f"{path} is neither a trust folder nor a .pub file",
                hint="name the folder that holds the keys this site trusts",
            )
        files = sorted(entry for entry in path.iterdir() if entry.suffix == KEY_SUFFIX)
        keys = [(file.name, _load_key(file)) for file in files]
        trust_file = path / TRUST_FILE
        if trust_file.exists() and keys:
            return cls.parse(_read(trust_file, MAX_TRUST_BYTES), dict(keys))
        return cls.of_keys(keys)

    @classmethod
    def of_keys(cls, keys: Iterable[tuple[str, PublicKey]]) -> Trust:
        """Trust in plain keys: each is a builder's, and one signature is enough."""
        roles = frozenset({Role.BUILDER})
        return cls(
            tuple(TrustedKey(name, key, roles) for name, key in keys),
            {Role.BUILDER: 1, Role.REVIEWER: 0},
        )

    @classmethod
    def parse(cls, data: bytes, keys: Mapping[str, PublicKey]) -> Trust:
        """The trust a trust.toml describes over ``keys`` by file name.

        Raises TrustError[bad-trust] with every problem.
        """
        try:
            document = tomllib.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TrustError("bad-trust", f"{TRUST_FILE} is not TOML: {error}") from error
        reader = Reader()
        if document.get("format") != TRUST_FORMAT:
            reader.problems.append(
                f"format is {document.get('format')!r}, expected {TRUST_FORMAT!r}"
            )
        reader.only(document, TRUST_FILE, ("format", "minimum_release", "threshold", "key"))
        threshold = _read_threshold(reader, document)
        entries = reader.tables(document, "key", _read_key)
        for name in repeated(name for name, _ in entries):
            reader.problems.append(f"[[key]] {name} stands there twice")
        named = dict(entries)
        reader.problems += [
            f"[[key]] {name}: there is no such file in the folder"
            for name in sorted(set(named) - set(keys))
        ]
        reader.problems += [
            f"{name} is in the folder, but no [[key]] gives it a role"
            for name in sorted(set(keys) - set(named))
        ]
        minimum = 0
        if "minimum_release" in document:
            minimum = reader.count(document, "minimum_release", TRUST_FILE)
        if reader.problems:
            raise TrustError("bad-trust", f"{TRUST_FILE} cannot be used", problems=reader.problems)
        trusted = (TrustedKey(name, keys[name], named[name]) for name in sorted(named))
        return cls(tuple(trusted), threshold, minimum)

    def of_role(self, role: Role) -> tuple[TrustedKey, ...]:
        """Every key whose signature counts in this role."""
        return tuple(key for key in self.keys if role in key.roles)

    def find(self, key_id: str) -> TrustedKey | None:
        """The trusted key of this id."""
        return next((key for key in self.keys if key.key.key_id == key_id), None)

    def not_before(self, number: int) -> Trust:
        """The same trust that also refuses releases below ``number`` (what is installed)."""
        return replace(self, minimum_release=max(self.minimum_release, number))


def _problems(trust: Trust) -> list[str]:
    by_id = {key.key.key_id: key.name for key in trust.keys}
    problems = [
        f"{key.name} and {by_id[key.key.key_id]} are the same key"
        for key in trust.keys
        if by_id[key.key.key_id] != key.name
    ]
    if trust.threshold.get(Role.BUILDER, 0) < 1:
        problems.append("the threshold of builders is below 1")
    for role, count in trust.threshold.items():
        there = len(trust.of_role(role))
        if count > there:
            problems.append(f"{count} {role.value}s must sign, but only {there} keys are theirs")
    return problems


def _read_threshold(reader: Reader, document: Table) -> dict[Role, int]:
    threshold = {Role.BUILDER: 1, Role.REVIEWER: 0}
    if "threshold" not in document:
        return threshold
    table = reader.table(document, "threshold", TRUST_FILE)
    reader.only(table, "[threshold]", tuple(role.value for role in Role))
    for role in Role:
        if role.value in table:
            threshold[role] = reader.count(table, role.value, "[threshold]")
    return threshold


def _read_key(reader: Reader, table: Table, where: str) -> tuple[str, frozenset[Role]]:
    name = reader.text(table, "file", where)
    where = f"[[key]] {name}" if name else where
    reader.only(table, where, ("file", "roles"))
    roles = reader.each(table, "roles", where, Role)
    if table.get("roles") == []:
        reader.problems.append(f"{where}: roles names none")
    return name, frozenset(roles)


def _load_key(path: Path) -> PublicKey:
    return PublicKey.parse(_read(path, MAX_KEY_BYTES), path.name)


def _read(path: Path, max_bytes: int) -> bytes:
    """Trust folders may hold links of the site's own making; they are followed."""
    try:
        return read_file(path.resolve(), max_bytes)
    except PerimeterError as error:
        raise TrustError("bad-trust", error.message, context=error.context) from error
