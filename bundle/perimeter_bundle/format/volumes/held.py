"""Where the bytes of a bundle lie: in a folder, and in volumes for what the folder lacks.

The folder is what ``tar xf`` made of volume 1, or any part of the bundle; so the blobs need no
second copy. What is in both is taken from the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import Tree, list_tree, open_plain, read_file, unreadable
from perimeter_bundle.format.sums import Sums, check_extents, check_hashes, check_tree
from perimeter_bundle.format.volumes.check import damaged, unsigned_members
from perimeter_bundle.format.volumes.listing import Member
from perimeter_bundle.format.volumes.read import Volume, VolumeSet, open_volumes
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import OnEvent, ignore_events


@dataclass(frozen=True, slots=True)
class Held:
    """Every file of a bundle with its size; ``runs`` are those that lie in volumes."""

    root: Path
    sizes: Mapping[str, int]
    runs: Mapping[str, tuple[Extent, ...]] = field(default_factory=dict)

    def extents(self, path: str) -> tuple[Extent, ...]:
        """Where the bytes of a file lie, in order."""
        return self.runs.get(path) or (Extent(self.root / path, 0, self.sizes[path]),)

    def path(self, path: str) -> Path:
        """The file itself; raises InputError[not-unpacked] when it lies in volumes."""
        runs = self.runs.get(path)
        if runs:
            names = ", ".join(dict.fromkeys(run.path.name for run in runs))
            raise InputError(
                "not-unpacked",
                f"{path} is needed as a file, and lies in {names}",
                hint=f"perimeter-install unpack {runs[0].path.parent} --out {self.root}",
            )
        return self.root / path

    def read(self, path: str, max_bytes: int) -> bytes:
        """The bytes of a file, not checked; raises IntegrityError[unreadable] or [oversize]."""
        runs = self.runs.get(path)
        if not runs:
            return read_file(self.root / path, max_bytes)
        if sum(run.size_bytes for run in runs) > max_bytes:
            raise IntegrityError(
                "oversize", f"{path} is larger than any honest one", context={"allowed": max_bytes}
            )
        return b"".join(_read_run(run) for run in runs)

    def check(
        self, sums: Sums, *, on_event: OnEvent = ignore_events, workers: int | None = None
    ) -> None:
        """Raises unless every file in ``sums`` has its digest, wherever it lies."""
        inside = {path: one for path, one in sums.digests.items() if path in self.runs}
        if not inside:
            check_hashes(self.root, self.sizes, sums, on_event=on_event, workers=workers)
            return
        files = {path: self.extents(path) for path in sums.digests}
        check_extents(files, sums, on_event=on_event, workers=workers)


def hold(root: Path, volumes: Sequence[Path], sums: Sums, identity: Digest) -> Held:
    """Where the files in ``sums`` lie, exactly those.

    Raises as check_tree does, and what open_volumes raises; IntegrityError[other-release] for
    volumes of another bundle than ``identity``, [damaged-volume] for one that cannot be used.
    """
    tree = list_tree(root)
    found = open_volumes(volumes) if volumes else None
    runs = _runs(found, sums, identity) if found else {}
    lacking = {path: found for path, found in runs.items() if path not in tree.files}
    sizes = {path: sum(run.size_bytes for run in inside) for path, inside in lacking.items()}
    try:
        check_tree(Tree({**tree.files, **sizes}, tree.odd), sums)
    except IntegrityError as error:
        absent = _absent(found) if found and error.code == "missing-file" else ""
        if not absent:
            raise
        raise IntegrityError(
            error.code,
            error.message,
            problems=error.problems,
            context={"volumes that are not here": absent},
            hint="bring them too; with parity volumes, perimeter-install repair makes them anew",
        ) from error
    return Held(root, {**tree.files, **sizes}, lacking)


def _absent(found: VolumeSet) -> str:
    """The numbers of the volumes that did not come; empty when all did."""
    total = found.first.listing.total if found.volumes else 0
    numbers = [number for number in range(1, total + 1) if number not in found.volumes]
    return ", ".join(map(str, numbers))


def _runs(found: VolumeSet, sums: Sums, identity: Digest) -> dict[str, tuple[Extent, ...]]:
    if found.unusable:
        raise found.unusable[0]
    pieces: dict[str, list[tuple[Member, Extent]]] = {}
    whole: dict[str, tuple[Extent, ...]] = {}
    for volume in found.volumes.values():
        _refuse_other_bundle(volume, identity)
        problems = unsigned_members(volume.listing, sums.digests)
        if problems:
            raise damaged(volume, problems)
        for member, extent in volume.extents:
            if member.piece:
                pieces.setdefault(member.path, []).append((member, extent))
            elif not member.is_common():
                whole[member.path] = (extent,)
    return whole | dict(_put_together(pieces))


def _put_together(
    pieces: Mapping[str, list[tuple[Member, Extent]]],
) -> Iterable[tuple[str, tuple[Extent, ...]]]:
    """The files of which every piece is there, without gap or overlap."""
    for path, held in pieces.items():
        held.sort(key=lambda each: each[0].offset)
        end = 0
        for member, _ in held:
            if member.offset != end:
                break
            end += member.size_bytes
        if end == held[0][0].whole_bytes:
            yield path, tuple(extent for _, extent in held)


def _refuse_other_bundle(volume: Volume, identity: Digest) -> None:
    if volume.listing.identity != identity:
        raise IntegrityError(
            "other-release",
            f"{volume.path} is a volume of another bundle than the folder",
            context={"folder": identity, "volume": volume.listing.identity},
            hint="a folder and the volumes beside it are of one bundle",
        )


def _read_run(run: Extent) -> bytes:
    try:
        with open_plain(run.path) as file:
            return os.pread(file.fileno(), run.size_bytes, run.offset)
    except OSError as error:
        raise unreadable(run.path, error) from error
