"""``go version -m``: which modules are in a program, as Go itself wrote them into it. Pure.

https://pkg.go.dev/runtime/debug#BuildInfo
"""

from __future__ import annotations

from dataclasses import dataclass

from perimeter_bundle.model.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class LinkedModule:
    """A module in a program; ``sum`` is empty for one that was not fetched by itself."""

    path: str
    version: str
    sum: str


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What a program says of itself."""

    toolchain: str
    main: LinkedModule
    modules: tuple[LinkedModule, ...]  # by path
    settings: tuple[tuple[str, str], ...]


def parse_build_info(text: str) -> BuildInfo:
    """The information in what ``go version -m`` printed; raises IntegrityError[no-build-info]."""
    lines = text.splitlines()
    toolchain = lines[0].rpartition(": ")[2].strip() if lines else ""
    main: LinkedModule | None = None
    modules: list[LinkedModule] = []
    settings: list[tuple[str, str]] = []
    for line in lines[1:]:
        words = line.strip("\n").split("\t")[1:]
        if not words:
            continue
        if words[0] == "mod":
            main = _module(words)
        elif words[0] == "dep":
            modules.append(_module(words))
        elif words[0] == "=>" and modules:
            modules[-1] = _module(words)  # a replacement is what was really linked
        elif words[0] == "build":
            key, _, value = words[-1].partition("=")
            settings.append((key, value))
    if main is None or not toolchain.startswith("go"):
        raise IntegrityError("no-build-info", "a compiled program does not say what is in it")
    ordered = tuple(sorted(modules, key=lambda module: (module.path, module.version)))
    return BuildInfo(toolchain, main, ordered, tuple(sorted(settings)))


def _module(words: list[str]) -> LinkedModule:
    padded = [*words, "", "", ""]
    return LinkedModule(padded[1], padded[2], padded[3])
