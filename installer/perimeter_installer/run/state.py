"""What the installer keeps between runs, in ``<site folder>/.perimeter`` (mode 0700).

``lock`` one run at a time · ``journal.jsonl`` what was begun and finished · ``audit.jsonl`` who did
what · ``logs/`` whole output of each step · ``rendered/`` objects as the last apply meant them ·
``loaded/`` what bundles named that were loaded · ``tools/`` programs for the jump host.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import HostError
from perimeter_installer.site.model import Site


@dataclass(frozen=True, slots=True)
class State:
    """Names of everything in a site's state folder."""

    folder: Path

    @classmethod
    def of(cls, site: Site) -> State:
        """The state of ``site``; makes nothing."""
        return cls(site.state_folder)

    @property
    def journal(self) -> Path:
        """What was begun and finished, one JSON line each."""
        return self.folder / "journal.jsonl"

    @property
    def audit(self) -> Path:
        """Who ran what and how it ended, one JSON line each."""
        return self.folder / "audit.jsonl"

    @property
    def rendered(self) -> Path:
        """Objects as the last apply meant them, ``<component>/<name>.yaml``."""
        return self.folder / "rendered"

    @property
    def loaded(self) -> Path:
        """The bundle.json of each bundle that was loaded, by the bundle's identity."""
        return self.folder / "loaded"

    @property
    def logs(self) -> Path:
        """One file for each step of each run."""
        return self.folder / "logs"

    @property
    def tools(self) -> Path:
        """Programs that run on the jump host, out of the bundle."""
        return self.folder / "tools"

    def make(self) -> None:
        """Makes the folders; raises HostError[cannot-write]."""
        try:
            for folder in (self.folder, self.logs, self.tools):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise HostError(
                "cannot-write",
                f"cannot make the state folder {self.folder}: {error.strerror}",
                hint="perimeter keeps its journal beside site.yaml and must be able to write there",
            ) from error

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Holds the site's lock; raises HostError[already-running] naming the process."""
        self.make()
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                raise HostError(
                    "already-running",
                    "another run works on this site",
                    context={"holder": holder or "unknown"},
                    hint="wait for it; the lock goes away with its process",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}: {command}\n".encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
