"""Runs the go command: a module at a version → its archive and a program for each platform.

1. The module is fetched by itself, and its checksum must be the catalog's.
2. Its tree is the main module of the build, so its own go.mod and go.sum (which the checksum
   covers) pin every other module; nothing may change them.
3. No C compiler, no toolchain that Go would fetch, no setting of the user but where modules come
   from; no path, date or version control of this machine gets into the program.

Caches lie in a folder that stays until the image is finished: a run that was cut off goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.built import GoRecipe
from perimeter_bundle.gobuild.failures import judge
from perimeter_bundle.gobuild.toolchain import Toolchain, without_telemetry
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.terminal.text import human_bytes
from perimeter_bundle.tools.run import Ended, clean_environment, run_long

FETCH_TIMEOUT_S = 1800.0
COMPILE_TIMEOUT_S = 3 * 3600.0
PROGRESS_EVERY_S = 10.0
# modules and compiled packages of a program as large as MinIO: 2.6 GiB measured
ROOM_BYTES = 4 * 1024**3
# where modules come from is the user's business; nothing else of his settings is
_USERS_VARIABLES = (
    *("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
_GO_FLAGS = "-trimpath -mod=readonly -modcacherw -buildvcs=false"
# a processor's oldest form, so that a program runs on every one
_LEVELS = {"GOAMD64": "v1", "GOARM64": "v8.0", "GOPPC64": "power8", "GORISCV64": "rva20u64"}


@dataclass(frozen=True, slots=True)
class Workshop:
    """Folders for Go's caches, the go command, and where modules come from."""

    folder: Path
    packages: Path  # what Go compiled already
    toolchain: Toolchain
    users: Mapping[str, str] = field(repr=False)  # may hold a proxy's password
    ca_file: Path | None
    on_event: OnEvent

    def environment(self, platform: Platform | None = None) -> dict[str, str]:
        """For the go command; nothing but what stands here reaches it."""
        home = self.folder / "home"
        without_telemetry(home)
        settings = {
            "GOPATH": str(self.folder / "gopath"),
            "GOMODCACHE": str(self.folder / "modules"),
            "GOCACHE": str(self.packages),
            "GOENV": "off",
            "GOWORK": "off",
            "GOTOOLCHAIN": "local",
            "GO111MODULE": "on",
            "GOFLAGS": _GO_FLAGS,
            "CGO_ENABLED": "0",
            "SOURCE_DATE_EPOCH": "0",
            **_LEVELS,
        }
        settings |= {key: self.users[key] for key in _USERS_VARIABLES if key in self.users}
        if self.ca_file is not None:
            # the folders of the system's certificates are read beside it
            settings["SSL_CERT_FILE"] = str(self.ca_file.resolve())
        if platform is not None:
            settings |= {"GOOS": platform.os, "GOARCH": platform.architecture}
        return clean_environment(home, settings)

    def clear(self) -> None:
        """The image is finished: nothing of the building stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Module:
    """A fetched module: its archive as the proxy gave it, and its tree."""

    archive: Path
    tree: Path


def refuse_without_room(workshop: Workshop, needed_bytes: int = ROOM_BYTES) -> None:
    """Raises HostError[no-room] unless the caches have room; what lies there counts."""
    workshop.folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.lstat().st_size for path in workshop.folder.rglob("*"))
    free = shutil.disk_usage(workshop.folder).free
    if free + there < needed_bytes:
        raise HostError(
            "no-room",
            f"there is no room for compiling in {workshop.folder}",
            context={"needed": human_bytes(needed_bytes - there), "free": human_bytes(free)},
            hint="make room, or choose another folder with --build-cache",
        )


def fetch_module(recipe: GoRecipe, workshop: Workshop) -> Module:
    """The module of the recipe.

    Raises IntegrityError[sum-mismatch], NetworkError[module-missing] or [module-unreachable],
    InputError[no-go-mod], HostError.
    """
    name = f"{recipe.module}@{recipe.version}"
    attempted = f"fetching {name}"
    elsewhere = workshop.folder / "empty"  # in no module: it must not matter where we are
    elsewhere.mkdir(parents=True, exist_ok=True)
    ended = _go(
        ["mod", "download", "-json", name],
        elsewhere,
        workshop.environment(),
        workshop,
        attempted,
        FETCH_TIMEOUT_S,
    )
    answer = _json_object(ended.stdout)
    if ended.status != 0 or not answer.get("Zip"):
        raise judge(f"{ended.stderr}\n{answer.get('Error', '')}", attempted, fetching=True)
    found = answer.get("Sum")
    if found != recipe.sum:
        raise IntegrityError(
            "sum-mismatch",
            f"refused {name}: it is not the module the catalog knows",
            context={"expected": recipe.sum, "got": found},
            hint="somebody changed it after it was published, or the catalog's sum is wrong",
        )
    tree = workshop.folder / "source"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(str(answer.get("Dir")), tree)
    if not (tree / "go.mod").is_file():
        raise InputError(
            "no-go-mod",
            f"{name} has no go.mod, so nothing pins what it needs",
            hint="choose a version that is a Go module",
        )
    return Module(archive=Path(str(answer.get("Zip"))), tree=tree)


def compile_program(
    recipe: GoRecipe, module: Module, platform: Platform, workshop: Workshop
) -> Path:
    """The program for ``platform``.

    Raises InputError[does-not-compile], [not-pinned] or [not-a-program], and as fetch_module.
    """
    attempted = f"compiling {recipe.module} {recipe.package} for {platform}"
    target = workshop.folder / f"program-{platform.os}-{platform.architecture}"
    target.unlink(missing_ok=True)
    words = ["build", "-v", "-o", str(target)]
    if recipe.tags:
        words.append(f"-tags={','.join(recipe.tags)}")
    if recipe.ldflags:
        words.append(f"-ldflags={' '.join(recipe.ldflags)}")
    ended = _go(
        [*words, recipe.package],
        module.tree,
        workshop.environment(platform),
        workshop,
        attempted,
        COMPILE_TIMEOUT_S,
    )
    if ended.status != 0:
        raise judge(_without_names(ended.stderr), attempted, fetching=False)
    with target.open("rb") as stream:
        is_program = stream.read(4) == b"\x7fELF"
    if not is_program:
        raise InputError(
            "not-a-program",
            f"{attempted}: it is a library, not a program",
            hint='package must name the folder of a "package main"',
        )
    target.chmod(0o755)
    return target


def build_info(program: Path, workshop: Workshop) -> str:
    """What ``go version -m`` says of a program."""
    folder = workshop.folder / "empty"
    folder.mkdir(parents=True, exist_ok=True)
    attempted = "asking what is in a program"
    words = ["version", "-m", str(program)]
    ended = _go(words, folder, workshop.environment(), workshop, attempted, 60)
    if ended.status != 0:
        raise judge(ended.stderr, attempted, fetching=False)
    return ended.stdout


def _go(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    workshop: Workshop,
    attempted: str,
    timeout_s: float,
) -> Ended:
    said_s = 0.0

    def tick(passed_s: float, output: str) -> None:
        nonlocal said_s
        if passed_s - said_s >= PROGRESS_EVERY_S:
            said_s = passed_s
            message = _progress(output)
            workshop.on_event(Event(EventKind.PROGRESS, attempted, message))

    workshop.on_event(Event(EventKind.START, attempted))
    try:
        ended = run_long(
            [workshop.toolchain.program, *words],
            folder=folder,
            environment=environment,
            timeout_s=timeout_s,
            what=attempted,
            on_tick=tick,
        )
    except PerimeterError:
        workshop.on_event(Event(EventKind.FAIL, attempted))
        raise
    kind = EventKind.FINISH if ended.status == 0 else EventKind.FAIL
    workshop.on_event(Event(kind, attempted))
    return ended


def _progress(output: str) -> str:
    """What is under way, from the names that ``go build -v`` and downloads write."""
    lines = output.splitlines()
    fetched = sum(line.startswith("go: downloading ") for line in lines)
    compiled = sum(not line.startswith("go: ") for line in lines)
    parts = [f"{fetched} modules fetched"] if fetched else []
    parts += [f"{compiled} packages compiled"] if compiled else []
    return ", ".join(parts) or "fetching"


def _without_names(output: str) -> str:
    """What the compiler complained about, without the packages that went well."""
    kept = [
        line
        for line in output.splitlines()
        if not line.startswith("go: downloading ") and (":" in line or " " in line)
    ]
    return "\n".join(kept) or output


def _json_object(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
