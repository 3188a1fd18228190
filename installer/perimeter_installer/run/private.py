"""A folder in memory for what must never lie on a disc: variables with secrets, kubeconfigs.

Its name carries the owner's process id, so that a run that was killed can be cleaned up after: the
next start removes folders of processes that are gone and ends Ansible processes they left behind.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perimeter_bundle.model.errors import HostError

log = logging.getLogger(__name__)

PREFIX = "perimeter-run-"
MEMORY_FOLDERS = (Path("/dev/shm"), Path("/run"))  # noqa: S108 - tmpfs is what is wanted
MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})
# Ansible's processes carry the folder's name in this variable; leftovers are found by it.
OWNER_VARIABLE = "PERIMETER_PRIVATE_FOLDER"


@contextmanager
def private_folder(candidates: Sequence[Path] = MEMORY_FOLDERS) -> Iterator[Path]:
    """A new folder in memory, mode 0700, removed in any case when the block ends.

    Raises HostError[no-memory-folder] when this machine has no file system in memory.
    """
    parent = _memory_folder(candidates)
    remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        end_processes_of(folder)  # workers of a cancelled playbook, ssh's shared connections
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> tuple[Path, ...]:
    """Removes folders of processes that are gone; gives back which."""
    removed = []
    for folder in parent.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            mine = folder.lstat().st_uid == os.getuid()
        except OSError:
            continue
        if not mine or folder.is_symlink() or not owner.isdigit() or _runs(int(owner)):
            continue
        end_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("removed %s, left behind by process %s", folder, owner)
        removed.append(folder)
    return tuple(removed)


def end_processes_of(folder: Path) -> tuple[int, ...]:
    """Ends the Ansible processes that were started for ``folder``; gives back their ids."""
    wanted = f"{OWNER_VARIABLE}={folder}".encode()
    ended = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                ended.append(int(process.name))
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return tuple(ended)


def write_private(path: Path, data: bytes) -> None:
    """A new file of mode 0600 from its first moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)


def _memory_folder(candidates: Sequence[Path]) -> Path:
    types = _file_system_types(Path("/proc/self/mountinfo").read_text())
    for folder in candidates:
        if types.get(str(folder)) in MEMORY_TYPES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise HostError(
        "no-memory-folder",
        "secrets are kept in memory only, and this machine has no file system in memory",
        context={"looked at": ", ".join(map(str, candidates))},
        hint="mount a tmpfs on /dev/shm",
    )


def _file_system_types(mountinfo: str) -> dict[str, str]:
    """Mount point → file system type, the last mount on a point counting."""
    types = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        types[fields.split()[4]] = rest.split()[0]
    return types


def _runs(process: int) -> bool:
    return Path(f"/proc/{process}").is_dir()
