"""Opens volumes. What must hold before a byte of one is used:

1. It is a plain file that begins with volume.json, strictly written.
2. Its length and every header are exactly what that list gives: so nothing else is in it, nothing
   stands there twice, and no name climbs out.
3. All volumes given are of one set: same release, same bundle, cut together. The same volume twice
   is the same volume; two that differ under one number are refused.

The caller's part: that the SHA256SUMS in them is signed, and the digest of everything it takes out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import open_plain, unreadable
from perimeter_bundle.format.layout import SIGNATURES, SUMS
from perimeter_bundle.format.signature import MAX_SIGNATURE_BYTES
from perimeter_bundle.format.signers import Signers, judge_signers
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, some
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.volumes.listing import LIST, MAX_LIST_BYTES, Member, VolumeList
from perimeter_bundle.format.volumes.tar import (
    BLOCK_BYTES,
    END,
    first_member_size,
    member_header,
    padding_bytes,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError

_FILE = re.compile(r".+\.v\d{3}\.tar")  # and .p001.tar: parity, which nothing is taken out of


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume whose list and headers hold; its members' bytes are not checked yet."""

    path: Path
    listing: VolumeList
    extents: tuple[tuple[Member, Extent], ...]

    def describe(self) -> str:
        """Which volume it is, for messages."""
        return f"volume {self.listing.number} of {self.listing.total} of {self.listing.release}"

    def extent_of(self, path: str) -> Extent | None:
        """Where a whole file lies in it."""
        for member, extent in self.extents:
            if member.path == path and not member.piece:
                return extent
        return None

    def read(self, path: str, max_bytes: int) -> bytes:
        """The bytes of a small member; raises IntegrityError."""
        extent = self.extent_of(path)
        if extent is None or extent.size_bytes > max_bytes:
            raise _bad_volume(self.path, f"it holds no {path}, or one larger than any honest one")
        try:
            with open_plain(self.path) as file:
                file.seek(extent.offset)
                return file.read(extent.size_bytes)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def signatures(self) -> dict[str, bytes]:
        """Every signature in it by its path."""
        prefix = f"{SIGNATURES}/"
        paths = [member.path for member, _ in self.extents if member.path.startswith(prefix)]
        return {path: self.read(path, MAX_SIGNATURE_BYTES) for path in paths}

    def signed_sums(self, trust: Trust) -> tuple[Sums, bytes, Signers]:
        """The list that trusted keys signed; raises IntegrityError or TrustError."""
        data = self.read(SUMS, MAX_SUMS_BYTES)
        if Digest.of_bytes(data) != self.listing.identity:
            raise IntegrityError(
                "damaged-volume",
                f"{SUMS} in {self.path} is not the one that its list names",
                hint=_cut_again(self.listing),
            )
        sums = Sums.parse(data)
        return sums, data, judge_signers(self.signatures(), data, trust)


@dataclass(frozen=True, slots=True)
class VolumeSet:
    """Volumes that were cut together, by number; and what could not be used."""

    volumes: dict[int, Volume]
    repeated: tuple[str, ...] = ()  # copies of one that is there already
    unusable: tuple[IntegrityError, ...] = ()

    @property
    def first(self) -> Volume:
        """Any of them: what it says about the set holds for all."""
        return self.volumes[min(self.volumes)]


def open_volume(path: Path) -> Volume:
    """The volume at ``path``; raises IntegrityError[bad-volume] or [unreadable]."""
    try:
        with open_plain(path) as file:
            length = os.fstat(file.fileno()).st_size
            size = first_member_size(file.read(BLOCK_BYTES), LIST)  # 1
            if size is None or size > MAX_LIST_BYTES:
                raise _bad_volume(path, f"it does not begin with {LIST}")
            if length < BLOCK_BYTES + size:
                raise IntegrityError(
                    "bad-volume",
                    f"{path} is truncated",
                    context={"found": f"{length} bytes"},
                    hint="carry it over again",
                )
            listing = VolumeList.parse(file.read(size), str(path))
            if length != listing.size_bytes:  # 2
                word = "truncated" if length < listing.size_bytes else "too long"
                raise IntegrityError(
                    "bad-volume",
                    f"{path} is {word}",
                    context={"expected": f"{listing.size_bytes} bytes", "found": f"{length} bytes"},
                    hint=_cut_again(listing),
                )
            extents = []
            for member, header, offset in listing.headers():
                file.seek(offset - len(header))
                if file.read(len(header)) != header:
                    raise _bad_header(path, listing, member)
                extents.append((member, Extent(path, offset, member.size_bytes)))
    except OSError as error:
        raise unreadable(path, error) from error
    return Volume(path, listing, tuple(extents))


def odd_gaps(volume: Volume) -> bool:
    """Whether anything but zeros stands between the members or at the end."""
    listing = volume.listing
    size = len(listing.to_bytes())
    gaps = [(len(member_header(LIST, size)) + size, padding_bytes(size))]
    for _, extent in volume.extents:
        gaps.append((extent.offset + extent.size_bytes, padding_bytes(extent.size_bytes)))
    gaps.append((listing.size_bytes - len(END), len(END)))
    try:
        with open_plain(volume.path) as file:
            for offset, length in gaps:
                file.seek(offset)
                if any(file.read(length)):
                    return True
    except OSError as error:
        raise unreadable(volume.path, error) from error
    return False


def volume_files(paths: Sequence[Path], *, names: re.Pattern[str] = _FILE) -> list[Path]:
    """The volumes that ``paths`` mean: files, and folders that hold some by these names.

    Raises InputError[no-volumes].
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError("no-volumes", f"there is no {path}")
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if names.fullmatch(each.name))
            if not inside:
                raise InputError(
                    "no-volumes",
                    f"{path} holds no volume",
                    hint="volumes are named RELEASE.v001.tar, RELEASE.v002.tar, …",
                )
            found += inside
        else:
            found.append(path)
    return found


def open_volumes(paths: Sequence[Path]) -> VolumeSet:
    """The volumes at ``paths``, files or folders, in any order.

    Raises InputError[no-volumes], IntegrityError[other-release], [other-set] or
    [volume-conflict]; one that cannot be used is told, not raised, while there are others.
    """
    opened: list[Volume] = []
    unusable: list[IntegrityError] = []
    for path in volume_files(paths):
        try:
            opened.append(open_volume(path))
        except IntegrityError as error:
            unusable.append(error)
    if not opened:
        raise unusable[0]
    return VolumeSet(*_one_set(opened), tuple(unusable))


def _one_set(opened: Iterable[Volume]) -> tuple[dict[int, Volume], tuple[str, ...]]:  # 3
    volumes: dict[int, Volume] = {}
    repeated: list[str] = []
    for volume in opened:
        if volumes:
            refuse_other_set(volume, next(iter(volumes.values())))
        other = volumes.setdefault(volume.listing.number, volume)
        if other is volume:
            continue
        if other.listing != volume.listing:
            raise IntegrityError(
                "volume-conflict",
                f"two different files are {volume.describe()}",
                problems=[str(other.path), str(volume.path)],
                hint="check each with verify-volume; take away the one that does not hold",
            )
        repeated.append(f"{volume.path} is {volume.describe()}, as {other.path} is")
    return dict(sorted(volumes.items())), tuple(repeated)


def refuse_other_set(volume: Volume, other: Volume) -> None:
    """Raises unless both were cut together."""
    mine, theirs = volume.listing, other.listing
    if mine.identity != theirs.identity:
        raise IntegrityError(
            "other-release",
            f"{volume.path} is a volume of another bundle",
            context={
                other.path.name: f"{theirs.release} ({theirs.identity})",
                volume.path.name: f"{mine.release} ({mine.identity})",
            },
            hint="volumes of one bundle go together; take the others away",
        )
    if mine.set_digest != theirs.set_digest:
        raise IntegrityError(
            "other-set",
            f"{volume.path} was cut in another way than {other.path}",
            context={
                other.path.name: f"{theirs.total} volumes of up to {theirs.volume_bytes} bytes",
                volume.path.name: f"{mine.total} volumes of up to {mine.volume_bytes} bytes",
            },
            hint="the size and the bundle's signatures must be the same for all:"
            f" --volume-size {theirs.volume_bytes}",
        )


def _cut_again(listing: VolumeList) -> str:
    return f"carry it over again, or cut it alone again: {listing.cut_again()}"


def _bad_header(path: Path, listing: VolumeList, member: Member) -> IntegrityError:
    return IntegrityError(
        "bad-volume",
        f"{path} does not hold what its list says",
        problems=some([f"no header of {member.name(listing.release)} where one belongs"]),
        hint=_cut_again(listing),
    )


def _bad_volume(path: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        "bad-volume",
        f"{path} is not a volume that can be used: {problem}",
        hint="carry it over again",
    )
