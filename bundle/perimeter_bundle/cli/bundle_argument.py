"""The bundle a command works on; for commands that need neither catalog nor network."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.model.errors import InputError

bundle_argument = click.argument("bundle_path", metavar="DIR", type=click.Path(path_type=Path))


def refuse_missing_bundle(path: Path) -> None:
    """Raises InputError[no-bundle] when there is no such folder."""
    if not path.is_dir():
        raise InputError(
            "no-bundle", f"there is no folder {path}", hint="perimeter-bundle build makes one"
        )
