"""Writing files so that a crash leaves the old or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from perimeter_bundle.model.errors import HostError


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Puts ``data`` in place of ``path``; raises HostError[cannot-write]."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise HostError(
            "cannot-write",
            f"cannot write {path}: {error.strerror}",
            hint="is there room, and may this user write there?",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes renames and new files in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
