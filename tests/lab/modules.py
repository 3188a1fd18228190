"""What upstream gives a builder that compiles: Go's release archive, and a module proxy.

Both are what the catalog's base release asks for: the modules are those that are compiled into its
images, no others of their go.mod. The builder checks them against the sums in the catalog and in
go.sum; the lab has no checksum database.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perimeter_bundle.catalog.built import BuiltImageSpec
from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Component
from perimeter_bundle.collect.wanted import wanted_builds
from perimeter_bundle.model.platform import Platform

from .host import CLEAN_ENVIRONMENT, alive
from .oci import Entries, Entry
from .recipes.toolchain import go_release
from .state import REPOSITORY, LabError

PROXY_HOST = "modules.upstream.test"
CATALOG = REPOSITORY / "manifests"
PLATFORM = Platform("linux", "amd64")
SERVED = (".info", ".mod", ".zip")  # https://go.dev/ref/mod#goproxy-protocol
MODULES_TIMEOUT_S = 1200.0


def go_archive() -> tuple[str, Entries]:
    """Where Go publishes the catalog's version, without scheme, and what is in that archive."""
    go = _go()
    folder = go_release(go.version)
    entries = {
        str(path.relative_to(folder)): Entry(
            "file", path, 0o755 if path.stat().st_mode & 0o100 else 0o644
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return go.files[0].url_for(PLATFORM).removeprefix("https://"), entries


def publish_modules(root: Path, release: str) -> None:
    """Every module that is compiled into an image of the release, below ``root``."""
    go = go_release(_go().version) / "bin/go"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".modules-") as work:
        for spec in _built(release):
            with alive(f"modules of {spec.go.module}"):
                _fetch(go, spec, Path(work))
        downloads = Path(work) / "mod/cache/download"
        for path in sorted(downloads.rglob("*")):
            if path.suffix in SERVED and path.relative_to(downloads).parts[0] != "sumdb":
                target = root / path.relative_to(downloads)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)


def identity(release: str) -> list[str]:
    """Lines that change when other modules or another Go must be served."""
    return [f"go {_go().version}", *(repr(spec.go) for spec in _built(release))]


def _go() -> Component:
    return load_catalog(CATALOG).components["go"]


def _built(release: str) -> list[BuiltImageSpec]:
    builds = wanted_builds(load_release(load_catalog(CATALOG), release))
    return [build.spec for build in builds]


def _fetch(go: Path, spec: BuiltImageSpec, work: Path) -> None:
    """The module and all that is compiled into its program, in the module cache below ``work``."""
    empty = work / "empty"
    empty.mkdir(exist_ok=True)
    name = f"{spec.go.module}@{spec.go.version}"
    answer = json.loads(_run([str(go), "mod", "download", "-json", name], empty, work))
    tree = work / "source"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(answer["Dir"], tree)
    words = [str(go), "list", "-deps", f"-tags={','.join(spec.go.tags)}", spec.go.package]
    _run(words, tree, work)


def _run(argv: Sequence[str], folder: Path, work: Path) -> str:
    settings = {
        "GOMODCACHE": str(work / "mod"),
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GOOS": PLATFORM.os,
        "GOARCH": PLATFORM.architecture,
    }
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=CLEAN_ENVIRONMENT | dict(os.environ) | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MODULES_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise LabError(f"{' '.join(argv)}: not done in {MODULES_TIMEOUT_S:.0f} s") from err
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout
