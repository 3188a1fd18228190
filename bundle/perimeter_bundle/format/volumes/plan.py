"""Which file goes into which volume. Pure: same files and same size, same volumes.

1. SHA256SUMS and the signatures go into every volume, so that each is checkable alone.
2. Everything but blobs comes first, then the blobs that playbooks need as files: so volume 1 is
   what a closed site starts from.
3. Other blobs follow, the largest first, each into the first volume with room for it.
4. What is larger than an empty volume is cut in pieces that fill volumes of their own; smaller
   files fill up the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perimeter_bundle.format.layout import BLOBS
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.format.volumes.listing import (
    LIST,
    MAX_PIECES,
    MAX_VOLUMES,
    PENDING,
    Member,
    VolumeList,
)
from perimeter_bundle.format.volumes.tar import (
    BLOCK_BYTES,
    END,
    member_bytes,
    member_header,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.terminal.text import human_bytes

_LEAST_PIECE_BYTES = 4096
_LARGEST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Contents:
    """What is cut: the files that SHA256SUMS lists, and what goes into every volume."""

    release: str
    identity: Digest
    files: Mapping[str, tuple[int, Digest]]
    common: tuple[Member, ...]  # SHA256SUMS, then the signatures
    early: frozenset[str] = frozenset()  # blobs that are needed as files


@dataclass(slots=True)
class _Bin:
    left: int
    members: list[Member] = field(default_factory=list)


def plan_volumes(contents: Contents, volume_bytes: int) -> tuple[VolumeList, ...]:
    """Every volume; digests of pieces are PENDING, since only cutting tells them.

    Raises InputError[volume-size] for a size that is too small for this bundle.
    """
    bundle_bytes = sum(size for size, _ in contents.files.values())
    room = volume_bytes - _fixed_bytes(contents)
    least = volume_bytes - room + max(_LEAST_PIECE_BYTES, bundle_bytes // (MAX_VOLUMES - 1))
    if volume_bytes < least + _overhead(contents):
        raise InputError(
            "volume-size",
            f"volumes of {human_bytes(volume_bytes)} are too small for this bundle",
            context={
                "every volume holds": f"{human_bytes(volume_bytes - room)} of lists and signatures",
                "at least": human_bytes(least + _overhead(contents)),
                "volumes at most": MAX_VOLUMES,
            },
            hint="--volume-size 700M for CDs, 4G for FAT32, 25G for Blu-ray discs",
        )
    bins: list[_Bin] = []
    for member in _in_order(contents):
        _place(member, bins, room, contents.release)
    if len(bins) > MAX_VOLUMES:
        raise InputError(
            "volume-size",
            f"the bundle would be {len(bins)} volumes; {MAX_VOLUMES} are allowed",
            hint="give a larger --volume-size",
        )
    return _lists(contents, bins, volume_bytes, bundle_bytes)


def _in_order(contents: Contents) -> Iterator[Member]:
    files = [Member(path, size, digest) for path, (size, digest) in contents.files.items()]
    others = [file for file in files if not file.path.startswith(f"{BLOBS}/")]
    blobs = [file for file in files if file.path.startswith(f"{BLOBS}/")]
    yield from sorted(others, key=lambda file: file.path.encode())
    yield from sorted(
        blobs,
        key=lambda file: (file.path not in contents.early, -file.size_bytes, file.path.encode()),
    )


def _place(member: Member, bins: list[_Bin], room: int, release: str) -> None:
    cost = _cost(member, release)
    if cost > room:
        for piece in _pieces(member, room, release):
            bins.append(_Bin(room - _cost(piece, release), [piece]))
        return
    place = next((bin_ for bin_ in bins if bin_.left >= cost), None)
    if place is None:
        place = _Bin(room)
        bins.append(place)
    place.left -= cost
    place.members.append(member)


def _pieces(member: Member, room: int, release: str) -> Iterator[Member]:
    # counted with the largest numbers there can be, so the cost of no piece is underestimated
    widest = replace(
        member,
        size_bytes=_LARGEST,
        digest=PENDING,
        piece=MAX_PIECES,
        pieces=MAX_PIECES,
        offset=_LARGEST,
        whole_bytes=member.size_bytes,
    )
    overhead = _overhead_bytes(widest, release)
    each = (room - overhead) // BLOCK_BYTES * BLOCK_BYTES
    count = -(-member.size_bytes // each)
    for index in range(count):
        offset = index * each
        yield Member(
            path=member.path,
            size_bytes=min(each, member.size_bytes - offset),
            digest=PENDING,
            piece=index + 1,
            pieces=count,
            offset=offset,
            whole_bytes=member.size_bytes,
        )


def _cost(member: Member, release: str) -> int:
    """Bytes a member adds to a volume: in the tar file, and in the list."""
    listed = len(dump_object({"members": [member.to_dict()]}))
    return listed + member_bytes(member.name(release), member.size_bytes)


def _overhead_bytes(member: Member, release: str) -> int:
    """The most that a member adds besides its own bytes."""
    listed = len(dump_object({"members": [member.to_dict()]}))
    return listed + len(member_header(member.name(release), member.size_bytes)) + BLOCK_BYTES


def _overhead(contents: Contents) -> int:
    """The most that any file adds besides its bytes, cut or not."""
    longest = max(contents.files, key=lambda path: len(path.encode()), default="")
    piece = Member(longest, _LARGEST, PENDING, MAX_PIECES, MAX_PIECES, _LARGEST, _LARGEST)
    return _overhead_bytes(piece, contents.release)


def _fixed_bytes(contents: Contents) -> int:
    """What every volume takes before its own files."""
    empty = VolumeList(
        contents.release,
        contents.identity,
        PENDING,
        MAX_VOLUMES,
        MAX_VOLUMES,
        _LARGEST,
        _LARGEST,
        (),
    )
    listed = len(empty.to_bytes()) + len(member_header(LIST, 0)) + BLOCK_BYTES
    return listed + sum(_cost(member, contents.release) for member in contents.common) + len(END)


def _lists(
    contents: Contents, bins: Sequence[_Bin], volume_bytes: int, bundle_bytes: int
) -> tuple[VolumeList, ...]:
    members = [
        (*contents.common, *sorted(bin_.members, key=lambda member: member.path.encode()))
        for bin_ in bins
    ] or [contents.common]
    lists = [
        VolumeList(
            contents.release,
            contents.identity,
            PENDING,
            number,
            len(members),
            volume_bytes,
            bundle_bytes,
            held,
        )
        for number, held in enumerate(members, 1)
    ]
    # pieces have no digest yet, so the set is named after what every volume will hold
    set_digest = Digest.of_bytes(b"".join(listing.to_bytes() for listing in lists))
    return tuple(replace(listing, set_digest=set_digest) for listing in lists)
