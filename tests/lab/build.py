"""Build upstream programs from their recipes, once, into the lab's cache.

`python -m tests.lab.build [NAME…]` builds the named recipes, or all, and prints their folders.
`tool("crane")` gives the path of one program, building it if it must. What is built lies in
`<cache>/programs/<recipe>-<digest>/bin`; a folder of that name is complete, since it gets its name
last. A recipe that changes gets another digest and is built anew; so it is with another Go.

The Go caches hold several GB while building and are emptied afterwards, unless GOMODCACHE and
GOCACHE name caches of your own.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .host import CLEAN_ENVIRONMENT, alive, say
from .recipes import Program, Recipe, apply_patch, load_recipe, recipe_names
from .recipes.toolchain import Go, ensure_go, ensure_packages
from .state import LabError, cache_folder

PROGRAM_TIMEOUT_S = 3600.0
MODULES_TIMEOUT_S = 1200.0
# Seen for all recipes together: 9 GiB of modules, 9 GiB of compiled packages, 2 GiB of programs.
ROOM_FOR_ALL_GIB = 22
ROOM_FOR_ONE_GIB = 6


@dataclass(frozen=True, slots=True)
class _Workshop:
    """What every build of one run shares."""

    go: Go
    environment: dict[str, str]
    owned: tuple[Path, ...]  # Go caches that are ours, so ours to empty


def build(names: Sequence[str] = (), *, keep_go_caches: bool = False) -> dict[str, Path]:
    """Folders of the programs of the recipes named, or of all; builds what is missing.

    Raises LabError when a recipe is unknown or wrong, when room is short, and when a build fails;
    the message then names the log. What was built before that stays.
    """
    recipes = [load_recipe(name) for name in names or recipe_names()]
    folder = cache_folder() / "programs"
    # the digest asks for Go's version, of all recipes: it must not depend on which are asked for
    go = ensure_go(max(load_recipe(name).go_needed() for name in recipe_names()))
    places = {recipe.name: folder / f"{recipe.name}-{_digest(recipe, go)}" for recipe in recipes}
    if all(place.is_dir() for place in places.values()):
        return {name: place / "bin" for name, place in places.items()}
    with locked(folder, "build"):
        missing = [recipe for recipe in recipes if not places[recipe.name].is_dir()]
        shop = _workshop(go)
        _check_room(len(missing), shop)
        ensure_packages(package for recipe in missing for package in recipe.debian_packages)
        for recipe in missing:
            with alive(f"build {recipe.name} {recipe.version}"):
                _build(recipe, places[recipe.name], shop)
        if not keep_go_caches:
            _empty(shop)
    return {name: place / "bin" for name, place in places.items()}


def tool(output: str) -> Path:
    """The program of that name, e.g. tool("registry"); builds its recipe on first use."""
    for name in recipe_names():
        if any(program.output == output for program in load_recipe(name).programs):
            return build([name])[name] / output
    raise LabError(f"no recipe builds a program named {output!r}")


def _digest(recipe: Recipe, go: Go) -> str:
    return recipe.digest(go.version)[:16]


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Only one process works in the folder; others wait. Clears what a killed one left there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with alive(f"wait for another run to {what}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in folder.glob(".work-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield


def _workshop(go: Go) -> _Workshop:
    own = cache_folder() / "go"
    caches = {"GOMODCACHE": own / "mod", "GOCACHE": own / "build"}
    given = {key: Path(os.environ[key]) for key in caches if os.environ.get(key)}
    environment = CLEAN_ENVIRONMENT | dict(os.environ) | go.environment
    environment |= {key: str(path) for key, path in (caches | given).items()}
    # -modcacherw: a module cache that can be removed like any other folder
    environment["GOFLAGS"] = "-trimpath -buildvcs=false -modcacherw"
    environment["GOWORK"] = "off"
    environment["PATH"] = f"{go.program.parent}{os.pathsep}{environment['PATH']}"
    return _Workshop(go, environment, tuple(caches[key] for key in caches if key not in given))


def _check_room(builds: int, shop: _Workshop) -> None:
    need_gib = min(ROOM_FOR_ALL_GIB, ROOM_FOR_ONE_GIB + builds)
    need = need_gib << 30
    for cache in shop.owned:  # what lies there already need not be fetched again
        need -= sum(f.lstat().st_size for f in cache.rglob("*")) if cache.exists() else 0
    free = shutil.disk_usage(cache_folder()).free
    if free < need:
        raise LabError(
            f"building {builds} recipes needs {need / 2**30:.1f} GiB in {cache_folder()}, "
            f"{free / 2**30:.1f} GiB are free: free some, or set PERIMETER_LAB_CACHE"
        )


def _build(recipe: Recipe, place: Path, shop: _Workshop) -> None:
    for module in recipe.sums_taken_on_trust:
        say(f"{module}: its sum in go.sum is not from the checksum database, see the recipe")
    logs = cache_folder() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"build-{recipe.name}.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".work-{recipe.name}-") as work:
        source, result = Path(work) / "source", Path(work) / "result"
        shutil.copytree(recipe.folder, source)
        (result / "bin").mkdir(parents=True)
        _patch(recipe, source, shop, log)
        for program in recipe.programs:
            target = result / "bin" / program.output
            argv = _compile(program, recipe, target)
            cgo = {"CGO_ENABLED": "1" if program.cgo else "0"}
            _run(argv, source, shop.environment | cgo, log, PROGRAM_TIMEOUT_S)
        result.rename(place)
    log.unlink(missing_ok=True)


def _compile(program: Program, recipe: Recipe, target: Path) -> list[str]:
    if program.c_source:
        version = f'-DVERSION="{recipe.version}"'
        flags = ["-Os", "-Wall", "-Werror", "-static", version]
        return ["nice", "gcc", *flags, "-s", "-o", str(target), program.c_source]
    argv = ["nice", "go", "build", "-mod=readonly", *program.build_flags]
    if program.tags:
        argv.append(f"-tags={','.join(program.tags)}")
    argv += ["-ldflags", " ".join(program.ldflags), "-o", str(target)]
    return [*argv, str(program.package)]


def _patch(recipe: Recipe, source: Path, shop: _Workshop, log: Path) -> None:
    """Put patched copies of modules beside the recipe, and let go.mod point there."""
    for module in sorted({patch.module for patch in recipe.patches}):
        argv = ["go", "mod", "download", "-json", module]
        answer = _run(argv, source, shop.environment, log, MODULES_TIMEOUT_S)
        copy = source / "patched" / module.replace("/", "_")
        shutil.copytree(json.loads(answer)["Dir"], copy)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        for patch in recipe.patches:
            if patch.module == module:
                apply_patch(patch, copy)
        replace = f"-replace={module}=./{copy.relative_to(source)}"
        _run(["go", "mod", "edit", replace], source, shop.environment, log, 60)


def _run(argv: list[str], cwd: Path, env: dict[str, str], log: Path, timeout_s: float) -> str:
    """What the command printed; its complaints go to the log, which stays when it fails."""
    with log.open("a") as errors:
        print("$", *argv, file=errors, flush=True)
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as err:
            raise LabError(f"{argv[0]} is not installed on this host") from err
        except subprocess.TimeoutExpired as err:
            raise LabError(f"{' '.join(argv)}: not done in {timeout_s:.0f} s, see {log}") from err
    if done.returncode != 0:
        tail = log.read_text(errors="replace")[-1500:]
        raise LabError(f"exit status {done.returncode}, see {log}, which ends:\n{tail}")
    return done.stdout


def _empty(shop: _Workshop) -> None:
    for cache in shop.owned:
        if cache.exists():
            with alive(f"empty {cache}"):
                shutil.rmtree(cache)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and print one line for each recipe: its name and the folder of its programs."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.build", description=build.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipe; all when none is named")
    parser.add_argument("--keep-go-caches", action="store_true", help="do not empty Go's caches")
    request = parser.parse_args(argv)
    try:
        folders = build(request.names, keep_go_caches=request.keep_go_caches)
    except LabError as err:
        say(f"error: {err}")
        return 1
    for name, folder in folders.items():
        print(f"{name}\t{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
