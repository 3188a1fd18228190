"""JSON read strictly and written deterministically; every JSON file of a bundle passes here.

Two readers must never see two different documents in the same bytes, so duplicate keys, NaN,
infinities, lone surrogates and anything after the document are refused, and so are sizes and
depths no honest file has. https://www.rfc-editor.org/rfc/rfc8259#section-4
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NoReturn

from perimeter_bundle.model.errors import IntegrityError

MAX_DEPTH = 32
MIB = 1024 * 1024

JsonValue = object  # what json.loads gives: dict, list, str, int, float, bool, None


def parse_object(data: bytes, what: str, *, max_bytes: int) -> dict[str, object]:
    """The JSON object in ``data``; ``what`` names it in errors.

    Raises IntegrityError[bad-json].
    """
    if len(data) > max_bytes:
        raise IntegrityError(
            "bad-json",
            f"{what} is larger than any honest one",
            context={"bytes": len(data), "allowed": max_bytes},
        )
    try:
        document: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        _check_tree(document)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise IntegrityError("bad-json", f"{what} is not strict JSON: {reason}") from error
    if not isinstance(document, dict):
        raise IntegrityError("bad-json", f"{what} is not a JSON object")
    return document


def dump_object(document: Mapping[str, object]) -> bytes:
    """``document`` as JSON for people and programs: sorted keys, two spaces, a final newline."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"key {key[:100]!r} stands there twice")
        table[key] = value
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:30]} is out of range")
    return number


def _check_tree(document: object) -> None:
    """Refuses depth and text that cannot be written back, without recursion."""
    level: list[object] = [document]
    for _ in range(MAX_DEPTH + 1):
        children: list[object] = []
        for node in level:
            if isinstance(node, str):
                node.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
            elif isinstance(node, dict):
                children += node
                children += node.values()
            elif isinstance(node, list):
                children += node
        if not children:
            return
        level = children
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
