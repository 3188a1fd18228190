"""What a registry says when it wants a login, and what its token server gives.

RFC 9110, section 11, and https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DEFAULT_TOKEN_LIFE_S: Final = 60.0  # the specification's, for a server that does not say
SAFETY_S: Final = 10.0  # a token is renewed this long before it ends
MAX_TOKEN_BYTES: Final = 1024 * 1024

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|(?=,)|$)")
_PARAMETER = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers; ``scheme`` and keys are lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and for how many seconds from its request on it is to be used."""

    header: str = field(repr=False)
    life_s: float


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Every challenge in a WWW-Authenticate header, in order; what cannot be read ends the list."""
    challenges: list[Challenge] = []
    position = 0
    while position < len(header):
        scheme = _SCHEME.match(header, position)
        if not scheme:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter.group(2), parameter.group(3)
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(parameter.group(1).lower(), value)
            position = parameter.end()
        challenges.append(Challenge(scheme.group(1).lower(), parameters))
    return tuple(challenges)


def read_token(body: bytes) -> Token | None:
    """What a token server answered; None when it holds no token that a header can carry."""
    try:
        document = json.loads(body)
        text = document.get("token") or document.get("access_token")
        life = document.get("expires_in")
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(text, str) or not re.fullmatch(r"[\x21-\x7e]+", text):
        return None
    is_number = isinstance(life, int | float) and not isinstance(life, bool)
    life_s = max(float(life), DEFAULT_TOKEN_LIFE_S) if is_number and life else DEFAULT_TOKEN_LIFE_S
    return Token(f"Bearer {text}", life_s - SAFETY_S)
