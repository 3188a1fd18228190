"""Everything that some rpm packages need, out of an index. Pure.

What the image holds already is not known, so nothing is left out: what is carried stands alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from perimeter_bundle.ospackages.found import SHOWN_NAMES, MissingPackage, nearest
from perimeter_bundle.ospackages.rpm_index import NOARCH, RpmPackage, bad, check_same
from perimeter_bundle.ospackages.rpm_rich import Need, Rich, read_need
from perimeter_bundle.ospackages.rpm_version import Capability

MAX_CLOSURE = 1000


@dataclass(frozen=True, slots=True)
class RpmClosure:
    """Packages to carry, sorted, and what no repository has."""

    packages: tuple[RpmPackage, ...]
    missing: tuple[MissingPackage, ...]


class Universe:
    """All packages that can be had, by what they provide.

    Raises IntegrityError[bad-rpm-index] when one name stands for different packages.
    """

    def __init__(self, packages: Iterable[RpmPackage]) -> None:
        self.packages = tuple(_best_first(check_same(packages).values()))
        self._providers: dict[str, list[tuple[Capability, RpmPackage]]] = {}
        for package in self.packages:
            own = Capability(package.name, "=", package.evr)
            files = map(Capability, package.files)
            for provided in dict.fromkeys((own, *package.provides, *files)):
                self._providers.setdefault(provided.name, []).append((provided, package))

    def asked(self, text: str) -> list[RpmPackage]:
        """What dnf or zypper takes for a name, name-version-release.arch, or ``name = version``."""
        if " " in text:
            return self.candidates(read_need(f"({text})"))
        found = [package for package in self.packages if text in _names(package)]
        return found or self.candidates(Capability(text))

    def others(self, need: Need) -> tuple[str, ...]:
        """Packages that provide the name that ``need`` asks for in another version."""
        providers = self._providers.get(need.name, ()) if isinstance(need, Capability) else ()
        return tuple(dict.fromkeys(package.full_name for _, package in providers))[:SHOWN_NAMES]

    def candidates(self, need: Need) -> list[RpmPackage]:
        """Packages each of which satisfies ``need`` alone, the best first."""
        if isinstance(need, Capability):
            found = dict.fromkeys(
                package
                for provided, package in self._providers.get(need.name, ())
                if provided.meets(need)
            )
            return sorted(found, key=lambda package: package.name != need.name)
        first, *others = [self.candidates(part) for part in need.parts]
        if need.word == "with":
            return [one for one in first if all(one in other for other in others)]
        if need.word == "without":
            return [one for one in first if not any(one in other for other in others)]
        if need.word == "or":
            return list(dict.fromkeys(one for part in (first, *others) for one in part))
        return []


def rpm_closure(
    universe: Universe,
    install: Sequence[str],
    download: Sequence[str] = (),
    if_there: Sequence[str] = (),
) -> RpmClosure:
    """``install`` with all they depend on, ``download`` and ``if_there`` alone.

    Raises IntegrityError[bad-rpm-index] when it grows past any honest closure.
    """
    closing = _Closing(universe)
    for text in install:
        closing.take(text, alone=False)
    for text in download:
        closing.take(text, alone=True)
    closing.run()
    alone = [found[0] for text in if_there if (found := universe.asked(text))]
    packages = {one.full_name: one for one in (*closing.chosen, *closing.alone, *alone)}
    return RpmClosure(
        tuple(packages[name] for name in sorted(packages)), tuple(sorted(closing.missing))
    )


@dataclass(frozen=True, slots=True)
class _Open:
    need: Need
    by: str
    optional: bool  # only in case the image has something already: carried where there is such


class _Closing:
    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.chosen: dict[RpmPackage, bool] = {}  # and whether it is needed in any case
        self.alone: list[RpmPackage] = []
        self.missing: set[MissingPackage] = set()
        self._waiting: deque[_Open] = deque()
        self._conditions: list[tuple[Rich, _Open]] = []
        self._done: set[_Open] = set()

    def take(self, text: str, *, alone: bool) -> None:
        found = self.universe.asked(text)
        if not found:
            names = (package.full_name for package in self.universe.packages)
            self.missing.add(MissingPackage(text, "", nearest(text, names)))
        elif alone:
            self.alone.append(found[0])
        else:
            self._choose(found[0], optional=False)

    def run(self) -> None:
        while self._waiting or self._apply_conditions():
            self._satisfy(self._waiting.popleft())

    def _satisfy(self, one: _Open) -> None:
        if one in self._done:
            return
        self._done.add(one)
        need = one.need
        if isinstance(need, Rich) and need.word == "and":
            self._waiting += [_Open(part, one.by, one.optional) for part in need.parts]
        elif isinstance(need, Rich) and need.word in ("if", "unless"):
            self._conditions.append((need, one))
        elif isinstance(need, Rich) and need.word == "or" and not self.universe.candidates(need):
            self._first_possible(need, one)
        else:
            self._one_of(self.universe.candidates(need), one)

    def _one_of(self, candidates: Sequence[RpmPackage], one: _Open) -> None:
        there = [package for package in candidates if package in self.chosen]
        if there or candidates:
            self._choose((there or candidates)[0], one.optional)
        elif not one.optional:
            others = self.universe.others(one.need)
            self.missing.add(MissingPackage(str(one.need), one.by, others))

    def _first_possible(self, need: Rich, one: _Open) -> None:
        for part in need.parts:
            if self._possible(part):
                self._waiting.append(_Open(part, one.by, one.optional))
                return
        if not one.optional:
            self.missing.add(MissingPackage(str(need), one.by))

    def _possible(self, need: Need) -> bool:
        if isinstance(need, Rich) and need.word == "and":
            return all(map(self._possible, need.parts))
        if isinstance(need, Rich) and need.word in ("if", "unless"):
            return True
        if isinstance(need, Rich) and need.word == "or":
            return any(map(self._possible, need.parts))
        return bool(self.universe.candidates(need))

    def _choose(self, package: RpmPackage, optional: bool) -> None:
        if self.chosen.get(package) or (package in self.chosen and optional):
            return
        self.chosen[package] = not optional
        if len(self.chosen) > MAX_CLOSURE:
            raise bad("the repository", f"more than {MAX_CLOSURE} packages are needed")
        self._waiting += [_Open(need, package.full_name, optional) for need in package.requires]

    def _apply_conditions(self) -> bool:
        """Conditions as things stand now; whether there is something to do."""
        for need, one in self._conditions:
            wanted, condition, *otherwise = need.parts
            holds = self._holds(condition)
            if need.word == "unless":
                # with or without the condition, one of both must be there
                self._waiting.append(_Open(wanted, one.by, one.optional or holds))
                self._waiting += [_Open(each, one.by, True) for each in otherwise]
            else:
                # the image may have what the condition asks for
                self._waiting.append(_Open(wanted, one.by, one.optional or not holds))
                self._waiting += [_Open(each, one.by, one.optional) for each in otherwise]
        self._waiting = deque(each for each in self._waiting if each not in self._done)
        return bool(self._waiting)

    def _holds(self, condition: Need) -> bool:
        if isinstance(condition, Rich) and condition.word == "and":
            return all(map(self._holds, condition.parts))
        if isinstance(condition, Rich) and condition.word == "or":
            return any(map(self._holds, condition.parts))
        return any(package in self.chosen for package in self.universe.candidates(condition))


def _names(package: RpmPackage) -> tuple[str, ...]:
    evr = package.evr
    return (
        package.name,
        f"{package.name}.{package.architecture}",
        f"{package.name}-{evr.version}",
        f"{package.name}-{evr.version}-{evr.release}",
        package.full_name,
    )


def _best_first(packages: Iterable[RpmPackage]) -> list[RpmPackage]:
    """By name; of one name the newest first, and rather for one processor than for all."""
    ordered = sorted(packages, key=lambda one: (one.name, one.architecture == NOARCH))
    ordered.sort(key=cmp_to_key(lambda one, other: other.evr.compare(one.evr)))
    ordered.sort(key=lambda one: one.name)
    return ordered
