"""Checks volumes alone: everything in one of them, whatever became of the others.

1. The list and the headers hold (read.py), and nothing stands between the members.
2. Enough trusted keys signed the SHA256SUMS in it.
3. Every whole file is listed there, and its bytes are the signed ones.
4. Every piece is of a listed file, and its bytes are those that the volume's list names; the file
   itself is checked when all pieces of it are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.sums import some
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.volumes.copying import Progress, Run, copy_runs
from perimeter_bundle.format.volumes.listing import Member, VolumeList
from perimeter_bundle.format.volumes.read import Volume, odd_gaps, open_volume
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import EventKind, OnEvent, ignore_events


@dataclass(frozen=True, slots=True)
class CheckedVolume:
    """A volume of which everything above held."""

    path: Path
    listing: VolumeList
    signers: tuple[str, ...]

    def to_text(self) -> str:
        """One line for people."""
        listing = self.listing
        files = sum(1 for member in listing.members if not member.piece)
        pieces = len(listing.members) - files
        cut = f" and {pieces} pieces" if pieces else ""
        return (
            f"{self.path} holds: volume {listing.number} of {listing.total} of {listing.release},"
            f" {files} files{cut}, signed by {', '.join(self.signers)}"
        )

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "path": str(self.path),
            "release": self.listing.release,
            "identity": str(self.listing.identity),
            "volume": self.listing.number,
            "volumes": self.listing.total,
            "size_bytes": self.listing.size_bytes,
            "signers": list(self.signers),
        }


def check_volume(
    path: Path, trust: Trust, *, on_event: OnEvent = ignore_events, workers: int | None = None
) -> CheckedVolume:
    """The volume at ``path``, every byte checked; raises IntegrityError or TrustError.

    IntegrityError[damaged-volume] holds everything that is wrong with it, and how to have it anew.
    """
    volume = open_volume(path)  # 1
    sums, _, signers = volume.signed_sums(trust)  # 2
    problems = unsigned_members(volume.listing, sums.digests)  # 3, 4
    if odd_gaps(volume):
        problems.append("there is something between its files")
    problems += wrong_bytes(volume, on_event=on_event, workers=workers)
    if problems:
        raise damaged(volume, problems)
    return CheckedVolume(path, volume.listing, tuple(key.name for key in signers.trusted))


def unsigned_members(listing: VolumeList, digests: Mapping[str, Digest]) -> list[str]:
    """What the list of a volume says and the signed one does not."""
    problems = []
    for member in listing.members:
        if member.is_common():
            continue
        if member.path not in digests:
            problems.append(f"{member.path} is not listed in SHA256SUMS")
        elif not member.piece and member.digest != digests[member.path]:
            problems.append(f"{member.path}: its list names other bytes than the signed ones")
    return problems


def wrong_bytes(
    volume: Volume, *, on_event: OnEvent = ignore_events, workers: int | None = None
) -> list[str]:
    """A line for each member whose bytes are not those that the volume's list names."""
    problems: list[str] = []
    members: dict[Run, Member] = {}
    for member, extent in volume.extents:
        members[Run((extent,), member.name(volume.listing.release))] = member

    def judge(run: Run, found: Digest | IntegrityError) -> None:
        if found != members[run].digest:
            problems.append(problem_of(members[run], found))

    total = sum(run.size_bytes for run in members)
    progress = Progress(on_event, volume.path.name, total)
    copy_runs(members, judge, progress, workers)
    progress.report(EventKind.FINISH)
    return sorted(problems)


def problem_of(member: Member, found: Digest | IntegrityError) -> str:
    """What is wrong with a member."""
    piece = f", piece {member.piece} of {member.pieces}" if member.piece else ""
    if isinstance(found, IntegrityError):
        return f"{member.path}{piece}: {found.message}"
    return f"{member.path}{piece}: expected {member.digest}, found {found}"


def damaged(volume: Volume, problems: list[str]) -> IntegrityError:
    """The error for a volume with wrong bytes."""
    return IntegrityError(
        "damaged-volume",
        f"{volume.path} ({volume.describe()}) does not hold what was packed",
        problems=some(problems),
        hint=f"carry it over again, or cut it alone again: {volume.listing.cut_again()}",
    )
