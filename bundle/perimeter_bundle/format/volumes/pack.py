"""Cuts a bundle into volumes, one after the other; what is there and right is not cut again.

1. The bundle holds exactly the files that its SHA256SUMS lists, and it is signed.
2. Every volume is planned, and there is room for those that are not there yet.
3. A volume is written beside its final name, each file hashed against SHA256SUMS in the same pass;
   then its list, flushed, and renamed. What is killed leaves a part file, which is written anew.
4. A file that is cut in pieces is hashed as a whole before the first piece of it is written.
5. Parity volumes are written when all others are there, in one pass over them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perimeter_bundle.format.disc import alone_in, disc_errors, refuse_without_room
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import Tree, list_tree, read_file
from perimeter_bundle.format.layout import BUNDLE_MANIFEST, SUMS, blob_path
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, PLAYBOOK_KINDS, BundleManifest
from perimeter_bundle.format.signers import read_signatures
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, check_tree
from perimeter_bundle.format.volumes.check import wrong_bytes
from perimeter_bundle.format.volumes.copying import Progress, Run, copy_runs
from perimeter_bundle.format.volumes.listing import (
    LIST,
    PENDING,
    Member,
    VolumeList,
    release_name,
)
from perimeter_bundle.format.volumes.parity import (
    CELL_BYTES,
    open_parity,
    parity_name,
    refuse_too_many,
    reserve_bytes,
    write_parity,
)
from perimeter_bundle.format.volumes.parts import part_of, remove_parts
from perimeter_bundle.format.volumes.plan import Contents, plan_volumes
from perimeter_bundle.format.volumes.read import Volume, open_volume
from perimeter_bundle.format.volumes.tar import member_header
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events


@dataclass(frozen=True, slots=True)
class PackRequest:
    """What is cut, where to and how large; ``only`` names the volumes that are wanted."""

    bundle: Path
    out: Path
    volume_bytes: int
    only: tuple[int, ...] = ()
    deep: bool = False  # hash volumes that are there, instead of trusting their length and list
    parity: int = 0  # how many volumes may be lost
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class PackedVolume:
    """A volume that is there now."""

    path: Path
    listing: VolumeList
    written: bool  # by this run


@dataclass(frozen=True, slots=True)
class PackReport:
    """The volumes that were asked for, in their order; ``total`` counts all of the set."""

    release: str
    identity: Digest
    total: int
    volumes: tuple[PackedVolume, ...]
    parity: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        return {
            "release": self.release,
            "identity": str(self.identity),
            "volumes": self.total,
            "packed": [
                {
                    "path": str(packed.path),
                    "volume": packed.listing.number,
                    "size_bytes": packed.listing.size_bytes,
                    "written": packed.written,
                }
                for packed in self.volumes
            ],
            "parity": [str(path) for path in self.parity],
        }


def pack(request: PackRequest, on_event: OnEvent = ignore_events) -> PackReport:
    """Writes the volumes that are not there yet.

    Raises InputError[volume-size], [not-signed], [no-such-volume] or [out-not-ours];
    HostError[no-room], [busy] or [disc-error]; IntegrityError for a bundle that is not as listed.
    """
    contents = read_contents(request.bundle)  # 1
    lists = _planned(contents, request)  # 2
    wanted = _wanted(lists, request.only)
    with disc_errors(request.out), alone_in(request.out):
        _refuse_others(request.out, lists[0])
        there = {
            listing.number: volume
            for listing in wanted
            if (volume := _already(request, listing, on_event)) is not None
        }
        missing = [listing for listing in wanted if listing.number not in there]
        needed = sum(listing.size_bytes for listing in missing)
        wants_parity = request.parity and not request.only
        made = _parity_there(request, lists) if wants_parity else ()
        what = f"{len(missing)} volumes"
        if wants_parity and not made:
            needed += request.parity * (
                max(each.size_bytes for each in lists) + reserve_bytes(request.volume_bytes)
            )
            what += f" and {request.parity} parity volumes"
        remove_parts(request.out, lists[0].release)
        refuse_without_room(request.out, needed, what)
        written = _write_all(request, missing, on_event)
        if wants_parity and not made:
            made = _write_parity(request, lists, on_event)
    packed = [PackedVolume(v.path, v.listing, False) for v in there.values()]
    packed += [PackedVolume(request.out / each.name, each, True) for each in written]
    return PackReport(
        contents.release,
        contents.identity,
        len(lists),
        tuple(sorted(packed, key=lambda each: each.listing.number)),
        tuple(made),
    )


def _planned(contents: Contents, request: PackRequest) -> tuple[VolumeList, ...]:
    """The volumes; with parity they are a little smaller, so that parity volumes fit as well.

    The same with ``only``: so a lost volume is what it was before.
    """
    if not request.parity:
        return plan_volumes(contents, request.volume_bytes)
    lists = plan_volumes(contents, request.volume_bytes - reserve_bytes(request.volume_bytes))
    refuse_too_many(len(lists), request.parity)
    return lists


def _parity_there(request: PackRequest, lists: Sequence[VolumeList]) -> tuple[Path, ...]:
    """The parity volumes when all of them are there and of these volumes."""
    numbers = range(1, request.parity + 1)
    paths = [request.out / parity_name(lists[0].release, number) for number in numbers]
    try:
        found = [open_parity(path).listing for path in paths]
    except IntegrityError:
        return ()
    same = (lists[0].set_digest, request.parity)
    right = all((listing.set_digest, listing.total) == same for listing in found)
    return tuple(paths) if right else ()


def _write_parity(
    request: PackRequest, lists: Sequence[VolumeList], on_event: OnEvent
) -> tuple[Path, ...]:
    volumes = [open_volume(request.out / listing.name) for listing in lists]
    largest = max(each.size_bytes for each in lists)
    total = -(-largest // CELL_BYTES) * CELL_BYTES * len(lists)
    progress = Progress(on_event, "parity", total)
    paths = write_parity(volumes, request.out, request.parity, progress)
    progress.report(EventKind.FINISH)
    return tuple(paths)


def read_contents(bundle: Path) -> Contents:
    """What ``bundle`` holds by its own list; its bytes are hashed while they are cut."""
    sums_bytes = read_file(bundle / SUMS, MAX_SUMS_BYTES)
    sums = Sums.parse(sums_bytes)
    tree = list_tree(bundle)
    check_tree(tree, sums)
    signatures = read_signatures(bundle)
    if not signatures:
        raise InputError(
            "not-signed",
            f"{bundle} is not signed yet",
            hint="every volume carries the signatures: perimeter-bundle sign first",
        )
    manifest = BundleManifest.parse(read_file(bundle / BUNDLE_MANIFEST, MAX_MANIFEST_BYTES))
    try:
        release = release_name(manifest.release)
    except ValueError as error:
        raise IntegrityError("bad-manifest", f"the release {error}") from error
    common = [Member(SUMS, len(sums_bytes), Digest.of_bytes(sums_bytes))]
    for path in sorted(signatures):
        common.append(Member(path, len(signatures[path]), Digest.of_bytes(signatures[path])))
    early = (item.payload for kind in PLAYBOOK_KINDS for item in manifest.items_of(kind))
    return Contents(
        release,
        common[0].digest,
        _files(sums, tree),
        tuple(common),
        frozenset(blob_path(payload) for payload in early),
    )


def _files(sums: Sums, tree: Tree) -> dict[str, tuple[int, Digest]]:
    return {path: (tree.files[path], digest) for path, digest in sums.digests.items()}


def _wanted(lists: Sequence[VolumeList], only: Sequence[int]) -> list[VolumeList]:
    unknown = sorted({number for number in only if not 1 <= number <= len(lists)})
    if unknown:
        raise InputError(
            "no-such-volume",
            f"there is no volume {', '.join(map(str, unknown))}",
            context={"volumes": f"1 to {len(lists)}"},
            hint="the number depends on --volume-size; give the size the others were cut with",
        )
    return [listing for listing in lists if not only or listing.number in only]


def _refuse_others(out: Path, expected: VolumeList) -> None:
    """Raises when ``out`` holds volumes of this release that were cut in another way."""
    name = re.compile(re.escape(expected.release) + r"\.v\d{3}\.tar")
    for path in sorted(path for path in out.iterdir() if name.fullmatch(path.name)):
        try:
            found = open_volume(path).listing
        except IntegrityError:
            continue  # damaged: it is cut again, or stays as it is
        if found.set_digest != expected.set_digest:
            raise InputError(
                "out-not-ours",
                f"{path} is a volume of another bundle, or was cut in another way",
                context={
                    "this bundle": f"{expected.identity}, {expected.volume_bytes} bytes a volume",
                    "that volume": f"{found.identity}, {found.volume_bytes} bytes a volume",
                },
                hint="choose another --out, give its --volume-size, or take the old volumes away",
            )


def _already(request: PackRequest, listing: VolumeList, on_event: OnEvent) -> Volume | None:
    path = request.out / listing.name
    if not path.exists():
        return None
    try:
        volume = open_volume(path)
    except IntegrityError as error:
        message = f"{listing.name} is cut again: {error.message}"
        on_event(Event(EventKind.WARNING, "pack", message))
        return None
    if request.deep:
        wrong = wrong_bytes(volume, on_event=on_event, workers=request.workers)
        if wrong:
            message = f"{listing.name} is cut again: {wrong[0]}"
            on_event(Event(EventKind.WARNING, "pack", message))
            return None
    on_event(Event(EventKind.SKIP, listing.name, "is there"))
    return volume


def _write_all(
    request: PackRequest, lists: Sequence[VolumeList], on_event: OnEvent
) -> list[VolumeList]:
    cut = {m.path: m.whole_bytes for each in lists for m in each.members if m.piece}
    total = sum(m.size_bytes for each in lists for m in each.members) + sum(cut.values())
    progress = Progress(on_event, "pack", total, len(lists))
    sums = Sums.parse(read_file(request.bundle / SUMS, MAX_SUMS_BYTES))
    whole: set[str] = set()
    written = []
    for listing in lists:
        for path in {member.path for member in listing.members if member.piece} - whole:
            _check_whole(request, path, cut[path], sums.digests[path], progress)  # 4
            whole.add(path)
        written.append(_write(request, listing, progress))
        progress.add_item()
    progress.report(EventKind.FINISH)
    return written


def _check_whole(
    request: PackRequest, path: str, size_bytes: int, expected: Digest, progress: Progress
) -> None:
    run = Run((Extent(request.bundle / path, 0, size_bytes),), path)

    def judge(_: Run, found: Digest | IntegrityError) -> None:
        if found != expected:
            raise _wrong(path, expected, found)

    copy_runs([run], judge, progress, request.workers)


def _write(request: PackRequest, listing: VolumeList, progress: Progress) -> VolumeList:  # 3
    path = request.out / listing.name
    part = part_of(path)
    runs, members = [], {}
    with part.open("wb") as file:
        file.truncate(listing.size_bytes)
        for member, header, offset in listing.headers():
            file.seek(offset - len(header))
            file.write(header)
            source = Extent(request.bundle / member.path, member.offset, member.size_bytes)
            run = Run((source,), member.path, part, offset)
            runs.append(run)
            members[run] = member
    pieces: dict[Member, Digest] = {}

    def judge(run: Run, found: Digest | IntegrityError) -> None:
        member = members[run]
        if isinstance(found, Digest) and member.digest == PENDING:
            pieces[member] = found
        elif found != member.digest:
            raise _wrong(member.path, member.digest, found)

    copy_runs(runs, judge, progress, request.workers)
    cut = tuple(replace(m, digest=pieces.get(m, m.digest)) for m in listing.members)
    listing = replace(listing, members=cut)
    data = listing.to_bytes()
    with part.open("r+b") as begun:
        begun.write(member_header(LIST, len(data)) + data)
        begun.flush()
        os.fsync(begun.fileno())
    part.replace(path)
    return listing


def _wrong(path: str, expected: Digest, found: Digest | IntegrityError) -> IntegrityError:
    if isinstance(found, IntegrityError):
        return found
    return IntegrityError(
        "digest-mismatch",
        f"{path}: not the bytes that the bundle lists",
        context={"expected": expected, "found": found},
        hint="the bundle changed since it was built; build again into the same folder",
    )
