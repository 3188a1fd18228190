"""--against and the key that checks it, for the commands that leave out what a site holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from perimeter_bundle.format.inventory import VerifiedInventory, open_inventory
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

against_option = click.option(
    "--against",
    "against_path",
    type=click.Path(path_type=Path),
    help="Leave out what a site's registry holds, as perimeter-install inventory wrote it.",
)


def against_options(command: Callable[P, R]) -> Callable[P, R]:
    """--against and --trust, for a command that has no other use for the site's key."""
    command = click.option(
        "--trust",
        "trust_path",
        type=click.Path(path_type=Path),
        help="The site's public key (.pub), or a folder of such; checks what the site signed.",
    )(command)
    return against_option(command)


def inventory_at(path: Path | None, trust_path: Path | None) -> VerifiedInventory | None:
    """The inventory of --against, its signature checked; None without one.

    Raises InputError[bad-option], and what open_inventory and Trust.load raise.
    """
    if path is None:
        if trust_path is not None:
            raise InputError("bad-option", "--trust means nothing without --against")
        return None
    if trust_path is None:
        raise InputError(
            "bad-option",
            "--against needs --trust",
            hint="it names the site's .pub file; a key that came with the inventory proves nothing",
        )
    return open_inventory(path, Trust.load(trust_path))
