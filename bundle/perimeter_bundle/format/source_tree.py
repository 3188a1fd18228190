"""A tree of source files as one archive that is the same each time, and safely back.

Plain tar: regular files alone, sorted, mode 644, owner 0, no clock. Reading refuses whatever
``pack_tree`` would not have written, byte for byte, so an archive has one meaning only.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import IntegrityError

MAX_TREE_FILES = 50_000
MAX_TREE_BYTES = 256 * MIB
# headers and padding: at most 2 KiB for each file, pax headers included
MAX_ARCHIVE_BYTES = MAX_TREE_BYTES + MAX_TREE_FILES * 2048 + MIB

FileTree = Mapping[str, bytes]  # contents by path: plain relative paths, "/" between folders


def tree_problems(files: FileTree) -> list[str]:
    """Why ``files`` may not be packed, one line each; empty when they may."""
    problems = [
        f"{path[:200]!r}: {problem}" for path in sorted(files) if (problem := path_problem(path))
    ]
    for path in files:
        above = path.rpartition("/")[0]
        while above:
            if above in files:
                problems.append(f"{above!r} is a file and a folder")
            above = above.rpartition("/")[0]
    if len(files) > MAX_TREE_FILES:
        problems.append(f"{len(files)} files are more than the {MAX_TREE_FILES} allowed")
    size = sum(len(data) for data in files.values())
    if size > MAX_TREE_BYTES:
        problems.append(f"{size} bytes are more than the {MAX_TREE_BYTES} allowed")
    return problems


def pack_tree(files: FileTree) -> bytes:
    """The archive of ``files``; raises IntegrityError[bad-source]."""
    problems = tree_problems(files)
    if problems:
        raise IntegrityError(
            "bad-source", "the source tree cannot be packed", problems=problems[:20]
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(files[path]), 0o644
            archive.addfile(member, io.BytesIO(files[path]))
    return buffer.getvalue()


def unpack_tree(data: bytes, what: str) -> dict[str, bytes]:
    """The files of an archive; raises IntegrityError[bad-source] unless ``pack_tree`` wrote it."""
    files: dict[str, bytes] = {}
    problem = ""
    if len(data) > MAX_ARCHIVE_BYTES:
        problem = f"{len(data)} bytes are more than the {MAX_ARCHIVE_BYTES} allowed"
    try:
        with tarfile.open(fileobj=io.BytesIO(data if not problem else b""), mode="r:") as archive:
            for member in archive:
                # a sparse member says to be larger than what is there
                if member.type != tarfile.REGTYPE or member.sparse is not None:
                    problem = f"{member.name[:200]!r} is not a plain file"
                    break
                reader = archive.extractfile(member)
                files[member.name] = reader.read() if reader else b""
    except (tarfile.TarError, OSError, ValueError) as error:
        problem = problem or f"not an archive: {str(error)[:200]}"
    if not problem:
        problem = next(iter(tree_problems(files)), "")
    if not problem and pack_tree(files) != data:
        problem = "it is not packed as perimeter packs"
    if problem:
        raise IntegrityError("bad-source", f"refused {what}: {problem}")
    return files
