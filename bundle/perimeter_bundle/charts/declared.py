"""What a chart says it needs: Chart.yaml, Chart.lock, and their older forms.

https://helm.sh/docs/topics/charts/#chart-dependencies
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from perimeter_bundle.charts.versions import Range
from perimeter_bundle.discover.stream import TreeError, parse_trees
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import InputError, IntegrityError

MAX_YAML_BYTES = MIB
MAX_YAML_NODES = 50_000
_ALIAS = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?")
_FILES = (("Chart.yaml", "Chart.lock"), ("requirements.yaml", "requirements.lock"))

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of ``dependencies``; ``locked`` is the version in Chart.lock, if there is one."""

    name: str
    asked: str  # the range, as written
    repository: str  # https://…, oci://…, file://…, @name; empty: it lies in charts/
    alias: str
    locked: str

    @property
    def text(self) -> str:
        """As messages name it."""
        return f"dependency {self.name} {self.locked or self.asked}"

    @property
    def range(self) -> Range:
        """Which versions are wanted; it was checked to be one."""
        return Range.parse(self.asked)


@dataclass(frozen=True, slots=True)
class Declared:
    """Who a chart says to be, and what it needs."""

    name: str
    version: str
    requirements: tuple[Requirement, ...]


def read_declared(files: FileTree, what: str, *, believe_lock: bool = True) -> Declared:
    """What a chart's files say; ``what`` names the chart in messages.

    Raises IntegrityError[bad-chart] with every problem, [chart-lock-stale] when Chart.lock was
    written for other dependencies. Without ``believe_lock`` Chart.lock is not read.
    """
    about = _document(files, "Chart.yaml", what)
    entries, lock_name = _entries(files, about, what)
    problems: list[str] = []
    found = [one for entry in entries for one in _requirement(entry, problems)]
    keys = [one.alias or one.name for one in found]
    problems += [
        f"two dependencies are called {key}: give one of them an alias of its own"
        for key in sorted({key for key in keys if keys.count(key) > 1})
    ]
    name, version = _text(about.get("name")), _text(about.get("version"))
    if not _NAME.fullmatch(name) or len(name) > 250:
        problems.append(f"its name is {name[:100]!r}")
    if problems:
        raise IntegrityError(
            "bad-chart",
            f"{what} says what it needs in a way that Helm does not read",
            problems=problems[:20],
            hint="tell whoever publishes the chart, or use another version of it",
        )
    if believe_lock and found and lock_name in files:
        found = _with_lock(found, entries, about, _document(files, lock_name, what), what)
    return Declared(name, version, tuple(found))


def read_about(files: FileTree, what: str) -> Table:
    """Chart.yaml as a table; raises IntegrityError[bad-chart]."""
    return _document(files, "Chart.yaml", what)


def _entries(files: FileTree, about: Table, what: str) -> tuple[list[Table], str]:
    for name, lock_name in _FILES:
        document = about if name == "Chart.yaml" else _document(files, name, what)
        entries = document.get("dependencies")
        if entries is None:
            continue
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise IntegrityError("bad-chart", f"{what}: {name}: dependencies is no list of them")
        if entries:
            # helm reads both names of the lock, whatever the chart's age
            other = _FILES[1][1] if lock_name == _FILES[0][1] else _FILES[0][1]
            return entries, lock_name if lock_name in files else other
    return [], ""


def _requirement(entry: Table, problems: list[str]) -> Iterator[Requirement]:
    name, asked = _text(entry.get("name")), _text(entry.get("version"))
    repository, alias = _text(entry.get("repository")), _text(entry.get("alias"))
    before = len(problems)
    if not _NAME.fullmatch(name) or len(name) > 250:
        problems.append(f"a dependency is called {name[:100]!r}")
    if alias and not _ALIAS.fullmatch(alias):
        problems.append(f"dependency {name[:100]}: alias {alias[:100]!r} is no name")
    try:
        Range.parse(asked)
    except InputError as error:
        problems.append(f"dependency {name[:100]}: version: {error.message}")
    if not repository.isprintable() or len(repository) > 500:
        problems.append(f"dependency {name[:100]}: repository {repository[:100]!r} is no address")
    if len(problems) == before:
        yield Requirement(name, asked, repository, alias, "")


def _with_lock(
    found: list[Requirement], entries: list[Table], about: Table, lock: Table, what: str
) -> list[Requirement]:
    locked = lock.get("dependencies")
    rows = [one for one in locked if isinstance(one, dict)] if isinstance(locked, list) else []
    digest = _text(lock.get("digest"))
    asked = [_as_helm(one) for one in entries]
    sums = {_sum([asked, [_as_helm(one) for one in rows]])}
    if _text(about.get("apiVersion")) in ("", "v1"):
        sums.add(_sum({"dependencies": asked}))  # https://github.com/helm/helm/issues/7233
    names = [_text(one.get("name")) for one in rows]
    if digest not in sums or names != [one.name for one in found]:
        raise IntegrityError(
            "chart-lock-stale",
            f"{what}: Chart.lock was not written for the dependencies that Chart.yaml names",
            context={"Chart.lock says": digest[:100] or "nothing", "expected": sorted(sums)[0]},
            hint="upstream must run `helm dependency update`; use a version where it did, or an "
            "archive that `helm package` made with its dependencies",
        )
    return [
        Requirement(one.name, one.asked, one.repository, one.alias, _text(row.get("version")))
        for one, row in zip(found, rows, strict=True)
    ]


def _as_helm(entry: Table) -> dict[str, object]:
    """The fields in the order in which Helm's own structure has them, empty ones left out."""
    table: dict[str, object] = {"name": _text(entry.get("name"))}
    if _text(entry.get("version")):
        table["version"] = _text(entry.get("version"))
    table["repository"] = _text(entry.get("repository"))
    for key in ("condition", "tags", "enabled", "import-values", "alias"):
        value = entry.get(key)
        if value:  # tables of free form are sorted, as Go does
            table[key] = json.loads(json.dumps(value, sort_keys=True, default=str))
    return table


def _sum(value: object) -> str:
    """As Go writes JSON: https://pkg.go.dev/encoding/json#Marshal escapes <, > and &."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _document(files: FileTree, name: str, what: str) -> Table:
    """A YAML file of a chart as a table; one that is not there is empty."""
    data = files.get(name)
    if data is None:
        return {}
    reason = f"{len(data)} bytes are more than the {MAX_YAML_BYTES} allowed"
    document: object = None
    if len(data) <= MAX_YAML_BYTES:
        reason = "it is no table of keys and values"
        try:
            text = data.decode("utf-8-sig")
            # bombs and keys that stand twice are seen here
            trees = list(parse_trees(text, limit=MAX_YAML_NODES))
            document = yaml.safe_load(text) if trees else {}
        except (TreeError, yaml.YAMLError, ValueError, RecursionError) as error:
            reason = str(error).replace("\n", " ")[:300]
    if not isinstance(document, dict):
        raise IntegrityError("bad-chart", f"{what}: {name} cannot be read: {reason}")
    return {str(key): value for key, value in document.items()}


def _text(value: object) -> str:
    """A scalar as Helm takes it where text is expected."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or isinstance(value, list | dict) else str(value)
