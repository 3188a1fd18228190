"""Where bytes of a bundle lie: a run of a plain file; a large blob may be several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Extent:
    """``size_bytes`` bytes of ``path`` from ``offset`` on."""

    path: Path
    offset: int
    size_bytes: int
