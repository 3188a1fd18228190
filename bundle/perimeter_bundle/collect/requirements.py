"""Hashed requirement files (as uv and pip-tools write them), read strictly. Pure.

pip looks at environment markers with the eyes of the Python it runs in, whatever --python-version
says; so they are judged here for each Python a jump host may have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)"
    r"(?:\s*;\s*(?P<marker>.*?))?(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_VERSIONED = frozenset({"python_version", "python_full_version"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One pinned package with the digests of every file it may come as."""

    name: str  # normalised as PEP 503 says
    version: str
    marker: str
    hashes: frozenset[Digest]

    def applies(self, python: str, machine: str) -> bool:
        """Whether it is installed on CPython ``python`` (such as 3.11) on Linux ``machine``."""
        return not self.marker or evaluate_marker(self.marker, marker_environment(python, machine))

    def to_line(self) -> str:
        """The requirement without its marker, for pip."""
        hashes = " ".join(f"--hash={digest}" for digest in sorted(self.hashes))
        return f"{self.name}=={self.version} {hashes}"


def parse_requirements(data: bytes, name: str) -> tuple[Requirement, ...]:
    """Every requirement of a hashed file; ``name`` names it in errors.

    Raises InputError[bad-requirements]: every line must pin one version and its hashes, and name
    no index and no other source.
    """
    requirements, problems = [], []
    text = re.sub(r"\\\r?\n", " ", data.decode("utf-8", "replace"))
    for number, line in enumerate(text.splitlines(), 1):
        stripped = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not stripped:
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            problems.append(f"entry {number}: not a pinned and hashed requirement: {stripped[:80]}")
            continue
        hashes = re.findall(r"sha256:[0-9a-f]{64}", match["hashes"])
        requirement = Requirement(
            normalise(match["name"]),
            match["version"],
            match["marker"] or "",
            frozenset(Digest.parse(text) for text in hashes),
        )
        try:
            requirement.applies("3.11", "x86_64")
        except ValueError as error:
            problems.append(f"entry {number}: {requirement.name}: {error}")
        requirements.append(requirement)
    if problems:
        raise InputError(
            "bad-requirements", f"{name} is not a hashed requirements file", problems=problems
        )
    return tuple(requirements)


def normalise(name: str) -> str:
    """A package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def evaluate_marker(marker: str, environment: Mapping[str, str]) -> bool:
    """Whether an environment marker holds; raises ValueError for one that is not understood.

    https://packaging.python.org/en/latest/specifications/dependency-specifiers/
    Markers are Python expressions of comparisons joined by and/or.
    """
    try:
        tree = ast.parse(marker.strip(), mode="eval").body
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"marker {marker!r} is not understood") from error
    return _holds(tree, environment, marker)


def _holds(node: ast.expr, environment: Mapping[str, str], marker: str) -> bool:
    if isinstance(node, ast.BoolOp):
        results = [_holds(value, environment, marker) for value in node.values]
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        raise ValueError(f"marker {marker!r} is not understood")
    sides = (node.left, node.comparators[0])
    left, right = (_value(side, environment, marker) for side in sides)
    is_version = any(isinstance(side, ast.Name) and side.id in _VERSIONED for side in sides)
    operator = node.ops[0]
    if is_version and not isinstance(operator, ast.In | ast.NotIn):
        return _compare_versions(operator, _version(left), _version(right), marker)
    if isinstance(operator, ast.Eq):
        return left == right
    if isinstance(operator, ast.NotEq):
        return left != right
    if isinstance(operator, ast.In):
        return left in right
    if isinstance(operator, ast.NotIn):
        return left not in right
    raise ValueError(f"marker {marker!r} is not understood")


def _value(node: ast.expr, environment: Mapping[str, str], marker: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and node.id in environment:
        return environment[node.id]
    raise ValueError(f"marker {marker!r} is not understood")


def _compare_versions(
    operator: ast.cmpop, left: tuple[int, ...], right: tuple[int, ...], marker: str
) -> bool:
    if isinstance(operator, ast.Lt):
        return left < right
    if isinstance(operator, ast.LtE):
        return left <= right
    if isinstance(operator, ast.Gt):
        return left > right
    if isinstance(operator, ast.GtE):
        return left >= right
    if isinstance(operator, ast.Eq):
        return left == right
    if isinstance(operator, ast.NotEq):
        return left != right
    raise ValueError(f"marker {marker!r} is not understood")


def _version(text: str) -> tuple[int, ...]:
    parts = tuple(int(part) for part in text.split("."))
    return parts + (0,) * (3 - len(parts))


def marker_environment(python: str, machine: str) -> dict[str, str]:
    """What markers ask for, on CPython ``python`` on Linux ``machine``."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.99",  # a patch release does not decide for us
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
