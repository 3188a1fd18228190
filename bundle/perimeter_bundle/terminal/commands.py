"""A group of commands of which only the one that is used is imported.

What one command needs (kubernetes, paramiko, pydantic's models) takes tenths of a second and tens
of megabytes; another command, or ``--help``, should not wait for it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is, as ``module:command``, and the first sentence of its help."""

    where: str
    help: str


class Commands(click.Group):
    """Commands in the order in which they are used; ``places`` by their names."""

    def __init__(self, *arguments: Any, places: Mapping[str, Place], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.places = places

    def list_commands(self, context: click.Context) -> list[str]:
        """Every name."""
        return list(self.places)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now; None when there is none."""
        if name not in self.places:
            return None
        where = self.places[name].where
        module, _, attribute = where.partition(":")
        command = getattr(_imported(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{where} is not a command")
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """As click lists them, without importing any."""
        limit = formatter.width - 6 - max(map(len, self.places))
        rows = [
            (name, click.Command(name, help=place.help).get_short_help_str(limit))
            for name, place in self.places.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _imported(name: str) -> object:
    """The module; what it brings in stays to the end, so nothing is looked through for garbage.

    That looking takes a sixth of the time that the imports of a large command take, and again as
    much when the program ends.
    """
    if name in sys.modules or not gc.isenabled():
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()
