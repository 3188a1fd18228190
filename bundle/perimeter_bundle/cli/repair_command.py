"""perimeter-bundle repair: the same code as on the closed side."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.volumes import repair_volumes


@click.command()
@click.argument("folder", metavar="VOLDIR", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write them.  [default: VOLDIR]"
)
@common_options
def repair(output: Output, folder: Path, out: Path | None) -> None:
    """Rebuilds lost and scratched volumes from the others and the parity volumes.

    Copy all that can be read of the discs into one folder. As many volumes as there are parity
    volumes may be lost or damaged, at each place of them.

    \b
    Examples:
      perimeter-bundle repair /srv/volumes
      perimeter-bundle repair /srv/volumes --out /srv/rebuilt
    """
    repair_volumes(output, folder, out)
