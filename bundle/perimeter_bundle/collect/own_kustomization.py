"""A kustomization folder of the user's own, rendered by a kustomize of the user's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.render.kustomize import PROGRAM, render_folder
from perimeter_bundle.sources.kustomization import FILE_NAMES


def is_kustomization(path: Path) -> bool:
    """Whether ``path`` is the folder of a kustomization."""
    return any((path / name).is_file() for name in FILE_NAMES)


def render_own_kustomization(
    path: Path, program: Path | None, search_path: str, work: Path
) -> tuple[str, bytes]:
    """The folder's name and its objects; without ``program`` one in ``search_path`` is taken.

    Raises InputError[no-kustomize], IntegrityError[not-rendered], [render-too-large], HostError.
    """
    found = find_kustomize(program, search_path, path)
    return path.resolve().name, render_folder(found, path, work)


def find_kustomize(program: Path | None, search_path: str, path: Path) -> Path:
    """``program``, else the one in ``search_path``, to render what is at ``path``.

    Raises InputError[no-kustomize], HostError[tool-missing].
    """
    found = program or _found(search_path)
    if found is None:
        raise InputError(
            "no-kustomize",
            f"{path} is a kustomization, and there is no {PROGRAM} to render it with",
            hint=f"name the program with --kustomize, or give what `{PROGRAM} build` prints as a "
            "file; a component of the catalog is rendered with the catalog's own",
        )
    if not (found.is_file() and os.access(found, os.X_OK)):
        raise HostError("tool-missing", f"{found} is no program that can be run")
    return found


def _found(search_path: str) -> Path | None:
    found = shutil.which(PROGRAM, path=search_path)
    return Path(found) if found else None
