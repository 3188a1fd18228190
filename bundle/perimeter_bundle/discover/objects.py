"""Kubernetes YAML as upstream writes it → plain objects, with bounds a bomb cannot pass."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from perimeter_bundle.model.errors import IntegrityError

MAX_OBJECTS_BYTES = 64 * 1024 * 1024

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: slower, the same values
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


def parse_objects(data: bytes, what: str) -> list[object]:
    """Every document in ``data``, empty ones left out; ``what`` names it in errors.

    Raises IntegrityError[bad-manifest-file].
    """
    if len(data) > MAX_OBJECTS_BYTES:
        raise IntegrityError(
            "bad-manifest-file", f"{what} is larger than {MAX_OBJECTS_BYTES} bytes"
        )
    try:
        documents = list(yaml.load_all(data, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")[:300]
        raise IntegrityError("bad-manifest-file", f"{what} is not YAML: {reason}") from error
    return [document for document in documents if document is not None]


def flatten_lists(documents: list[object]) -> Iterator[object]:
    """The objects themselves: a ``kind: List`` gives its items."""
    for document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        kind = document.get("kind") if isinstance(document, dict) else None
        if isinstance(items, list) and isinstance(kind, str) and kind.endswith("List"):
            yield from items
        else:
            yield document
