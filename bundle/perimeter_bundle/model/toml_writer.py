"""Deterministic TOML for files that machines write and people read: the lock.

Only what the lock needs: strings, integers, booleans, lists of strings, arrays of tables.
https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

TomlScalar = str | int | bool
TomlValue = TomlScalar | Sequence[str]


def toml_string(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, DEL excepted."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def toml_value(value: TomlValue) -> str:
    """One value on one line, a list one item a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return toml_string(value)
    if not value:
        return "[]"
    return "[\n" + "".join(f"  {toml_string(item)},\n" for item in value) + "]"


def toml_table(header: str, pairs: Mapping[str, TomlValue]) -> str:
    """A table with its header line (empty for the top); keys keep the order given."""
    lines = [header] if header else []
    lines += [f"{key} = {toml_value(value)}" for key, value in pairs.items()]
    return "\n".join(lines) + "\n"
