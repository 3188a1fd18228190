"""Puts volumes together to the bundle they were cut from; discs may come one after the other.

1. The volumes given are of one set, and of the one that was begun in the folder.
2. Enough trusted keys signed the SHA256SUMS in them: nothing else decides what is right.
3. There is room for what is not there yet.
4. Each file is hashed while it is copied, and gets its name only when its digest is the signed one.
   Pieces go into one part file, at their place; it is hashed whole before it gets its name.
5. When a volume is done, its files are flushed and it is noted. What was not noted is hashed again
   by the next run, before it is believed.
6. SHA256SUMS comes last: a folder without it is not a bundle yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.format.disc import (
    alone_in,
    disc_errors,
    flush_disc,
    refuse_no_folder,
    refuse_without_room,
)
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import list_tree, read_file, write_file
from perimeter_bundle.format.layout import SUMS, UNPACK_FOLDER
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, check_tree, some
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.volumes.check import problem_of, unsigned_members
from perimeter_bundle.format.volumes.copying import Progress, Run, copy_runs
from perimeter_bundle.format.volumes.listing import Member
from perimeter_bundle.format.volumes.read import Volume, VolumeSet, open_volumes
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events

STATE_FORMAT = "perimeter-unpack/1"
_STATE = "state.json"
_MAX_STATE_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class UnpackReport:
    """How far the folder is; ``missing_volumes`` are those that never came."""

    release: str
    identity: Digest
    root: Path
    files: int
    total_files: int
    missing_volumes: tuple[int, ...]
    incomplete: tuple[str, ...]  # a line for each file of which some pieces are there

    @property
    def complete(self) -> bool:
        """Whether the bundle is whole."""
        return self.files == self.total_files

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        return {
            "release": self.release,
            "identity": str(self.identity),
            "bundle": str(self.root),
            "complete": self.complete,
            "files": self.files,
            "total_files": self.total_files,
            "missing_volumes": list(self.missing_volumes),
            "incomplete": list(self.incomplete),
        }


def unpack(
    paths: Sequence[Path],
    out: Path,
    trust: Trust,
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> UnpackReport:
    """Takes what is in the volumes at ``paths``, files or folders, into ``out``.

    Raises what open_volumes raises; TrustError; InputError[out-not-ours]; HostError[no-room],
    [busy] or [disc-error]; IntegrityError[damaged-volume] at the end, after everything else was
    taken, with what is wrong in which volume.
    """
    volumes = open_volumes(paths)  # 1
    for line in volumes.repeated:
        on_event(Event(EventKind.NOTE, "unpack", f"{line}; it is used once"))
    sums, sums_bytes, _ = volumes.first.signed_sums(trust)  # 2
    with disc_errors(out), _begun_in(out, volumes.first, sums_bytes) as state:
        run = _Unpacking(out, volumes, sums, state, on_event, workers)
        run.believe()
        run.refuse_without_room()  # 3
        run.take_all()
        report = run.report()
        if report.complete:
            _finish(out, volumes.first, sums_bytes)
    run.refuse_damage()
    return report


@dataclass(slots=True)
class _State:
    """What earlier runs noted."""

    folder: Path
    set_digest: Digest
    volumes: set[int] = field(default_factory=set)  # of which everything was taken
    files: dict[str, int] = field(default_factory=dict)  # right and flushed, with their sizes
    pieces: dict[str, dict[int, int]] = field(default_factory=dict)  # bytes by piece, by path

    def write(self) -> None:
        pieces = {
            path: {str(piece): size for piece, size in sorted(held.items())}
            for path, held in self.pieces.items()
        }
        document: dict[str, object] = {
            "format": STATE_FORMAT,
            "set": str(self.set_digest),
            "volumes": sorted(self.volumes),
            "files": self.files,
            "pieces": pieces,
        }
        write_file(self.folder / _STATE, dump_object(document))

    def part(self, path: str) -> Path:
        """Where a file lies until it is right."""
        return self.folder / Digest.of_bytes(path.encode()).hex


class _Unpacking:
    def __init__(
        self,
        out: Path,
        volumes: VolumeSet,
        sums: Sums,
        state: _State,
        on_event: OnEvent,
        workers: int | None,
    ) -> None:
        self.out, self.volumes, self.sums, self.state = out, volumes, sums, state
        self.on_event, self.workers = on_event, workers
        self.there: set[str] = set()
        self.problems: dict[int, list[str]] = {}
        self.progress: Progress

    def believe(self) -> None:
        """Which files are there: those that were noted, and others once they are hashed."""
        tree = list_tree(self.out)
        if tree.odd:
            check_tree(tree, self.sums)
        found = {path: size for path, size in tree.files.items() if path in self.sums.digests}
        noted = self.state.files
        self.there = {path for path, size in found.items() if noted.get(path) == size}
        runs = [
            Run((Extent(self.out / path, 0, size),), path)
            for path, size in found.items()
            if path not in self.there
        ]

        def judge(run: Run, digest: Digest | IntegrityError) -> None:
            if digest == self.sums.digests[run.what]:
                self.there.add(run.what)

        if runs:
            total = sum(run.size_bytes for run in runs)
            progress = Progress(self.on_event, "what is there", total)
            copy_runs(runs, judge, progress, self.workers)
            progress.report(EventKind.FINISH)

    def refuse_without_room(self) -> None:
        """Raises HostError[no-room] when the rest of the bundle does not fit."""
        tree = list_tree(self.out)
        # blocks, not lengths: a part file has holes where its pieces are missing
        parts = sum(path.stat().st_blocks * 512 for path in self.state.folder.iterdir())
        there = sum(tree.files[path] for path in self.there) + parts
        rest = max(0, self.volumes.first.listing.bundle_bytes - there)
        refuse_without_room(self.out, rest, "the rest of the bundle")

    def take_all(self) -> None:
        """Copies what the volumes hold and the folder lacks."""
        wanted = [(v, self._wanted(v)) for v in self.volumes.volumes.values()]
        total = sum(extent.size_bytes for _, all_ in wanted for _, extent in all_)
        self.progress = Progress(self.on_event, "unpack", total, len(wanted))
        for volume, members in wanted:
            problems = unsigned_members(volume.listing, self.sums.digests)
            if problems:  # its list was changed: nothing in it is worth a try
                self.problems[volume.listing.number] = problems
                continue
            self._take(volume, members)
            self.progress.add_item()
        self.progress.report(EventKind.FINISH)

    def report(self) -> UnpackReport:
        """How far the folder is."""
        first = self.volumes.first.listing
        seen = self.state.volumes | set(self.volumes.volumes)
        complete = len(self.there) == len(self.sums.digests)
        missing = tuple(n for n in range(1, first.total + 1) if n not in seen)
        return UnpackReport(
            release=first.release,
            identity=first.identity,
            root=self.out,
            files=len(self.there),
            total_files=len(self.sums.digests),
            missing_volumes=() if complete else missing,
            incomplete=tuple(
                _pieces_text(path, held) for path, held in sorted(self.state.pieces.items())
            ),
        )

    def refuse_damage(self) -> None:
        """Raises when a volume could not be used as a whole."""
        lines = [error.message for error in self.volumes.unusable]
        hints = [error.hint for error in self.volumes.unusable if error.hint]
        for number, problems in self.problems.items():
            volume = self.volumes.volumes[number]
            lines += [f"{volume.path} ({volume.describe()}): {line}" for line in problems]
            hints.append(f"carry it over again, or cut it alone: {volume.listing.cut_again()}")
        if lines:
            raise IntegrityError(
                "damaged-volume",
                "not everything could be taken; the rest is unpacked and stays",
                problems=some(lines),
                hint="; ".join(hints[:3]),
            )

    def _wanted(self, volume: Volume) -> list[tuple[Member, Extent]]:
        return [
            (member, extent)
            for member, extent in volume.extents
            if not member.is_common()
            and member.path not in self.there
            and member.piece not in self.state.pieces.get(member.path, {})
        ]

    def _take(self, volume: Volume, members: Sequence[tuple[Member, Extent]]) -> None:  # 4
        runs = {}
        for member, extent in members:
            target = self.state.part(member.path)
            if not member.piece:
                target.unlink(missing_ok=True)
            run = Run((extent,), member.path, target, member.offset)
            runs[run] = member

        def judge(run: Run, found: Digest | IntegrityError) -> None:
            member = runs[run]
            if found != member.digest:
                self._note_problem(volume, problem_of(member, found))
            elif member.piece:
                self._take_piece(volume, member)
            else:
                self._name(member.path)

        copy_runs(runs, judge, self.progress, self.workers)
        flush_disc(self.out)  # 5
        for member in volume.listing.members:
            if member.path in self.there and not member.piece:
                self.state.files[member.path] = member.size_bytes
        if volume.listing.number not in self.problems:
            self.state.volumes.add(volume.listing.number)
        self.state.write()

    def _take_piece(self, volume: Volume, member: Member) -> None:
        held = self.state.pieces.setdefault(member.path, {})
        held[member.piece] = member.size_bytes
        if len(held) < member.pieces or sum(held.values()) != member.whole_bytes:
            flush_disc(self.out)
            self.state.write()
            return  # the last piece is not noted before the whole is right
        del self.state.pieces[member.path]
        if self._is_right(member):
            self._name(member.path)
            flush_disc(self.out)
            self.state.files[member.path] = member.whole_bytes
        else:
            self.state.part(member.path).unlink()
            self.state.volumes.clear()  # all pieces are wanted again
            self._note_problem(
                volume, f"{member.path}: its {member.pieces} pieces do not make up the signed file"
            )
        self.state.write()

    def _is_right(self, member: Member) -> bool:
        """Whether the pieces in the part file make up the signed file."""
        whole = Run((Extent(self.state.part(member.path), 0, member.whole_bytes),), member.path)
        right = []
        progress = Progress(self.on_event, member.path, member.whole_bytes)
        copy_runs(
            [whole],
            lambda _, found: right.append(found == self.sums.digests[member.path]),
            progress,
            self.workers,
        )
        progress.report(EventKind.FINISH)
        return all(right)

    def _name(self, path: str) -> None:
        final = self.out / path
        final.parent.mkdir(parents=True, exist_ok=True)
        self.state.part(path).replace(final)
        self.there.add(path)

    def _note_problem(self, volume: Volume, problem: str) -> None:
        self.problems.setdefault(volume.listing.number, []).append(problem)


@contextmanager
def _begun_in(out: Path, volume: Volume, sums_bytes: bytes) -> Iterator[_State]:
    """The folder, held by this run alone, with what earlier runs noted in it."""
    _refuse_foreign(out, sums_bytes)
    folder = out / UNPACK_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        state = _read_state(folder, volume)
        state.write()
        yield state


def _refuse_foreign(out: Path, sums_bytes: bytes) -> None:
    """Raises unless ``out`` is absent, empty, begun, or holds some of this very bundle."""
    refuse_no_folder(out)
    if not out.exists() or not any(out.iterdir()) or (out / UNPACK_FOLDER).is_dir():
        return
    sums = out / SUMS
    if not sums.is_file() or read_file(sums, MAX_SUMS_BYTES) != sums_bytes:
        raise InputError(
            "out-not-ours",
            f"{out} holds something that is not of this bundle",
            hint="choose an empty folder",
        )


def _read_state(folder: Path, volume: Volume) -> _State:
    listing = volume.listing
    path = folder / _STATE
    if not path.exists():
        return _State(folder, listing.set_digest)
    document = parse_object(
        read_file(path, _MAX_STATE_BYTES), str(path), max_bytes=_MAX_STATE_BYTES
    )
    if document.get("format") != STATE_FORMAT or document.get("set") != str(listing.set_digest):
        raise InputError(
            "out-not-ours",
            f"other volumes are being unpacked in {folder.parent}",
            context={"begun with": document.get("set"), "given": listing.set_digest},
            hint="give the rest of those, or choose an empty folder",
        )
    volumes, files = document.get("volumes"), document.get("files")
    pieces = document.get("pieces")
    if not (isinstance(volumes, list) and isinstance(files, dict) and isinstance(pieces, dict)):
        raise IntegrityError("bad-state", f"{path} is damaged", hint=f"remove {folder}")
    return _State(
        folder,
        listing.set_digest,
        {int(number) for number in volumes},
        {str(name): int(size) for name, size in files.items()},
        {p: {int(n): int(size) for n, size in held.items()} for p, held in pieces.items()},
    )


def _pieces_text(path: str, held: Mapping[int, int]) -> str:
    numbers = ", ".join(map(str, sorted(held)))
    there = f"piece {numbers} is" if len(held) == 1 else f"pieces {numbers} are"
    return f"{path}: {there} there so far"


def _finish(out: Path, volume: Volume, sums_bytes: bytes) -> None:  # 6
    for path, data in volume.signatures().items():
        write_file(out / path, data)
    flush_disc(out)
    write_file(out / SUMS, sums_bytes)
    shutil.rmtree(out / UNPACK_FOLDER)
