"""Parity volumes: ``<release>.p001.tar`` … beside the volumes of one set.

The volumes are read side by side in cells; a stripe is the cells at one offset, the shorter volumes
ending in zeros. Each parity volume holds one more cell of every stripe, and the check of every
volume's cell in it, so that a damaged cell is found wherever it is. Members: parity.json, then
``<release>.parity/checks`` (CHECK_BYTES for each stripe and volume, and for its own cell), then
``<release>.parity/cells``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from perimeter_bundle.format.files import open_plain, unreadable
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.format.sums import some
from perimeter_bundle.format.volumes.copying import Progress
from perimeter_bundle.format.volumes.listing import release_name
from perimeter_bundle.format.volumes.parts import part_of
from perimeter_bundle.format.volumes.read import Volume
from perimeter_bundle.format.volumes.stripes import MAX_CELLS, Stripes
from perimeter_bundle.format.volumes.tar import (
    BLOCK_BYTES,
    END,
    first_member_size,
    member_header,
    padding_bytes,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import EventKind, OnEvent, ignore_events
from perimeter_bundle.model.reader import Reader, Table

FORMAT = "perimeter-parity/1"
LIST = "parity.json"
CELL_BYTES = 256 * 1024
CHECK_BYTES = 16  # of SHA-256: what is found by it is checked against signed digests later
_MAX_CELL_BYTES = 4 * MIB
_MAX_LIST_BYTES = 64 * 1024
_FILE = re.compile(r".+\.p\d{3}\.tar")


@dataclass(frozen=True, slots=True)
class ParityList:
    """What a parity volume is of: the set, and how it was laid out."""

    release: str
    identity: Digest
    set_digest: Digest
    number: int
    total: int
    cell_bytes: int
    sizes: tuple[int, ...]  # of the volumes, in their order
    checks: Digest  # of the table of checks

    @property
    def stripes(self) -> int:
        """How many stripes there are."""
        return -(-max(self.sizes) // self.cell_bytes)

    @property
    def name(self) -> str:
        """The file name it is written under."""
        return parity_name(self.release, self.number)

    def offsets(self) -> tuple[int, int, int]:
        """Where the checks and the cells begin, and where the file ends."""
        size = len(self.to_bytes())
        offset = len(member_header(LIST, size)) + size + padding_bytes(size)
        checks_header, cells_header = self.headers()
        checks = offset + len(checks_header)
        cells = checks + self.checks_bytes + padding_bytes(self.checks_bytes) + len(cells_header)
        length = self.stripes * self.cell_bytes
        return checks, cells, cells + length + padding_bytes(length) + len(END)

    @property
    def checks_bytes(self) -> int:
        """Length of the table of checks."""
        return self.stripes * (len(self.sizes) + 1) * CHECK_BYTES

    def headers(self) -> tuple[bytes, bytes]:
        """The tar headers of the checks and of the cells."""
        folder = f"{self.release}.parity"
        return (
            member_header(f"{folder}/checks", self.checks_bytes),
            member_header(f"{folder}/cells", self.stripes * self.cell_bytes),
        )

    def to_bytes(self) -> bytes:
        """The text of parity.json."""
        document: dict[str, object] = {
            "format": FORMAT,
            "release": self.release,
            "identity": str(self.identity),
            "set": str(self.set_digest),
            "parity": self.number,
            "parities": self.total,
            "cell_bytes": self.cell_bytes,
            "sizes": list(self.sizes),
            "checks": str(self.checks),
        }
        document["check"] = str(Digest.of_bytes(dump_object(document)))  # against damage
        return dump_object(document)

    @classmethod
    def parse(cls, data: bytes, where: str) -> ParityList:
        """The list in ``data``; raises IntegrityError[bad-parity]."""
        document = parse_object(data, f"{LIST} of {where}", max_bytes=_MAX_LIST_BYTES)
        reader = Reader()
        none = Digest.of_bytes(b"")
        listing = cls(
            release=reader.value(document, "release", LIST, release_name, ""),
            identity=reader.value(document, "identity", LIST, Digest.parse, none),
            set_digest=reader.value(document, "set", LIST, Digest.parse, none),
            number=reader.count(document, "parity", LIST),
            total=reader.count(document, "parities", LIST),
            cell_bytes=reader.count(document, "cell_bytes", LIST),
            sizes=_sizes(reader, document),
            checks=reader.value(document, "checks", LIST, Digest.parse, none),
        )
        problems = reader.problems
        if not 1 <= listing.number <= listing.total < MAX_CELLS:
            problems.append(f"parity volume {listing.number} of {listing.total} is none")
        if not 1 <= len(listing.sizes) <= MAX_CELLS - listing.total:
            problems.append(f"{len(listing.sizes)} volumes cannot be")
        if listing.cell_bytes % BLOCK_BYTES or not 0 < listing.cell_bytes <= _MAX_CELL_BYTES:
            problems.append(f"cells of {listing.cell_bytes} bytes cannot be")
        if problems or listing.to_bytes() != data:
            raise IntegrityError(
                "bad-parity",
                f"the list of {where} cannot be used",
                problems=some(problems or ["it is not written as perimeter writes it"]),
                hint="use another parity volume, or make it again: perimeter-bundle pack --parity",
            )
        return listing


@dataclass(frozen=True, slots=True)
class Parity:
    """An opened parity volume; its cells are not checked yet."""

    path: Path
    listing: ParityList
    checks: bytes  # for every stripe: of each volume's cell, then of its own
    cells_offset: int

    def check_of(self, stripe: int, place: int) -> bytes:
        """What the cell at ``place`` must have; that after the last volume's is its own."""
        start = (stripe * (len(self.listing.sizes) + 1) + place) * CHECK_BYTES
        return self.checks[start : start + CHECK_BYTES]

    def read_cell(self, file: BinaryIO, stripe: int) -> bytes | None:
        """Its own cell of a stripe; None when it is damaged."""
        offset = self.cells_offset + stripe * self.listing.cell_bytes
        cell = read_cell(file, offset, self.listing.cell_bytes)
        wanted = self.check_of(stripe, len(self.listing.sizes))
        return cell if cell is not None and check_of(cell) == wanted else None


def parity_name(release: str, number: int) -> str:
    """The file name of a parity volume."""
    return f"{release}.p{number:03d}.tar"


def is_parity(path: Path) -> bool:
    """Whether its name is that of a parity volume."""
    return _FILE.fullmatch(path.name) is not None


def reserve_bytes(volume_bytes: int, cell_bytes: int = CELL_BYTES) -> int:
    """What volumes must be smaller by, so that a parity volume is not larger than asked for."""
    stripes = volume_bytes // cell_bytes + 1
    return stripes * MAX_CELLS * CHECK_BYTES + cell_bytes + 16 * BLOCK_BYTES


def check_of(cell: bytes) -> bytes:
    """The check of a cell."""
    return hashlib.sha256(cell).digest()[:CHECK_BYTES]


def read_cell(file: BinaryIO, offset: int, length: int) -> bytes | None:
    """A cell, ending in zeros past the end of the file; None when it cannot be read."""
    try:
        return os.pread(file.fileno(), length, offset).ljust(length, b"\0")
    except OSError:
        return None


def refuse_too_many(volumes: int, parity: int) -> None:
    """Raises InputError[parity] unless so many volumes and parity volumes go together."""
    if parity < 1 or volumes + parity > MAX_CELLS:
        raise InputError(
            "parity",
            f"{volumes} volumes and {parity} parity volumes do not go together",
            context={"at least": "1 parity volume", "at most": f"{MAX_CELLS} of both"},
            hint="give a larger --volume-size, or fewer parity volumes",
        )


def write_parity(
    volumes: Sequence[Volume],
    out: Path,
    total: int,
    progress: Progress,
    cell_bytes: int = CELL_BYTES,
) -> list[Path]:
    """Writes ``total`` parity volumes over all volumes of a set, in one pass over them.

    Raises IntegrityError[unreadable], OSError when they cannot be written.
    """
    first = volumes[0].listing
    lists = [
        ParityList(
            release=first.release,
            identity=first.identity,
            set_digest=first.set_digest,
            number=number,
            total=total,
            cell_bytes=cell_bytes,
            sizes=tuple(volume.listing.size_bytes for volume in volumes),
            checks=Digest.of_bytes(b""),
        )
        for number in range(1, total + 1)
    ]
    code = Stripes(len(volumes), total, cell_bytes)
    checks = [bytearray() for _ in lists]
    parts = [part_of(out / listing.name) for listing in lists]
    with ExitStack() as stack:
        sources = [stack.enter_context(open_plain(volume.path)) for volume in volumes]
        targets = [stack.enter_context(part.open("w+b")) for part in parts]
        _, cells_offset, end = lists[0].offsets()
        for target in targets:
            target.truncate(end)
            target.seek(cells_offset)
        for stripe in range(lists[0].stripes):
            offset = stripe * cell_bytes
            pairs = zip(volumes, sources, strict=True)
            cells = [_whole(volume, file, offset, cell_bytes) for volume, file in pairs]
            own = b"".join(check_of(cell) for cell in cells)
            parity = code.encode(cells)
            for target, table, cell in zip(targets, checks, parity, strict=True):
                target.write(cell)
                table += own + check_of(cell)
            progress.add(cell_bytes * len(cells))
            progress.report()
        for listing, target, table in zip(lists, targets, checks, strict=True):
            _write_head(listing, target, bytes(table))
    for part, listing in zip(parts, lists, strict=True):
        part.replace(out / listing.name)
    return [out / listing.name for listing in lists]


def open_parity(path: Path) -> Parity:
    """The parity volume at ``path``; raises IntegrityError[bad-parity] or [unreadable]."""
    try:
        with open_plain(path) as file:
            length = os.fstat(file.fileno()).st_size
            size = first_member_size(file.read(BLOCK_BYTES), LIST)
            if size is None or size > _MAX_LIST_BYTES:
                raise _bad_parity(path, f"it does not begin with {LIST}")
            listing = ParityList.parse(file.read(size), str(path))
            checks_offset, cells_offset, end = listing.offsets()
            if length != end:
                raise _bad_parity(path, f"it has {length} bytes; {end} belong there")
            for header, offset in zip(
                listing.headers(), (checks_offset, cells_offset), strict=True
            ):
                file.seek(offset - len(header))
                if file.read(len(header)) != header:
                    raise _bad_parity(path, "a header is damaged")
            file.seek(checks_offset)
            checks = file.read(listing.checks_bytes)
    except OSError as error:
        raise unreadable(path, error) from error
    if Digest.of_bytes(checks) != listing.checks:
        raise _bad_parity(path, "its table of checks is damaged")
    return Parity(path, listing, checks, cells_offset)


@dataclass(frozen=True, slots=True)
class CheckedParity:
    """A parity volume of which every cell is right."""

    path: Path
    listing: ParityList

    def to_text(self) -> str:
        """One line for people."""
        listing = self.listing
        return (
            f"{self.path} holds: parity volume {listing.number} of {listing.total} over"
            f" {len(listing.sizes)} volumes of {listing.release}"
        )

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "path": str(self.path),
            "release": self.listing.release,
            "identity": str(self.listing.identity),
            "parity": self.listing.number,
            "parities": self.listing.total,
        }


def check_parity(path: Path, *, on_event: OnEvent = ignore_events) -> CheckedParity:
    """The parity volume at ``path``, every cell checked; raises IntegrityError[bad-parity]."""
    parity = open_parity(path)
    stripes, cell_bytes = parity.listing.stripes, parity.listing.cell_bytes
    progress = Progress(on_event, path.name, stripes * cell_bytes)
    wrong = 0
    with open_plain(path) as file:
        for stripe in range(stripes):
            wrong += parity.read_cell(file, stripe) is None
            progress.add(cell_bytes)
            progress.report()
    if wrong:
        raise _bad_parity(path, f"{wrong} of {stripes} cells are damaged")
    progress.report(EventKind.FINISH)
    return CheckedParity(path, parity.listing)


def _sizes(reader: Reader, document: Table) -> tuple[int, ...]:
    sizes = document.get("sizes")
    if not isinstance(sizes, list) or not sizes:
        reader.problems.append(f"{LIST}: sizes must be a list")
        return (1,)
    counted = [reader.count({"size": size}, "size", LIST) for size in sizes]
    return tuple(max(size, 1) for size in counted)


def _whole(volume: Volume, file: BinaryIO, offset: int, length: int) -> bytes:
    try:
        return os.pread(file.fileno(), length, offset).ljust(length, b"\0")
    except OSError as error:
        raise unreadable(volume.path, error) from error


def _write_head(listing: ParityList, target: BinaryIO, table: bytes) -> None:
    listing = replace(listing, checks=Digest.of_bytes(table))
    text = listing.to_bytes()
    checks_header, cells_header = listing.headers()
    checks_offset, cells_offset, _ = listing.offsets()
    for offset, data in (
        (0, member_header(LIST, len(text)) + text),
        (checks_offset - len(checks_header), checks_header + table),
        (cells_offset - len(cells_header), cells_header),
    ):
        target.seek(offset)
        target.write(data)
    target.flush()
    os.fsync(target.fileno())


def _bad_parity(path: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        "bad-parity",
        f"{path} is not a parity volume that can be used: {problem}",
        hint="carry it over again, or make it again: perimeter-bundle pack --parity",
    )
