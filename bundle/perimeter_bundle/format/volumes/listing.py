"""volume.json: what one volume holds. It is the first member, and with it every byte of the tar
file but the members' own is known: order, headers and lengths follow from it.

The list is not signed. Whole files are checked against the signed SHA256SUMS, which lies in every
volume; digests of pieces only find damage early, and the file they make up is checked when whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.format.layout import SIGNATURES, SUMS
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.format.sums import some
from perimeter_bundle.format.volumes.tar import END, member_header, padding_bytes
from perimeter_bundle.model.digest import Algorithm, Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.reader import Reader, Table, repeated

FORMAT = "perimeter-volume/1"
LIST = "volume.json"
MAX_LIST_BYTES = 64 * MIB
MAX_VOLUMES = 999
MAX_PIECES = 9999
PENDING = Digest(f"sha256:{'0' * 64}")  # of a piece that is not cut yet; as long as a real one
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_MEMBER_KEYS = ("path", "size", "sha256")
_PIECE_KEYS = ("piece", "pieces", "offset", "whole")


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the bundle, or one piece of it; ``digest`` is that of these very bytes."""

    path: str
    size_bytes: int
    digest: Digest
    piece: int = 0  # from 1 up; 0 for a whole file
    pieces: int = 0
    offset: int = 0  # of the piece in the whole
    whole_bytes: int = 0

    def name(self, release: str) -> str:
        """Its name in the tar file; pieces stand beside the bundle's folder, never inside."""
        if self.piece:
            return f"{release}.pieces/{self.path}/{self.piece:04d}"
        return f"{release}/{self.path}"

    def is_common(self) -> bool:
        """Whether it is in every volume: the signed list and its signatures."""
        return self.path == SUMS or self.path.startswith(f"{SIGNATURES}/")

    def to_dict(self) -> dict[str, object]:
        """As it stands in the list."""
        entry: dict[str, object] = {
            "path": self.path,
            "size": self.size_bytes,
            "sha256": self.digest.hex,
        }
        if self.piece:
            entry |= {"piece": self.piece, "pieces": self.pieces}
            entry |= {"offset": self.offset, "whole": self.whole_bytes}
        return entry


@dataclass(frozen=True, slots=True)
class VolumeList:
    """One volume of a set; ``set_digest`` is the same in all volumes that were cut together."""

    release: str
    identity: Digest  # of SHA256SUMS
    set_digest: Digest
    number: int
    total: int
    volume_bytes: int  # that no volume of the set exceeds
    bundle_bytes: int  # of all files of the bundle
    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """The file name it is written under."""
        return volume_name(self.release, self.number)

    @property
    def size_bytes(self) -> int:
        """Length of the tar file."""
        return self.data_end() + len(END)

    def cut_again(self) -> str:
        """The command that makes this volume anew, the same byte for byte."""
        return (
            f"perimeter-bundle pack BUNDLE --out DIR --volume-size {self.volume_bytes}"
            f" --only {self.number}"
        )

    def headers(self) -> Iterator[tuple[Member, bytes, int]]:
        """Each member with its header and where its own bytes begin."""
        size_bytes = len(self.to_bytes())
        offset = len(member_header(LIST, size_bytes)) + size_bytes + padding_bytes(size_bytes)
        for member in self.members:
            header = member_header(member.name(self.release), member.size_bytes)
            offset += len(header)
            yield member, header, offset
            offset += member.size_bytes + padding_bytes(member.size_bytes)

    def data_end(self) -> int:
        """Where the last member ends, its padding included."""
        *_, (member, _, offset) = self.headers()
        return offset + member.size_bytes + padding_bytes(member.size_bytes)

    def to_bytes(self) -> bytes:
        """The text of volume.json."""
        document: dict[str, object] = {
            "format": FORMAT,
            "release": self.release,
            "identity": str(self.identity),
            "set": str(self.set_digest),
            "volume": self.number,
            "volumes": self.total,
            "volume_bytes": self.volume_bytes,
            "bundle_bytes": self.bundle_bytes,
            "members": [member.to_dict() for member in self.members],
        }
        # against damage only: whoever changes the list on purpose can change this as well
        document["check"] = str(Digest.of_bytes(dump_object(document)))
        return dump_object(document)

    @classmethod
    def parse(cls, data: bytes, where: str) -> VolumeList:
        """The list in ``data``; raises IntegrityError[bad-volume] with every problem."""
        document = parse_object(data, f"{LIST} of {where}", max_bytes=MAX_LIST_BYTES)
        if document.get("format") != FORMAT:
            raise IntegrityError(
                "bad-volume",
                f"{where} is not a volume of a format known here",
                context={"expected": FORMAT, "found": str(document.get("format"))[:60]},
                hint="a newer perimeter-install may know it; volume 1 brings one along",
            )
        reader = Reader()
        keys = ("format", "release", "identity", "set", "volume", "volumes")
        reader.only(document, LIST, (*keys, "volume_bytes", "bundle_bytes", "members", "check"))
        listing = cls(
            release=reader.value(document, "release", LIST, release_name, ""),
            identity=reader.value(document, "identity", LIST, _sha256, PENDING),
            set_digest=reader.value(document, "set", LIST, _sha256, PENDING),
            number=reader.count(document, "volume", LIST),
            total=reader.count(document, "volumes", LIST),
            volume_bytes=reader.count(document, "volume_bytes", LIST),
            bundle_bytes=reader.count(document, "bundle_bytes", LIST),
            members=tuple(reader.tables(document, "members", _read_member)),
        )
        problems = reader.problems or _problems(listing)
        if problems:
            raise IntegrityError(
                "bad-volume", f"the list of {where} cannot be used", problems=some(problems)
            )
        if listing.to_bytes() != data:
            raise IntegrityError(
                "bad-volume",
                f"the list of {where} is damaged, or not written as perimeter writes it",
                hint="carry the volume over again",
            )
        return listing


def volume_name(release: str, number: int) -> str:
    """The file name of a volume; sorts by number."""
    return f"{release}.v{number:03d}.tar"


def release_name(text: str) -> str:
    """A release that may name files; raises ValueError."""
    if not _RELEASE.fullmatch(text):
        raise ValueError(f"{text[:80]!r} cannot name a file")
    return text


def _read_member(reader: Reader, table: Table, where: str) -> Member:
    where = f"members: {str(table.get('path'))[:100]!r}"
    is_piece = "piece" in table
    reader.only(table, where, (*_MEMBER_KEYS, *(_PIECE_KEYS if is_piece else ())))
    counts = {key: reader.count(table, key, where) for key in _PIECE_KEYS if is_piece}
    return Member(
        path=reader.text(table, "path", where),
        size_bytes=reader.count(table, "size", where),
        digest=reader.value(
            table, "sha256", where, lambda text: _sha256(f"sha256:{text}"), PENDING
        ),
        piece=counts.get("piece", 0),
        pieces=counts.get("pieces", 0),
        offset=counts.get("offset", 0),
        whole_bytes=counts.get("whole", 0),
    )


def _problems(listing: VolumeList) -> list[str]:
    problems = []
    if not 1 <= listing.number <= listing.total <= MAX_VOLUMES:
        problems.append(f"volume {listing.number} of {listing.total} is none")
    paths = [member.path for member in listing.members]
    problems += [f"{path!r} stands there twice" for path in repeated(paths)]
    if not paths or paths[0] != SUMS or listing.members[0].digest != listing.identity:
        problems.append(f"its first file is not the {SUMS} that it names")
    for member in listing.members:
        problem = path_problem(member.path) or _member_problem(member, listing.bundle_bytes)
        if problem:
            problems.append(f"{member.path[:200]!r}: {problem}")
    return problems


def _member_problem(member: Member, bundle_bytes: int) -> str | None:
    if not member.is_common() and max(member.size_bytes, member.whole_bytes) > bundle_bytes:
        return "it is larger than the bundle"
    if not (member.piece or member.pieces or member.offset or member.whole_bytes):
        return None
    if member.is_common():
        return "it is never cut"
    if not 1 <= member.piece <= member.pieces <= MAX_PIECES:
        return f"piece {member.piece} of {member.pieces} is none"
    if not member.size_bytes or member.offset + member.size_bytes > member.whole_bytes:
        return "the piece does not lie in the whole"
    return None


def _sha256(text: str) -> Digest:
    digest = Digest.parse(text)
    if digest.algorithm is not Algorithm.SHA256:
        raise ValueError("not a SHA-256")
    return digest
