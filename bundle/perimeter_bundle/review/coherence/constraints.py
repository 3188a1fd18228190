"""Version ranges as charts write them in ``kubeVersion``.

https://helm.sh/docs/topics/charts/#the-kubeversion-field and
https://github.com/Masterminds/semver#checking-version-constraints
"""

from __future__ import annotations

import re

from perimeter_bundle.model.errors import InputError

Triple = tuple[int, int, int]

_VERSION = (
    r"v?(?P<major>\d{1,9}|[xX*])(?:\.(?P<minor>\d{1,9}|[xX*]))?(?:\.(?P<patch>\d{1,9}|[xX*]))?"
    r"(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
)
_PLAIN = re.compile(_VERSION)
_TERM = re.compile(rf"(?P<operator>=|!=|>=|=>|<=|=<|>|<|~>|~|\^)?\s*{_VERSION}")
_HYPHEN = re.compile(r"(?P<low>\S+)\s+-\s+(?P<high>\S+)")
_LAST = 10**9
MAX_LENGTH = 500


def version_triple(text: str) -> Triple:
    """``v1.34.4`` as numbers, what is left out as 0; raises InputError[bad-version]."""
    match = _PLAIN.fullmatch(text.strip())
    if match is None or not match["major"].isdigit():
        raise InputError("bad-version", f"not a version: {text[:100]!r}")
    return _bounds(match)[0]


def allows(constraint: str, version: Triple) -> bool:
    """Whether ``version`` is in the range; raises InputError[bad-version-range].

    Suffixes such as ``-0`` only tell Helm to let vendors' versions pass and count for nothing.
    """
    if len(constraint) > MAX_LENGTH:
        raise InputError("bad-version-range", f"a range of {len(constraint)} characters")
    return any(_allows_all(part, version) for part in constraint.split("||"))


def _allows_all(part: str, version: Triple) -> bool:
    hyphen = _HYPHEN.fullmatch(part.strip())
    if hyphen is not None:
        part = f">={hyphen['low']} <={hyphen['high']}"
    text, allowed, place = part.replace(",", " ").strip(), True, 0
    if not text:
        raise InputError("bad-version-range", f"not a range of versions: {part[:100]!r}")
    while place < len(text):
        match = _TERM.match(text, place)
        if match is None or (match.end() < len(text) and not text[match.end()].isspace()):
            raise InputError("bad-version-range", f"not a range of versions: {part[:100]!r}")
        allowed = _allows(match, version) and allowed
        place = match.end()
        while place < len(text) and text[place].isspace():
            place += 1
    return allowed


def _allows(term: re.Match[str], version: Triple) -> bool:
    low, high = _bounds(term)
    inside = low <= version <= high
    match term["operator"]:
        case "!=":
            return not inside
        case ">":
            return version > high
        case ">=" | "=>":
            return version >= low
        case "<":
            return version < low
        case "<=" | "=<":
            return version <= high
        case "~" | "~>":
            keep = 2 if _is_number(term["minor"]) else 1 if _is_number(term["major"]) else 0
            return low <= version and version[:keep] == low[:keep]
        case "^":
            return low <= version and _same_until_first_not_zero(term, low, version)
    return inside


def _same_until_first_not_zero(term: re.Match[str], low: Triple, version: Triple) -> bool:
    """``^1.2`` allows 1.x, ``^0.2`` allows 0.2.x, ``^0.0.3`` only itself."""
    keep = 1
    for name in ("minor", "patch"):
        if low[keep - 1] != 0 or not _is_number(term[name]):
            break
        keep += 1
    return not _is_number(term["major"]) or version[:keep] == low[:keep]


def _bounds(match: re.Match[str]) -> tuple[Triple, Triple]:
    """The first and the last version that a version with open ends stands for."""
    low, high = [], []
    is_open = False
    for name in ("major", "minor", "patch"):
        is_open = is_open or not _is_number(match[name])
        low.append(0 if is_open else int(match[name]))
        high.append(_LAST if is_open else int(match[name]))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdigit()
