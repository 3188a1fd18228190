"""The folder a bundle is built in: ours or empty, used by one build at a time, kept until sealed.

What is finished stays where it will lie in the bundle, so an interrupted build only does the
rest; ``.perimeter-build`` beside it marks the folder as one that is being built.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.collect.journal import Journal
from perimeter_bundle.format import layout
from perimeter_bundle.format.disc import alone_in, refuse_no_folder
from perimeter_bundle.format.files import write_file
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.registry.part_file import part_path

STATE_FORMAT = "perimeter-build/1"
_STATE = "state.json"
_JOURNAL = "journal"
_WORK = "work"
# everything a build may have put at the top; a folder with anything else is somebody's
_OURS = frozenset(
    {
        layout.OCI_LAYOUT,
        layout.INDEX,
        layout.BLOBS,
        "manifest",
        layout.CONTENT,
        layout.SBOM,
        layout.SUMS,
        layout.SIGNATURES,
        layout.VERIFY_SCRIPT,
        layout.VERIFY_README,
        layout.BOOTSTRAP_SCRIPT,
        layout.BUILD_FOLDER,
    }
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A bundle under construction; ``journal`` knows which of its blobs are right."""

    root: Path
    journal: Journal

    @property
    def work(self) -> Path:
        """For what is no part of the bundle; removed when it is finished."""
        # absolute: programs in it are run, and each in a folder of its own
        return (self.root / layout.BUILD_FOLDER / _WORK).absolute()

    def blob(self, digest: Digest) -> Path:
        """Where a blob lies or will lie."""
        return self.root / layout.blob_path(digest)

    def missing_bytes(self, sizes: Mapping[Digest, int]) -> int:
        """How much of these blobs must still be fetched, part files counted as there."""
        missing = 0
        for digest, size in sizes.items():
            blob = self.blob(digest)
            part = part_path(blob, digest)
            there = next((path.stat().st_size for path in (blob, part) if path.is_file()), 0)
            missing += max(0, size - there)
        return missing

    def keep_only(self, digests: set[Digest]) -> int:
        """Removes every blob that is not among ``digests``, and part files; how many."""
        wanted = {self.blob(digest) for digest in digests}
        removed = 0
        for path in sorted((self.root / layout.BLOBS).rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            if path not in wanted:
                path.unlink()
                removed += 1
        return removed

    def renew(self, folder: str) -> None:
        """Removes a folder of the bundle that is written anew by each build."""
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def finish(self) -> None:
        """The bundle is sealed: nothing of the building stays."""
        shutil.rmtree(self.root / layout.BUILD_FOLDER)


@contextmanager
def open_workspace(out: Path, lock: Lock, lock_bytes: bytes) -> Iterator[Workspace]:
    """The folder ``out``, held by this build alone until the block ends.

    Raises InputError[out-not-ours], HostError[busy] or [cannot-write].
    """
    refuse_foreign(out)
    build = out / layout.BUILD_FOLDER
    try:
        (build / _WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            "cannot-write", f"cannot build in {out}: {error.strerror}", hint="choose another --out"
        ) from error
    with alone_in(out, "build"):
        state = {
            "format": STATE_FORMAT,
            "release": lock.release,
            "number": lock.number,
            "lock": str(Digest.of_bytes(lock_bytes)),
        }
        write_file(build / _STATE, dump_object(state))
        journal = Journal(out, build / _JOURNAL)
        try:
            yield Workspace(out, journal)
        finally:
            journal.close()


def refuse_foreign(out: Path) -> None:
    """Raises InputError[out-not-ours] unless ``out`` is absent, empty, or being built."""
    refuse_no_folder(out)
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    foreign = sorted(names - _OURS)
    begun = layout.BUILD_FOLDER in names
    # cut off between the end of building and the list of files
    almost_finished = names >= {layout.OCI_LAYOUT, "manifest", layout.CONTENT}
    if foreign or (names and not begun and not almost_finished):
        raise InputError(
            "out-not-ours",
            f"{out} holds something that no build has put there",
            context={"found": ", ".join(foreign[:5] or sorted(names)[:5])},
            hint="choose an empty folder",
        )
