"""What a volume is called until it is right; what a killed run left takes the next one's room."""

from __future__ import annotations

import re
from pathlib import Path


def part_of(path: Path) -> Path:
    """Where a volume lies until it gets its name."""
    return path.with_name(f".{path.name}.part")


def remove_parts(folder: Path, release: str) -> None:
    """Gives back the room that earlier runs took; the caller is alone in the folder."""
    name = re.compile(rf"\.{re.escape(release)}\.[vp]\d{{3}}\.tar\.part")
    for path in folder.iterdir():
        if name.fullmatch(path.name):
            path.unlink()
