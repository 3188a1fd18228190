"""Where this installation keeps what it carries into bundles: manifests, roles, playbooks, pins.

Installed from a wheel that is ``perimeter_bundle/_content``; in a checkout its top folder.
"""

from __future__ import annotations

from pathlib import Path

import perimeter_bundle
from perimeter_bundle.model.errors import HostError

_INSTALLED = "_content"


def content_root() -> Path:
    """The folder that holds manifests/, roles/, playbooks/, requirements/ and images.lock.

    Raises HostError[no-content] when this installation is incomplete.
    """
    package = Path(perimeter_bundle.__file__).resolve().parent
    for folder in (package / _INSTALLED, *package.parents[1:2]):
        if (folder / "manifests" / "releases").is_dir():
            return folder
    raise HostError(
        "no-content",
        "this installation of perimeter has no catalog",
        context={"looked in": package / _INSTALLED},
        hint="install the perimeter wheel again, or name a catalog with --catalog",
    )


def is_checkout(root: Path) -> bool:
    """Whether ``root`` is a checkout and not an installed wheel."""
    return root.name != _INSTALLED and (root / "pyproject.toml").is_file()
