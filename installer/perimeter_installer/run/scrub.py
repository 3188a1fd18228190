"""Takes secrets out of text that leaves memory: logs, errors, events."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

MASK = "***"
# Shorter values would blank out ordinary words; nothing perimeter makes is shorter.
SHORTEST = 6


class Scrubber:
    """Replaces every secret, also in base64 as Kubernetes shows it, by three stars."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for value in secrets if len(value) >= SHORTEST}
        values |= {base64.b64encode(value.encode()).decode() for value in tuple(values)}
        ordered = sorted(values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """``text`` without any secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text
