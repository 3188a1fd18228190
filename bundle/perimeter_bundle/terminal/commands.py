"""A group of commands of which only the one that is used is imported.

What one command needs (kubernetes, paramiko, pydantic's models) takes tenths of a second and tens
of megabytes; another command should not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Commands(click.Group):
    """Commands in the order in which they are used; ``places`` maps names to ``module:command``."""

    def __init__(self, *arguments: Any, places: Mapping[str, str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.places = places

    def list_commands(self, context: click.Context) -> list[str]:
        """Every name."""
        return list(self.places)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now; None when there is none."""
        if name not in self.places:
            return None
        module, _, attribute = self.places[name].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.places[name]} is not a command")
        return command
