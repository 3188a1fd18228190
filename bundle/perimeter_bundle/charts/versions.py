"""Versions and ranges as Helm reads them.

Helm uses Masterminds/semver 3.4: https://github.com/Masterminds/semver#checking-version-constraints
Its peculiarities are kept, so that the same version is chosen: `1.2` is a range, a prerelease is in
a range only when the range names one, `~0.0.0` allows everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from perimeter_bundle.model.errors import InputError

MAX_LENGTH = 300
_PART = r"[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*"
_SUFFIXES = rf"(?:-(?P<pre>{_PART}))?(?:\+(?:{_PART}))?"
_VERSION = re.compile(rf"v?([0-9]{{1,18}})(?:\.([0-9]{{1,18}}))?(?:\.([0-9]{{1,18}}))?{_SUFFIXES}")
_X = r"[0-9]{1,18}|[xX*]"
_TERM = re.compile(
    r"(?P<operator>!=|>=|=>|<=|=<|~>|=|>|<|~|\^|) ?"
    rf"v?(?P<major>{_X})(?:\.(?P<minor>{_X}))?(?:\.(?P<patch>{_X}))?{_SUFFIXES}"
)
_BARE = rf"v?(?:{_X})(?:\.(?:{_X}))?(?:\.(?:{_X}))?(?:-{_PART})?(?:\+{_PART})?"
_HYPHEN = re.compile(rf"({_BARE}) - ({_BARE})")
_NO_HYPHEN = re.compile(rf"\|(?!v){_BARE} - {_BARE}")

Triple = tuple[int, int, int]
Order = tuple[Triple, int, tuple[tuple[int, int, str], ...]]


@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version; ``text`` is how it was written."""

    triple: Triple
    pre: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Version:
        """A leading v and missing parts are allowed; raises InputError[bad-version]."""
        match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise InputError("bad-version", f"not a version: {text[:100]!r}")
        triple = int(match[1]), int(match[2] or 0), int(match[3] or 0)
        return cls(triple, match["pre"] or "", text)

    @property
    def order(self) -> Order:
        """What versions are compared by: https://semver.org/#spec-item-11."""
        parts = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre.split(".")
        )
        return self.triple, 0 if self.pre else 1, parts if self.pre else ()


@dataclass(frozen=True, slots=True)
class _Term:
    """One comparison; ``given`` says how many of major, minor, patch are numbers."""

    operator: str
    version: Version
    given: int

    def allows(self, found: Version) -> bool:
        order, limit = found.order, self.version.order
        (major, minor, _), (own_major, own_minor, _) = found.triple, self.version.triple
        match self.operator:
            case "!=":
                return self._differs(found)
            case ">":
                if self.given == 1:
                    return major > own_major
                if self.given == 2:
                    return (major, minor) > (own_major, own_minor)
                return order > limit
            case ">=" | "=>":
                return order >= limit
            case "<":
                return order < limit
            case "<=" | "=<":
                if self.given == 3:
                    return order <= limit
                if self.given == 1:
                    return major <= own_major
                return (major, minor) <= (own_major, own_minor)
            case "^":
                return order >= limit and self._is_compatible(found)
            case "" | "=" if self.given == 3:
                return order == limit
        return order >= limit and self._is_near(found)

    def _differs(self, found: Version) -> bool:
        if self.given == 1:
            return found.triple[0] != self.version.triple[0]
        if self.given == 2:
            return found.triple[:2] != self.version.triple[:2] or found.pre != self.version.pre
        return found.order != self.version.order

    def _is_near(self, found: Version) -> bool:
        """What ``~`` asks for."""
        if self.given in (0, 3) and self.version.triple == (0, 0, 0):
            return True
        same = 1 if self.given == 1 else 2
        return found.triple[:same] == self.version.triple[:same]

    def _is_compatible(self, found: Version) -> bool:
        """What ``^`` asks for."""
        major, minor, _ = self.version.triple
        if major > 0 or self.given == 1:
            same = 1
        elif minor > 0 or self.given == 2:
            same = 2
        else:
            same = 3
        return found.triple[:same] == self.version.triple[:same]


@dataclass(frozen=True, slots=True)
class Range:
    """Which versions are wanted: alternatives, each of terms that must all hold."""

    text: str
    alternatives: tuple[tuple[_Term, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """The range; raises InputError[bad-version-range]."""
        if len(text) > MAX_LENGTH:
            raise InputError("bad-version-range", f"a range of {len(text)} characters")
        plain = re.sub(r" ?, ?", ",", " ".join(text.split()))
        if _NO_HYPHEN.search(plain):  # Helm does not read it either
            raise InputError("bad-version-range", f"not a range of versions: {text[:100]!r}")
        plain = _HYPHEN.sub(r">= \1,<= \2", plain)
        return cls(text, tuple(_terms(part, text) for part in plain.split("||")))

    def allows(self, version: Version) -> bool:
        """Whether ``version`` is wanted."""
        for terms in self.alternatives:
            names_one = any(term.version.pre for term in terms)
            if version.pre and not names_one:
                continue
            if all(term.allows(version) for term in terms):
                return True
        return False

    def newest(self, texts: Iterable[str]) -> str:
        """The newest of the versions that is wanted, as it was written; empty: there is none."""
        found = []
        for text in texts:
            try:
                version = Version.parse(text)
            except InputError:
                continue  # Helm passes over what is no version
            if self.allows(version):
                found.append(version)
        return max(found, key=lambda version: version.order).text if found else ""


def _terms(part: str, text: str) -> tuple[_Term, ...]:
    terms: list[_Term] = []
    place, part = 0, part.strip(" ")
    while place < len(part) or not terms:
        match = _TERM.match(part, place)
        if match is None or (match.end() < len(part) and part[match.end()] not in " ,"):
            raise InputError("bad-version-range", f"not a range of versions: {text[:100]!r}")
        terms.append(_term(match))
        place = match.end() + 1
    if part.endswith(","):
        raise InputError("bad-version-range", f"not a range of versions: {text[:100]!r}")
    return tuple(terms)


def _term(match: re.Match[str]) -> _Term:
    given: list[int] = []
    for name in ("major", "minor", "patch"):
        if not (match[name] or "").isdigit():
            break
        given.append(int(match[name]))
    major, minor, patch = (*given, 0, 0, 0)[:3]
    return _Term(
        match["operator"], Version((major, minor, patch), match["pre"] or "", ""), len(given)
    )


def same_version(one: str, other: str) -> bool:
    """Whether two texts name the same version: `1.2` and `v1.2.0` do."""
    try:
        return Version.parse(one).order == Version.parse(other).order
    except InputError:
        return False
