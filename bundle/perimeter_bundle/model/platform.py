"""Operating system and architecture an image or file was built for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perimeter_bundle.model.errors import InputError

_PART = re.compile(r"[a-z0-9._]+")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """As in an OCI image index: ``linux/amd64`` or ``linux/arm64/v8``."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform written in ``text``; raises InputError[bad-platform]."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise InputError(
                "bad-platform",
                f"not a platform: {text[:100]!r}",
                hint="write os/architecture, such as linux/amd64",
            )
        return cls(*parts)

    def serves(self, wanted: Platform) -> bool:
        """Whether something built for this platform runs where ``wanted`` is asked for."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and (
            not wanted.variant or self.variant == wanted.variant
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


LINUX_AMD64 = Platform("linux", "amd64")
