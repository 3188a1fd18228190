"""Roles, playbooks and collections out of a bundle into memory, hashed once more on the way.

What was reviewed is what runs, whatever happens to the medium after it was verified; and a slow
stick is read once, not for each of Ansible's worker processes.
"""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.format import layout
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_installer.run.private import write_private

_PARTS = (layout.ROLES, layout.PLAYBOOKS, layout.COLLECTIONS)


def copy_content(bundle: VerifiedBundle, folder: Path) -> None:
    """Copies what Ansible runs to ``folder`` under its name in the bundle.

    Raises IntegrityError[digest-mismatch] when a file changed since the bundle was verified.
    """
    for part in _PARTS:
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in bundle.files_below(part):
            write_private(folder / name, bundle.read(name))
