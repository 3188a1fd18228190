"""The compilers: which Go there is, and how a machine gets one that is new enough.

Debian 12 has Go 1.19, the recipes need a newer one. Go publishes its own toolchains as the module
golang.org/toolchain, so any Go can fetch any other through the module proxy it is configured for,
checked against the checksum database like all modules. From Go 1.21 on, the go command does that by
itself; for an older one it is done here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..host import CLEAN_ENVIRONMENT, alive, command, say, services_kept_off
from ..state import LabError, cache_folder

Version = tuple[int, int, int]
SWITCHES_ITSELF: Version = (1, 21, 0)
_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin")
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Go:
    """A go command that is new enough."""

    program: Path
    version: str
    environment: dict[str, str]


def ensure_go(needed: Version) -> Go:
    """A Go at least as new as `needed`; installs Debian's and fetches a newer one when it must."""
    program = _find() or _install()
    found = _version(program)
    if found >= needed:
        return Go(program, _text(found), {"GOTOOLCHAIN": "local"})
    if found >= SWITCHES_ITSELF:
        say(f"Go {_text(needed)} is needed, {program} is {_text(found)}: it fetches the newer one")
        return Go(program, _text(needed), {"GOTOOLCHAIN": f"go{_text(needed)}"})
    newer = _fetch(program, needed)
    return Go(newer, _text(needed), {"GOTOOLCHAIN": "local"})


def go_release(version: str) -> Path:
    """The folder of exactly that Go (``1.26.8``), as its release archive has it."""
    parts = [int(part) for part in version.split(".")]
    return _fetch(_find() or _install(), (parts[0], parts[1], parts[2])).parents[1]


def ensure_packages(names: Iterable[str]) -> None:
    """Debian packages the compilers need; installs those that are missing."""
    missing = [name for name in sorted(set(names)) if not _installed(name)]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError("install these Debian packages first: " + " ".join(missing))
    with alive(f"install {' '.join(missing)}"), services_kept_off():
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        command(["apt-get", "update", "-qq"], timeout_s=300, env=env)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        command(install, timeout_s=900, env=env)


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return command(query, check=False).stdout == "installed"


def _find() -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    found = shutil.which("go", path=path)
    return Path(found) if found else None


def _install() -> Path:
    say("there is no go command: Debian's is installed")
    ensure_packages(["golang-go", "ca-certificates"])
    found = _find()
    if found is None:
        raise LabError("Go is needed (any version, 1.21 or newer is best); golang-go gave none")
    return found


def _version(program: Path) -> Version:
    # GOTOOLCHAIN=local: the version of this very program, not of one it would fetch
    env = {"GOTOOLCHAIN": "local", "GOFLAGS": ""}
    text = command([str(program), "version"], env=env).stdout
    found = _VERSION.search(text)
    if not found:
        raise LabError(f"{program} version said {text.strip()!r}")
    return (int(found[1]), int(found[2]), int(found[3] or 0))


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)


def _fetch(old: Path, needed: Version) -> Path:
    """What Go 1.21 does by itself: fetch the toolchain's module and make it executable."""
    folder = cache_folder() / "toolchains" / f"go{_text(needed)}"
    if not (folder / "bin/go").exists():
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
        if machine is None:
            raise LabError(f"no Go toolchain is known for {os.uname().machine}")
        module = f"golang.org/toolchain@v0.0.1-go{_text(needed)}.linux-{machine}"
        with alive(f"fetch Go {_text(needed)} with {old}"):
            _unpack(_download(old, module, folder.parent), folder)
    return folder / "bin/go"


def _download(go: Path, module: str, work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    env = CLEAN_ENVIRONMENT | dict(os.environ) | {"GOFLAGS": "-modcacherw", "GO111MODULE": "on"}
    env["GOMODCACHE"] = str(work / "mod")
    argv = [str(go), "mod", "download", "-json", module]
    done = subprocess.run(
        argv, cwd=work, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    try:
        answer = json.loads(done.stdout)
        return Path(answer["Dir"])
    except (ValueError, KeyError) as err:
        said = (done.stdout + done.stderr).strip()[-1000:]
        raise LabError(
            f"Go cannot fetch {module}; install Go of that version by hand: {said}"
        ) from err


def _unpack(module: Path, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.copytree(module, temporary, symlinks=True)
    # a module holds no executable files and no second go.mod: Go renames and marks them itself
    for path in temporary.rglob("_go.mod"):
        path.rename(path.with_name("go.mod"))
    for path in [*temporary.glob("bin/*"), *temporary.glob("pkg/tool/*/*")]:
        path.chmod(0o755)
    temporary.rename(folder)
    shutil.rmtree(folder.parent / "mod", ignore_errors=True)
