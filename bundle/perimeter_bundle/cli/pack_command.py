"""perimeter-bundle pack: cuts a signed bundle into volumes."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import click

from perimeter_bundle.cli.bundle_argument import bundle_argument, refuse_missing_bundle
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.format.volumes.pack import PackReport, PackRequest, pack
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes, text_table

LEAST_BYTES = MIB
MOST_BYTES = 100 * 10**12
FAT32_FILE_BYTES = 2**32 - 1
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@click.command("pack")
@bundle_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the volumes; with --only it may be the medium itself.",
)
@click.option(
    "--volume-size",
    "size_text",
    metavar="SIZE",
    required=True,
    help="Largest size of a volume, as discs are labelled: 700M, 4.7G, 25G are powers of ten, MiB"
    " and GiB of two; 4G and 4GiB fit FAT32; a plain number is bytes.",
)
@click.option(
    "--only", type=int, multiple=True, metavar="K", help="Only volume K; may be repeated."
)
@click.option("--deep", is_flag=True, help="Hash volumes that are there before believing them.")
@click.option(
    "--parity",
    type=click.IntRange(1, 16),
    metavar="N",
    help="Also N parity volumes: any N lost or scratched volumes are rebuilt by repair. Volumes and"
    " parity volumes are together 32 at most. With --only, volume K is cut as it was with parity,"
    " and no parity volume is written.",
)
@common_options
def pack_bundle(
    output: Output,
    bundle_path: Path,
    out: Path,
    size_text: str,
    only: tuple[int, ...],
    deep: bool,
    parity: int | None,
) -> None:
    """Cuts a signed bundle into volumes that fit a medium; each is a plain tar file.

    Volume 1 holds what a site starts from: tar xf gives verify.sh and bootstrap.sh. Every volume
    carries the signed list and can be checked alone. The bundle's bytes are hashed on the way. The
    same bundle and size give the same volumes, so a lost one is cut again alone with --only; what
    is there is not cut again, and an interrupted run goes on.

    \b
    Examples:
      perimeter-bundle pack /srv/2026.11 --out /srv/volumes --volume-size 25G
      perimeter-bundle pack /srv/2026.11 --out /srv/volumes --volume-size 25G --parity 2
      perimeter-bundle pack /srv/2026.11 --out /media/stick --volume-size 4G --only 1
      perimeter-bundle verify-volume /srv/volumes/2026.11.v003.tar --trust builder.pub
    """
    volume_bytes = parse_size(size_text)
    refuse_missing_bundle(bundle_path)
    with output.reporter() as reporter:
        report = pack(
            PackRequest(bundle_path, out, volume_bytes, tuple(only), deep, parity or 0),
            reporter.on_event,
        )
    output.result(report.to_dict(), _text(report))
    output.next_step(
        f"carry them to the site; there: tar xf {report.release}.v001.tar, sh verify.sh,"
        " sh bootstrap.sh, perimeter-install unpack"
    )


def parse_size(text: str) -> int:
    """The bytes that ``text`` stands for; raises InputError[volume-size]."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(
            "volume-size",
            f"{text[:40]!r} is not a size",
            hint="a number with M, G, T, MiB, GiB or TiB: 700M, 4G, 25G",
        )
    unit = match[2].upper()
    size = int(Decimal(match[1]) * (1024 if match[3] else 1000) ** _POWERS[unit])
    if size == FAT32_FILE_BYTES + 1:
        size = FAT32_FILE_BYTES  # what a FAT32 file can hold, which is what 4GiB is asked for
    if not LEAST_BYTES <= size <= MOST_BYTES:
        raise InputError(
            "volume-size",
            f"volumes of {human_bytes(size)} are not sensible",
            context={"from": human_bytes(LEAST_BYTES), "to": human_bytes(MOST_BYTES)},
            hint="700M for CDs, 4G for FAT32, 25G for Blu-ray discs",
        )
    return size


def _text(report: PackReport) -> str:
    rows = [
        (
            packed.path.name,
            human_bytes(packed.listing.size_bytes),
            "written" if packed.written else "was there",
        )
        for packed in report.volumes
    ]
    rows += [(path.name, human_bytes(path.stat().st_size), "parity") for path in report.parity]
    head = f"release {report.release}: {report.total} volumes"
    return f"{head}\n{text_table(('volume', 'size', ''), rows)}"
