"""A chart's archive as a value: contents by path below the chart, safely read, packed one way.

What is packed here is stored, not compressed: libraries compress differently from one version to
the next, and the same lock must give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import IntegrityError

MAX_CHART_BYTES = 32 * MIB
MAX_UNPACKED_BYTES = 256 * MIB
MAX_CHART_ENTRIES = 20_000
_STORED_BYTES = 65535  # of one block: RFC 1951, 3.2.4
_GZIP_HEADER = b"\x1f\x8b\x08\x00" + b"\0" * 4 + b"\x00\xff"  # no name, no clock, no system


def gunzip(data: bytes) -> bytes:
    """The tar in a chart's archive; raises OSError, EOFError, ValueError, zlib.error."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise ValueError("it unpacks to more than any honest chart")
    return unpacked


def unpack_chart(data: bytes, what: str) -> tuple[str, dict[str, bytes]]:
    """The chart's folder in the archive, and its files by path below that folder.

    Raises IntegrityError[bad-chart] unless it is safe to unpack; ``what`` names the archive.
    """
    problems: list[str] = []
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(gunzip(data)), mode="r:") as archive:
            for count, member in enumerate(archive, 1):
                size += member.size
                if count > MAX_CHART_ENTRIES or size > MAX_UNPACKED_BYTES:
                    problems.append("it holds more than any honest chart")
                    break
                path = PurePosixPath(member.name)
                problem = _problem(member, path)
                if problem:
                    problems.append(problem)
                    continue
                name = "/".join(path.parts[1:])
                if not member.isfile():
                    continue
                folders.add(path.parts[0])
                if name in files:
                    problems.append(f"{member.name[:100]!r} stands there twice")
                reader = archive.extractfile(member)
                files[name] = reader.read() if reader and name else b""
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        problems.append(f"not a chart archive: {str(error)[:200]}")
    if not problems and len(folders) != 1:
        problems.append("it holds not one folder, the chart's")
    if not problems and "Chart.yaml" not in files:
        problems.append("it has no Chart.yaml")
    if problems:
        raise IntegrityError("bad-chart", f"refused {what}: not a chart", problems=problems[:20])
    return folders.pop(), files


def _problem(member: tarfile.TarInfo, path: PurePosixPath) -> str:
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return f"path {member.name[:100]!r} climbs out"
    if not (member.isfile() or member.isdir()):
        return f"{member.name[:100]!r} is neither a file nor a folder"
    if member.isfile() and len(path.parts) < 2:
        return f"{member.name[:100]!r} stands beside the chart's folder"
    return ""


def pack_chart(name: str, files: FileTree) -> bytes:
    """The archive of a chart's files: sorted, mode 644, owner 0, no clock, not compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        # Chart.yaml first, as Helm writes it: what an archive is can be read from its beginning
        for path in sorted(files, key=lambda path: (path != "Chart.yaml", path)):
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size, member.mode = len(files[path]), 0o644
            archive.addfile(member, io.BytesIO(files[path]))
    return _stored(buffer.getvalue())


def _stored(data: bytes) -> bytes:
    """``data`` as gzip without compression, written by hand: RFC 1951 and RFC 1952."""
    parts = [_GZIP_HEADER]
    for start in range(0, len(data), _STORED_BYTES):
        block = data[start : start + _STORED_BYTES]
        is_last = start + _STORED_BYTES >= len(data)
        parts += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)


def below(files: FileTree, folder: str) -> Mapping[str, bytes]:
    """The files of a folder by their path in it; the folder "" is the whole tree."""
    prefix = f"{folder}/" if folder else ""
    return {path[len(prefix) :]: data for path, data in files.items() if path.startswith(prefix)}
