"""Takes typed values out of a parsed document (TOML or JSON) and collects every problem.

Parsers of files hand a document to a Reader, build their value from what it returns, and raise
once at the end when ``problems`` is not empty; what a bad field returned instead is never used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError

Table = Mapping[str, object]
Value = TypeVar("Value")
MAX_COUNT = 2**53  # what every JSON reader holds exactly


class Reader:
    """Typed access to one document; ``where`` names the place in every problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def only(self, table: Table, where: str, keys: tuple[str, ...]) -> None:
        """Notes every key of ``table`` that is not among ``keys``."""
        self.problems += [f"{where}: unknown key {key!r}" for key in sorted(set(table) - set(keys))]

    def text(self, table: Table, key: str, where: str, *, empty: bool = False) -> str:
        """The string at ``key``; it must be there, and not be empty unless ``empty``."""
        value = table.get(key)
        if not isinstance(value, str) or not (value or empty):
            self.problems.append(
                f"{where}: {key} must be a string" + ("" if empty else " with text")
            )
            return ""
        return value

    def count(self, table: Table, key: str, where: str) -> int:
        """The integer at ``key``, from 0 to 2⁵³-1."""
        value = table.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_COUNT:
            self.problems.append(f"{where}: {key} must be a number from 0 up")
            return 0
        return value

    def value(
        self, table: Table, key: str, where: str, parse: Callable[[str], Value], instead: Value
    ) -> Value:
        """The string at ``key`` through ``parse``; ``instead`` when that failed."""
        text = self.text(table, key, where)
        if not text:
            return instead
        try:
            return parse(text)
        except (PerimeterError, ValueError) as error:
            self.problems.append(f"{where}: {key}: {getattr(error, 'message', error)}")
            return instead

    def digest(self, table: Table, where: str, key: str = "digest") -> Digest | None:
        """The digest at ``key``; None for an empty string, which stands for unresolved."""
        if table.get(key) == "":
            return None
        return self.value(table, key, where, Digest.parse, None)

    def each(
        self, table: Table, key: str, where: str, parse: Callable[[str], Value]
    ) -> list[Value]:
        """Every string of the list at ``key`` through ``parse``; the list must be there."""
        items = table.get(key)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.problems.append(f"{where}: {key} must be a list of strings")
            return []
        values = []
        for item in items:
            try:
                values.append(parse(item))
            except (PerimeterError, ValueError) as error:
                self.problems.append(f"{where}: {key}: {getattr(error, 'message', error)}")
        return values

    def table(self, document: Table, key: str, where: str) -> Table:
        """The table at ``key``; it must be there."""
        value = document.get(key)
        if not isinstance(value, dict):
            self.problems.append(f"{where}: {key} must be a table")
            return {}
        return value

    def tables(
        self,
        document: Table,
        key: str,
        read: Callable[[Reader, Table, str], Value],
    ) -> list[Value]:
        """Every table of the array at ``key`` through ``read``; no array is an empty one."""
        tables = document.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problems.append(f"[[{key}]] must be an array of tables")
            return []
        values = []
        for number, table in enumerate(tables, 1):
            name = table.get("reference") or table.get("name") or f"number {number}"
            values.append(read(self, table, f"[[{key}]] {name}"))
        return values


def repeated(names: Iterable[str]) -> list[str]:
    """Every name that stands there more than once, sorted."""
    return sorted(name for name, times in Counter(names).items() if times > 1)
