"""`perimeter-install load`, but into a plain registry on loopback."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perimeter_bundle.terminal.guard import run_guarded
from perimeter_installer.cli.main import cli as installer

if TYPE_CHECKING:
    from perimeter_installer.site.model import Site

_LOAD_SITE = "load_site"  # how the command calls what reads site.yaml


def load(url: str, words: list[str]) -> None:
    """``perimeter-install load WORDS``, the registry in site.yaml taken to be at ``url``.

    site.yaml refuses a plain address on loopback, since no node could reach it.
    """

    # as the program itself does, which is what is measured
    installer.get_command(click.Context(installer), "load")
    from perimeter_installer.cli import load_command
    from perimeter_installer.site.load import load as load_site

    def moved(path: Path) -> Site:
        site = load_site(path)
        return replace(site, registry=replace(site.registry, url=url))

    setattr(load_command, _LOAD_SITE, moved)
    run_guarded(installer, ["load", *words])


if __name__ == "__main__":
    load(sys.argv[1], sys.argv[2:])
