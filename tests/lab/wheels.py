"""Wheels the builder's package index serves, pinned by hash and kept in the cache.

On a real connected machine these come from the public index; the lab's builder sees only the
lab's upstream, so they are downloaded once with the ordinary client and served there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .build import locked
from .host import alive, command
from .state import REPOSITORY, LabError, StateFolder

JUMP_PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64",
             "manylinux2014_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64")  # fmt: skip


@dataclass(frozen=True, slots=True)
class WheelFolder:
    """``folder`` for the index; the others are what a user installs perimeter-bundle from."""

    folder: Path
    perimeter: Path
    pip: Path
    requirements: Path


def wheel_folder(cache: Path) -> WheelFolder:
    """The wheels for the requirement files of this checkout, downloaded when not in the cache."""
    requirements = REPOSITORY / "requirements"
    hasher = hashlib.sha256(f"{JUMP_PYTHONS} {PLATFORMS}".encode())
    for path in sorted(requirements.glob("*.txt")):
        if path.name != "dev.txt":
            hasher.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = cache / f"wheels-{hasher.hexdigest()[:16]}"
    workplace = cache / ".wheels"
    with locked(workplace, "download wheels"):
        if not folder.exists():
            _fill(Path(tempfile.mkdtemp(prefix=".work-", dir=workplace)), folder)
    pips = sorted(folder.glob("pip-*.whl"))
    if not pips:
        raise LabError(f"no pip wheel in {folder}; remove the folder and run again")
    return WheelFolder(folder, _perimeter_wheel(), pips[-1], requirements / "bundle.txt")


def _fill(work: Path, folder: Path) -> None:
    """Download everything, then let it appear at once."""
    requirements = REPOSITORY / "requirements"
    with alive("download wheels"):
        for python in JUMP_PYTHONS:
            _download(work, python, requirements / "install.txt")
        for name in ("bundle.txt", "collections.txt", "pip.txt"):
            _download(work, JUMP_PYTHONS[0], requirements / name)
    work.rename(folder)


def _download(to: Path, python: str, requirements: Path) -> None:
    """What a hashed requirements file pins, as wheels for one Python on x86-64 Linux."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    _pip_download(
        to, "--no-deps", "--require-hashes", "--python-version", python, "--implementation", "cp",
        *platforms, "-r", str(requirements),
    )  # fmt: skip


def _pip_download(to: Path, *arguments: str) -> None:
    command(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--only-binary", ":all:", "--dest", str(to), *arguments],
        timeout_s=900,
        env=dict(os.environ),
    )  # fmt: skip


def _perimeter_wheel() -> Path:
    """The wheel of this checkout as it is now; always built, it takes seconds."""
    folder = StateFolder.from_environment().path / "perimeter-wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY)],
        timeout_s=180,
        env=dict(os.environ) | {"SOURCE_DATE_EPOCH": "1767225600"},
    )  # fmt: skip
    wheels = list(folder.glob("perimeter-*.whl"))
    if len(wheels) != 1:
        raise LabError(f"hatchling left {len(wheels)} wheels in {folder}")
    return wheels[0]
