"""Closes a finished bundle: puts in the scripts that check and install it, then lists every file.

The scripts are the same in every bundle, so the same tree always gives the same SHA256SUMS.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from perimeter_bundle.format.files import write_file
from perimeter_bundle.format.layout import (
    BOOTSTRAP_SCRIPT,
    SIGNATURES,
    SUMS,
    VERIFY_README,
    VERIFY_SCRIPT,
)
from perimeter_bundle.format.sums import write_sums
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events

_MODES = {VERIFY_SCRIPT: 0o755, BOOTSTRAP_SCRIPT: 0o755, VERIFY_README: 0o644}


def seal(
    root: Path,
    *,
    known: Mapping[str, Digest] | None = None,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> Digest:
    """Writes verify.sh, VERIFY.md, bootstrap.sh and SHA256SUMS; the digest of SHA256SUMS.

    Sealing again changes nothing as long as the files are the same. When they are not, signatures
    that were made before are removed: they are no longer true.
    ``known`` is as for ``write_sums``.
    Raises IntegrityError[odd-file] for links and special files, IntegrityError[unreadable].
    """
    for name, mode in _MODES.items():
        template = resources.files("perimeter_bundle.format") / "templates" / name
        write_file(root / name, template.read_bytes(), mode=mode)
    sums = root / SUMS
    before = Digest.of_bytes(sums.read_bytes()) if sums.is_file() else None
    identity = write_sums(root, known=known, on_event=on_event, workers=workers)
    if before is not None and before != identity:
        _remove_signatures(root / SIGNATURES, on_event)
    return identity


def _remove_signatures(folder: Path, on_event: OnEvent) -> None:
    stale = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in stale:
        path.unlink()
    if stale:
        message = f"the bundle changed: {len(stale)} files of old signatures were removed; sign it"
        on_event(Event(EventKind.WARNING, "seal", message))
