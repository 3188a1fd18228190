"""kustomization.yaml → every place where it refers to a file or folder, and rewriting those. Pure.

Read strictly: one document, no key twice, bounded. What would start a program or fetch a chart
(functions, plugins that are not built in, helmCharts) is refused by name.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from perimeter_bundle.model.errors import IntegrityError

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
MAX_KUSTOMIZATION_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 100_000


class Expects(Enum):
    """What may stand at the end of a reference."""

    FILE_OR_FOLDER = "a file or a folder"  # resources, bases, components
    FILE = "a file"
    PLUGIN = "a plugin's configuration"  # file or folder whose objects are read by kustomize
    FILE_OR_TEXT = "a file or a patch"  # patchesStrategicMerge: either stands in the same list


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference; ``start`` and ``end`` are where its text stands in the file."""

    field: str
    text: str  # the path or address alone
    expects: Expects
    start: int
    end: int
    key: str = ""  # of a generated ConfigMap: what stands before "="
    keyed: bool = False  # the file's own name becomes a key, so it must not change


_LISTS = {
    "resources": Expects.FILE_OR_FOLDER,
    "bases": Expects.FILE_OR_FOLDER,
    "components": Expects.FILE_OR_FOLDER,
    "crds": Expects.FILE,
    "configurations": Expects.FILE,
    "generators": Expects.PLUGIN,
    "transformers": Expects.PLUGIN,
    "validators": Expects.PLUGIN,
    "patchesStrategicMerge": Expects.FILE_OR_TEXT,
}
_PATHS_INSIDE = ("patches", "patchesJson6902", "replacements")
_GENERATORS = ("configMapGenerator", "secretGenerator")
_REFUSED = ("helmCharts", "helmChartInflationGenerator")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")  # an anchor or tag before a value stays
_FUNCTION = "config.kubernetes.io/function"
_PLUGIN_PATHS = frozenset({"path", "paths", "file", "files", "env", "envs"})


def read_references(data: bytes, what: str) -> tuple[Reference, ...]:
    """Every reference of a kustomization; raises IntegrityError[bad-kustomization]."""
    root = _compose(data, what)
    if not isinstance(root, MappingNode):
        raise _bad(what, "it is not a mapping of keys to values")
    fields = {key.value: value for key, value in root.value if isinstance(key, ScalarNode)}
    for name in _REFUSED:
        if name in fields and fields[name].value:
            raise _bad(
                what,
                f"{name} makes kustomize run Helm, which would fetch the chart",
                hint="list the chart under charts: in the component.yaml",
            )
    found: list[Reference] = []
    for name, expects in _LISTS.items():
        found += _of_list(fields.get(name), name, expects)
    for name in _PATHS_INSIDE:
        for index, item in enumerate(_items(fields.get(name))):
            found += _scalar(_get(item, "path"), f"{name}[{index}].path", Expects.FILE)
    for name in _GENERATORS:
        for index, item in enumerate(_items(fields.get(name))):
            found += _of_generator(item, f"{name}[{index}]")
    found += _scalar(_get(fields.get("openapi"), "path"), "openapi.path", Expects.FILE)
    return tuple(found)


def check_plugin(data: bytes, what: str) -> tuple[str, ...]:
    """Paths that a plugin's configuration names; what is not built into kustomize is refused.

    Raises IntegrityError[bad-kustomization].
    """
    try:
        roots = list(_reader().compose_all(io.StringIO(data.decode("utf-8"))))
    except (UnicodeDecodeError, YAMLError, RecursionError) as error:
        raise _bad(what, f"not YAML: {_one_line(error)}") from error
    paths: list[str] = []
    for root in roots:
        if root is None:
            continue
        _check_shape(root, what)
        annotations = _get(_get(root, "metadata"), "annotations")
        if _get(annotations, _FUNCTION) is not None:
            raise _bad(what, "it is a function: it would run a program or a container")
        version, kind = _get(root, "apiVersion"), _get(root, "kind")
        if not isinstance(version, ScalarNode) or version.value != "builtin":
            raise _bad(what, "it is a plugin that is not built into kustomize: it runs a program")
        if isinstance(kind, ScalarNode) and kind.value == "HelmChartInflationGenerator":
            raise _bad(what, "it makes kustomize run Helm, which would fetch the chart")
        paths += _plugin_paths(root)
    return tuple(paths)


def rewrite(data: bytes, changes: Mapping[Reference, str], what: str) -> bytes:
    """The kustomization with the texts of some references replaced, all else as it was.

    Raises IntegrityError[bad-kustomization] where that cannot be done safely.
    """
    text = data.decode("utf-8")
    spans: dict[tuple[int, int], str] = {}
    for reference, path in changes.items():
        key = f"{reference.key}=" if reference.key else ""
        spans[reference.start, reference.end] = json.dumps(f"{key}{path}", ensure_ascii=False)
    for (start, end), new in sorted(spans.items(), reverse=True):
        anchor = _PROPERTIES.match(text, start, end)
        text = text[: anchor.end() if anchor else start] + new + text[end:]
    result = text.encode()
    wanted = [
        _plain(replace(one, text=changes.get(one, one.text))) for one in read_references(data, what)
    ]
    if [_plain(one) for one in read_references(result, what)] != wanted:
        raise _bad(what, "a remote reference is written in a way that cannot be replaced")
    return result


def _plain(one: Reference) -> tuple[str, str]:
    return one.field, f"{one.key}={one.text}" if one.key else one.text


def _compose(data: bytes, what: str) -> Node | None:
    if len(data) > MAX_KUSTOMIZATION_BYTES:
        raise _bad(what, f"{len(data)} bytes are more than the {MAX_KUSTOMIZATION_BYTES} allowed")
    try:
        root: Node | None = _reader().compose(io.StringIO(data.decode("utf-8")))
    except (UnicodeDecodeError, YAMLError, RecursionError) as error:
        raise _bad(what, f"not YAML: {_one_line(error)}") from error
    if root is not None:
        _check_shape(root, what)
    return root


def _reader() -> YAML:
    # YAML 1.2, as Go reads it: "?" may stand in an address inside [ ]
    return YAML(typ="safe", pure=True)


def _check_shape(root: Node, what: str) -> None:
    """No key twice, not too deep; aliases are looked at once each."""
    seen: set[int] = set()
    waiting: list[tuple[Node, int]] = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if depth > MAX_DEPTH or len(seen) > MAX_NODES:
            raise _bad(what, "it is nested deeper or larger than any honest one")
        if isinstance(node, MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                name = str(key.value) if isinstance(key, ScalarNode) else ""
                if name and name in keys and name != "<<":
                    line = key.start_mark.line + 1
                    raise _bad(what, f"key {name[:100]!r} stands twice, again in line {line}")
                keys.add(name)
                waiting.append((value, depth + 1))
        elif isinstance(node, SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]


def _of_list(node: Node | None, name: str, expects: Expects) -> Iterator[Reference]:
    for index, item in enumerate(_items(node)):
        yield from _scalar(item, f"{name}[{index}]", expects)


def _of_generator(item: Node, name: str) -> Iterator[Reference]:
    for key in ("files", "envs"):
        for index, entry in enumerate(_items(_get(item, key))):
            for one in _scalar(entry, f"{name}.{key}[{index}]", Expects.FILE):
                before, equals, after = one.text.partition("=")
                # a query holds "=" too; a key never holds "/"
                if key == "files" and equals and "/" not in before and ":" not in before:
                    yield replace(one, text=after, key=before)
                else:
                    yield replace(one, keyed=key == "files")
    yield from _scalar(_get(item, "env"), f"{name}.env", Expects.FILE)


def _scalar(node: Node | None, name: str, expects: Expects) -> Iterator[Reference]:
    if isinstance(node, ScalarNode) and node.value:
        start, end = node.start_mark.index, node.end_mark.index
        yield Reference(name, str(node.value), expects, start, end)


def _items(node: Node | None) -> Iterable[Node]:
    return node.value if isinstance(node, SequenceNode) else ()


def _get(node: Node | None, wanted: str) -> Node | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == wanted:
                found: Node = value
                return found
    return None


def _plugin_paths(root: Node) -> Iterator[str]:
    waiting: list[Node] = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            waiting += node.value
        if not isinstance(node, MappingNode):
            continue
        for key, value in node.value:
            waiting.append(value)
            if isinstance(key, ScalarNode) and key.value in _PLUGIN_PATHS:
                scalars = [value, *_items(value)]
                yield from (str(one.value) for one in scalars if isinstance(one, ScalarNode))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _bad(what: str, reason: str, hint: str | None = None) -> IntegrityError:
    return IntegrityError("bad-kustomization", f"{what}: {reason}", hint=hint)
