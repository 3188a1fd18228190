"""Rebuilds lost and damaged volumes from the others and the parity volumes.

1. The parity volumes given are of one set and agree; one that is damaged is left out.
2. Every cell of every volume is read and compared with its check: what cannot be read, is missing
   or is wrong counts as lost.
3. No stripe has lost more cells than there are good parity cells for; else nothing is written.
4. There is room; then each volume with a loss is written anew beside its name: good cells copied,
   lost ones rebuilt and checked, and it gets its name when its list and headers hold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from perimeter_bundle.format.disc import alone_in, disc_errors, refuse_without_room
from perimeter_bundle.format.files import open_plain
from perimeter_bundle.format.sums import some
from perimeter_bundle.format.volumes.copying import Progress
from perimeter_bundle.format.volumes.listing import volume_name
from perimeter_bundle.format.volumes.parity import (
    Parity,
    ParityList,
    check_of,
    is_parity,
    open_parity,
    read_cell,
)
from perimeter_bundle.format.volumes.parts import part_of, remove_parts
from perimeter_bundle.format.volumes.read import open_volume
from perimeter_bundle.format.volumes.stripes import Stripes
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events


@dataclass(frozen=True, slots=True)
class RepairReport:
    """The volumes that were rebuilt, of how many; the others were right."""

    release: str
    total: int
    rebuilt: tuple[Path, ...]

    def to_text(self) -> str:
        """A line for people, and one for each volume."""
        if not self.rebuilt:
            return f"release {self.release}: all {self.total} volumes are right"
        head = f"release {self.release}: {len(self.rebuilt)} of {self.total} volumes were rebuilt"
        return "\n".join([head, *(f"  {path}" for path in self.rebuilt)])

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        rebuilt = [str(path) for path in self.rebuilt]
        return {"release": self.release, "volumes": self.total, "rebuilt": rebuilt}


def repair(
    folder: Path, *, out: Path | None = None, on_event: OnEvent = ignore_events
) -> RepairReport:
    """Rebuilds what is lost of the volumes in ``folder``; new ones are written to ``out``.

    ``out`` is the folder itself when it is None. Raises InputError[no-parity],
    IntegrityError[beyond-repair], [other-set] or [bad-parity]; HostError[no-room] or [disc-error].
    """
    parities = _open_parities(folder, on_event)  # 1
    repairing = _Repairing(folder, out or folder, parities, on_event)
    with ExitStack() as stack:
        repairing.open(stack)
        repairing.scan()  # 2
        repairing.refuse_beyond_repair()  # 3
        with disc_errors(repairing.out):
            rebuilt = repairing.rebuild()  # 4
    listing = parities[0].listing
    return RepairReport(listing.release, len(listing.sizes), tuple(rebuilt))


def _open_parities(folder: Path, on_event: OnEvent) -> list[Parity]:
    paths = sorted(path for path in folder.iterdir() if is_parity(path)) if folder.is_dir() else []
    opened: list[Parity] = []
    errors: list[IntegrityError] = []
    for path in paths:
        try:
            opened.append(open_parity(path))
        except IntegrityError as error:
            errors.append(error)
            on_event(Event(EventKind.WARNING, "repair", f"left out: {error.message}"))
    if not opened:
        if errors:
            raise errors[0]
        raise InputError(
            "no-parity",
            f"{folder} holds no parity volume",
            hint="they are named RELEASE.p001.tar …; lost volumes can also be cut again alone:"
            " perimeter-bundle pack --only",
        )
    for parity in opened[1:]:
        if _same(parity.listing) != _same(opened[0].listing):
            raise IntegrityError(
                "other-set",
                f"{parity.path} and {opened[0].path} are parity of different volumes",
                hint="keep those of one set in the folder",
            )
    return list({parity.listing.number: parity for parity in opened}.values())


def _same(listing: ParityList) -> tuple[object, ...]:
    return (listing.set_digest, listing.identity, listing.total, listing.cell_bytes, listing.sizes)


class _Repairing:
    def __init__(
        self, folder: Path, out: Path, parities: Sequence[Parity], on_event: OnEvent
    ) -> None:
        self.out, self.parities, self.on_event = out, parities, on_event
        self.listing = parities[0].listing
        self.count = len(self.listing.sizes)
        release = self.listing.release
        self.names = [volume_name(release, number) for number in range(1, self.count + 1)]
        self.paths = [folder / name for name in self.names]
        self.files: list[BinaryIO | None] = []
        self.parity_files: list[BinaryIO] = []
        self.lost: dict[int, list[int]] = {}  # places by stripe
        self.beyond: list[str] = []

    def open(self, stack: ExitStack) -> None:
        """Opens what is there."""
        for path in self.paths:
            try:
                self.files.append(stack.enter_context(open_plain(path)))
            except OSError:
                self.files.append(None)
        self.parity_files = [stack.enter_context(open_plain(p.path)) for p in self.parities]

    def scan(self) -> None:
        """Finds every lost cell, and the stripes that have lost too many."""
        progress = self._progress("scan", self.count)
        for stripe in range(self.listing.stripes):
            lost = [place for place in range(self.count) if self._cell(stripe, place) is None]
            if lost:
                self.lost[stripe] = lost
                good = sum(cell is not None for cell in self._parity_cells(stripe))
                if good < len(lost):
                    names = ", ".join(self.names[place] for place in lost)
                    self.beyond.append(f"stripe {stripe}: {names}; {good} parity cells are good")
            progress.add(self.listing.cell_bytes * self.count)
            progress.report()
        progress.report(EventKind.FINISH)
        for place, file in enumerate(self.files):  # what stands behind the last byte is no cell
            if file and os.fstat(file.fileno()).st_size > self.listing.sizes[place]:
                self.lost.setdefault(self.listing.stripes - 1, []).append(place)

    def refuse_beyond_repair(self) -> None:
        """Raises when a stripe has lost more than the parity volumes give back."""
        if self.beyond:
            raise IntegrityError(
                "beyond-repair",
                f"{len(self.beyond)} of {self.listing.stripes} stripes have lost too much",
                problems=some(self.beyond),
                hint="bring more of the parity volumes, or cut the volumes that are named again"
                " alone: perimeter-bundle pack --only",
            )

    def rebuild(self) -> list[Path]:
        """Writes every volume with a loss anew."""
        places = sorted({place for lost in self.lost.values() for place in lost})
        if not places:
            return []
        needed = sum(self.listing.sizes[place] for place in places)
        with alone_in(self.out):
            remove_parts(self.out, self.listing.release)
            refuse_without_room(self.out, needed, f"{len(places)} volumes")
            return self._write(places)

    def _write(self, places: Sequence[int]) -> list[Path]:
        code = Stripes(self.count, self.listing.total, self.listing.cell_bytes)
        parts = {place: part_of(self.out / self.names[place]) for place in places}
        progress = self._progress("rebuild", len(places))
        with ExitStack() as stack:
            targets = {place: stack.enter_context(parts[place].open("wb")) for place in places}
            for stripe in range(self.listing.stripes):
                cells = self._stripe(stripe, places, code)
                for place, target in targets.items():
                    left = self.listing.sizes[place] - stripe * self.listing.cell_bytes
                    target.write(cells[place][: max(0, left)])
                progress.add(self.listing.cell_bytes * len(places))
                progress.report()
            for target in targets.values():
                target.flush()
                os.fsync(target.fileno())
        progress.report(EventKind.FINISH)
        return [self._name(parts[place], place) for place in places]

    def _name(self, part: Path, place: int) -> Path:
        volume = open_volume(part)
        if volume.listing.set_digest != self.listing.set_digest:
            raise IntegrityError(
                "other-set",
                f"what was rebuilt is not {self.names[place]} of this set",
                hint="the parity volumes were made of other volumes",
            )
        return part.replace(self.out / self.names[place])

    def _stripe(self, stripe: int, places: Sequence[int], code: Stripes) -> dict[int, bytes]:
        lost = self.lost.get(stripe, [])
        wanted = range(self.count) if lost else places
        # what is copied is checked again; a source that changed since gives a cell that is wrong
        cells = {
            place: cell
            for place in wanted
            if (cell := self._cell(stripe, place, again=place in places)) is not None
        }
        missing = [place for place in wanted if place not in cells]
        if not missing:
            return cells
        known = dict(cells)
        for parity, cell in zip(self.parities, self._parity_cells(stripe), strict=True):
            if cell is not None:
                known[self.count + parity.listing.number - 1] = cell
        if len(known) < self.count:
            raise self._changed(stripe)
        for place, cell in zip(missing, code.rebuild(known, missing), strict=True):
            if check_of(cell) != self.parities[0].check_of(stripe, place):
                raise self._changed(stripe)
            cells[place] = cell
        return cells

    def _changed(self, stripe: int) -> IntegrityError:
        return IntegrityError(
            "beyond-repair",
            f"stripe {stripe} cannot be rebuilt",
            hint="a volume changed meanwhile, or the parity volumes do not belong together",
        )

    def _cell(self, stripe: int, place: int, *, again: bool = True) -> bytes | None:
        """A cell that is right, or None; not ``again``: one that was right when it was read."""
        file, length = self.files[place], self.listing.cell_bytes
        cell = read_cell(file, stripe * length, length) if file else None
        if not again:
            return cell
        good = cell is not None and check_of(cell) == self.parities[0].check_of(stripe, place)
        return cell if good else None

    def _parity_cells(self, stripe: int) -> list[bytes | None]:
        pairs = zip(self.parities, self.parity_files, strict=True)
        return [parity.read_cell(file, stripe) for parity, file in pairs]

    def _progress(self, task: str, volumes: int) -> Progress:
        return Progress(
            self.on_event, task, self.listing.stripes * self.listing.cell_bytes * volumes
        )
