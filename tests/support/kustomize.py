"""The real kustomize, built from its Go module into the lab's cache, as its project packs it."""

from __future__ import annotations

import gzip
import io
import tarfile
from functools import lru_cache
from pathlib import Path

from tests.lab.build import tool


@lru_cache(maxsize=1)
def kustomize_program() -> Path:
    """The program."""
    return tool("kustomize")


@lru_cache(maxsize=1)
def kustomize_archive() -> bytes:
    """The program in a .tar.gz."""
    raw = io.BytesIO()
    program = kustomize_program()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("kustomize")
        member.size, member.mode = program.stat().st_size, 0o755
        with program.open("rb") as stream:
            archive.addfile(member, stream)
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)
