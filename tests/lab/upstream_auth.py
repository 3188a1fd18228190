"""Anonymous tokens as public registries give them: short-lived, for one repository, checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass, field

LIFETIME_S = 60


@dataclass(frozen=True, slots=True)
class Tokens:
    """Gives tokens and checks them; a token of another server's key is worth nothing."""

    key: bytes = field(default_factory=lambda: os.urandom(32))
    lifetime_s: int = LIFETIME_S

    def issue(self, service: str, scopes: list[str], now: float | None = None) -> str:
        expires = (time.time() if now is None else now) + self.lifetime_s
        claims = {"service": service, "scopes": scopes, "expires": expires}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode())
        return f"{body.decode()}.{self._sign(body)}"

    def refusal(self, token: str, service: str, scope: str, now: float | None = None) -> str | None:
        """Why a token does not do, in the registry's words; None where it does."""
        body, _, signature = token.partition(".")
        if not hmac.compare_digest(signature, self._sign(body.encode())):
            return "invalid_token"
        claims = json.loads(base64.urlsafe_b64decode(body))
        if claims["expires"] < (time.time() if now is None else now):
            return "invalid_token"
        if claims["service"] != service or scope not in claims["scopes"]:
            return "insufficient_scope"
        return None

    def _sign(self, body: bytes) -> str:
        return hmac.new(self.key, body, hashlib.sha256).hexdigest()
