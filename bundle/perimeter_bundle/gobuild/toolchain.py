"""Which go command there is; never one that go would fetch by itself."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.catalog.built import GoRecipe
from perimeter_bundle.model.errors import HostError
from perimeter_bundle.tools.run import clean_environment, run_tool

GO_VARIABLE = "PERIMETER_GO"  # the go command to use, when several are there
_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin")
_VERSION = re.compile(r"go version (go[0-9]+\.[0-9]+(?:\.[0-9]+)?)[ \n]")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A go command and what it calls itself (``go1.26.8``)."""

    program: Path
    version: str


def find_toolchain(
    recipe: GoRecipe, environment: Mapping[str, str], *, exactly: str = ""
) -> Toolchain:
    """The first go on PATH and in the usual places that the recipe takes.

    ``exactly`` is the version a lock pins. Raises HostError[go-missing] or [go-other-version]
    with what there is.
    """
    wanted = exactly or f"go{recipe.go}"
    found = []
    for program in _candidates(environment):
        toolchain = Toolchain(program, version_of(program))
        if toolchain.version == exactly or (not exactly and recipe.takes(toolchain.version)):
            return toolchain
        found.append(f"{program} is {toolchain.version or 'no release of Go'}")
    if not found:
        raise HostError(
            "go-missing",
            f"{recipe.module} is compiled here, and there is no go command",
            context={"needed": wanted},
            hint=f"unpack {wanted} from https://go.dev/dl to /usr/local/go, or put it on PATH",
        )
    raise HostError(
        "go-other-version",
        f"{recipe.module} is compiled with {wanted}, which is not here",
        problems=found,
        hint=f"unpack {wanted} from https://go.dev/dl; {GO_VARIABLE} names its bin/go. "
        "Another version gives another program: to change it, change the recipe or lock again",
    )


def _candidates(environment: Mapping[str, str]) -> Iterable[Path]:
    named = environment.get(GO_VARIABLE)
    folders = [*environment.get("PATH", "").split(os.pathsep), *_PLACES]
    paths = [Path(named)] if named else [Path(folder) / "go" for folder in folders if folder]
    return dict.fromkeys(
        path.resolve() for path in paths if path.is_file() and os.access(path, os.X_OK)
    )


def without_telemetry(home: Path) -> None:
    """Go counts nothing in ``home``; else a child of it still writes there when it has ended.

    https://go.dev/doc/telemetry
    """
    mode = home / ".config" / "go" / "telemetry" / "mode"
    mode.parent.mkdir(parents=True, exist_ok=True)
    mode.write_text("off\n")


def version_of(program: Path) -> str:
    """What a go command calls itself (``go1.26.8``); empty for no release of Go."""
    with tempfile.TemporaryDirectory(prefix="perimeter-go-") as home:
        folder = Path(home)
        without_telemetry(folder)
        environment = clean_environment(folder, {"GOTOOLCHAIN": "local", "GOENV": "off"})
        try:
            answer = run_tool(
                [program, "version"],
                folder=folder,
                environment=environment,
                timeout_s=30,
                what="asking go for its version",
            )
        except HostError:
            return ""
    found = _VERSION.match(answer.stdout.decode("utf-8", "replace"))
    return found[1] if found else ""
