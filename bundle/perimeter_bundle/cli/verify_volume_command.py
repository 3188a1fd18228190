"""perimeter-bundle verify-volume: the same code as on the closed side."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.volumes import verify_volumes


@click.command("verify-volume")
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--trust",
    "trust_path",
    type=click.Path(path_type=Path),
    required=True,
    envvar="PERIMETER_TRUST",
    help="Folder of trusted public keys, or one .pub file.",
)
@common_options
def verify_volume(output: Output, paths: tuple[Path, ...], trust_path: Path) -> ExitStatus:
    """Is a volume, on its own, what was packed? The other volumes need not be there.

    Checks its list, the signatures in it, and every byte. A folder stands for the volumes in it.

    \b
    Examples:
      perimeter-bundle verify-volume /srv/volumes/2026.11.v003.tar --trust builder.pub
      perimeter-bundle verify-volume /media/disc --trust trust/ --json
    """
    return verify_volumes(output, paths, Trust.load(trust_path))
