"""perimeter-install verify-volume and unpack: bundles that came in volumes."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.volumes.unpack import UnpackReport, unpack
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.volumes import repair_volumes, verify_volumes
from perimeter_installer.cli.options import site_option, trust_at, trust_option

_volumes_argument = click.argument(
    "paths", metavar="VOLUME...", nargs=-1, required=True, type=click.Path(path_type=Path)
)


@click.command("verify-volume")
@_volumes_argument
@site_option
@trust_option
@common_options
def verify_volume(
    output: Output, paths: tuple[Path, ...], site_path: Path, trust_path: Path | None
) -> ExitStatus:
    """Is a volume, on its own, what was packed? The other volumes need not be there.

    Checks its list, the signatures in it, and every byte. A folder stands for the volumes in it.

    \b
    Examples:
      perimeter-install verify-volume /media/disc --trust trust/
      perimeter-install verify-volume 2026.11.v003.tar --trust site-trusted.pub --json
    """
    return verify_volumes(output, paths, trust_at(trust_path, site_path))


@click.command()
@click.argument("folder", metavar="VOLDIR", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write them.  [default: VOLDIR]"
)
@common_options
def repair(output: Output, folder: Path, out: Path | None) -> None:
    """Rebuild lost and scratched volumes from the others and the parity volumes.

    Copy all that can be read of the discs into one folder. As many volumes as there are parity
    volumes may be lost or damaged, at each place of them. What is rebuilt is checked like any other
    volume when it is unpacked.

    \b
    Examples:
      perimeter-install repair /srv/volumes
      perimeter-install repair /srv/volumes --out /srv/rebuilt
    """
    repair_volumes(output, folder, out)


@click.command("unpack")
@_volumes_argument
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for the bundle."
)
@site_option
@trust_option
@common_options
def unpack_volumes(
    output: Output,
    paths: tuple[Path, ...],
    out: Path,
    site_path: Path,
    trust_path: Path | None,
) -> ExitStatus:
    """Put volumes together to the bundle they were cut from.

    Takes files and folders of volumes in any order. With one disc drive, run it once for each
    disc: it takes what is there and says which volumes are missing, with status 1 until the last
    one. What was taken is not taken again. Nothing gets its name that is not signed.

    \b
    Examples:
      perimeter-install unpack /media/disc --out /srv/2026.11
      perimeter-install unpack 2026.11.v*.tar --out /srv/2026.11 --trust trust/
    """
    trust = trust_at(trust_path, site_path)
    with output.reporter() as reporter:
        report = unpack(paths, out, trust, on_event=reporter.on_event)
    output.result(report.to_dict(), _text(report))
    if not report.complete:
        output.next_step(f"the same command with the other volumes, --out {out}")
        return ExitStatus.FINDINGS
    output.next_step(f"perimeter-install verify --bundle {out}")
    return ExitStatus.OK


def _text(report: UnpackReport) -> str:
    lines = [
        f"release {report.release}: {report.files} of {report.total_files} files in {report.root}"
    ]
    if report.missing_volumes:
        numbers = ", ".join(map(str, report.missing_volumes))
        lines.append(f"volumes still to come: {numbers}")
    lines += [f"  {line}" for line in report.incomplete]
    return "\n".join(lines)
