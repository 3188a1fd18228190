"""Go's release archive → a go command that runs; the archive is one whose digest was locked."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from perimeter_bundle.gobuild.kept import file_digest
from perimeter_bundle.gobuild.toolchain import Toolchain, version_of
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

ROOT = "go"  # the one folder in the archive
MAX_UNPACKED_BYTES = 2 * 1024**3  # Go 1.26 is 0.25 GiB
# of no use for compiling
_LEFT_OUT = frozenset({"api", "doc", "test"})


def unpack_toolchain(archive: Path, expected: Digest, version: str, folder: Path) -> Toolchain:
    """The go command of exactly this archive, unpacked into ``folder``.

    What lies there is removed before. Raises IntegrityError[digest-mismatch], [bad-go].
    """
    found = file_digest(archive)
    if found != expected:
        raise IntegrityError(
            "digest-mismatch",
            "refused to run a Go that is not the locked one",
            context={"expected": expected, "got": found},
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive, mode="r|gz") as tar:
            _unpack(tar, folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _bad(f"it cannot be unpacked: {str(error)[:200]}") from error
    program = folder / ROOT / "bin" / "go"
    said = version_of(program) if program.is_file() else ""
    if said != version:
        raise _bad(f"it holds {said or 'no go command'}, not {version}")
    return Toolchain(program, version)


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Plain files alone; folders come with them."""
    left = MAX_UNPACKED_BYTES
    for member in tar:
        parts = PurePosixPath(member.name).parts
        if not parts or parts[0] != ROOT or ".." in parts:
            raise _bad(f"a file in it would lie outside {ROOT}/: {member.name!r}")
        if member.isdir() or (parts[1:2] and parts[1] in _LEFT_OUT):
            continue
        if member.type != tarfile.REGTYPE:
            raise _bad(f"{member.name!r} in it is no plain file")
        left -= member.size
        if left < 0:
            raise _bad("it unpacks to more than any honest one")
        reader = tar.extractfile(member)
        if reader is None:
            continue
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            shutil.copyfileobj(reader, stream)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _bad(problem: str) -> IntegrityError:
    return IntegrityError("bad-go", f"Go's archive cannot be used: {problem}")
