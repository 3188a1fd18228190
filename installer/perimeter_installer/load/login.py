"""Logging in to one registry: a password with each request, or tokens where it wants those.

1. The password goes along from the start; many a registry asks for nothing else.
2. A registry that answers 401 and names a token server gets a token for each repository. The
   password then goes to that server too: over TLS, unless the registry itself is without.
3. A token is renewed before it ends, and when the registry takes it no longer.
https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urlsplit

from perimeter_bundle.model.challenge import MAX_TOKEN_BYTES, parse_challenges, read_token
from perimeter_bundle.model.errors import InputError
from perimeter_installer.load import refusals, retry
from perimeter_installer.load.connection import Connections
from perimeter_installer.load.endpoint import RegistryEndpoint

_REPOSITORY = re.compile(r"/v2/(.+)/(?:blobs|manifests|tags)/")
_SOURCE = re.compile(r"[?&]from=([^&]+)")

Scopes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Server:
    """Where tokens come from."""

    realm: str
    service: str


class Login:
    """What a registry wants to see with each request; safe to use from several threads."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        actions: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._actions = actions  # on a repository: "pull" or "pull,push"
        self._clock = clock
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._tokens: dict[Scopes, tuple[str, float]] = {}
        self._password = ""
        if endpoint.username:
            words = f"{endpoint.username}:{endpoint.password}".encode()
            self._password = f"Basic {base64.b64encode(words).decode()}"

    def scopes(self, target: str) -> Scopes:
        """What a request to ``target`` must be allowed to do, in the words of token servers."""
        repository = _REPOSITORY.match(target)
        if repository is None:
            return ("registry:catalog:*",) if target.startswith("/v2/_catalog") else ()
        scopes = [f"repository:{repository[1]}:{self._actions}"]
        source = _SOURCE.search(target)
        if source and unquote(source[1]) != repository[1]:
            scopes.append(f"repository:{unquote(source[1])}:pull")
        return tuple(scopes)

    def header(self, scopes: Scopes) -> str:
        """The Authorization header to send; empty for none. Raises as ``answer``."""
        with self._lock:
            header, until_s = self._tokens.get(scopes, ("", 0.0))
            if header and self._clock() >= until_s and self._server:
                return self._renew(self._server, scopes)
            return header or self._password

    def answer(self, scopes: Scopes, sent: str, challenge: str) -> bool:
        """Gets a token after a 401 to a request with ``sent``; False when that would not help.

        Raises TrustError[registry-login], NetworkError, and OSError where asking again may help.
        """
        with self._lock:
            header, _ = self._tokens.get(scopes, ("", 0.0))
            if header and header != sent:
                return True  # another thread was quicker
            for offered in parse_challenges(challenge):
                realm = offered.parameters.get("realm")
                if offered.scheme == "bearer" and realm:
                    self._server = _Server(realm, offered.parameters.get("service", ""))
                    return self._renew(self._server, scopes) != sent
        return False

    def _renew(self, server: _Server, scopes: Scopes) -> str:
        try:
            parts = urlsplit(server.realm)
            origin = RegistryEndpoint.parse(
                "the token server", f"{parts.scheme}://{parts.netloc}", ca_pem=self._endpoint.ca_pem
            )
        except (InputError, ValueError) as error:
            raise refusals.open_token_server(self._endpoint, server.realm[:200]) from error
        if urlsplit(self._endpoint.url).scheme == "https" and parts.scheme != "https":
            raise refusals.open_token_server(self._endpoint, origin.url)
        query = [("service", server.service)] if server.service else []
        query += [("scope", scope) for scope in scopes]
        joint = "&" if parts.query else "?"
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        headers = {"Accept": "application/json", "User-Agent": "perimeter-install"}
        if self._password:
            headers["Authorization"] = self._password
        begin_s = self._clock()
        connections = Connections(origin)
        try:
            with connections.exchange(
                "GET", f"{path}{joint}{urlencode(query)}", headers, timeout_s=retry.READ_TIMEOUT_S
            ) as response:
                body, status = response.read(MAX_TOKEN_BYTES), response.status
        finally:
            connections.close()
        if status in retry.BY_STATUS:
            raise ConnectionError(f"the token server answered {status}")
        token = read_token(body) if status == 200 else None
        if token is None:
            said = "(no token)" if status == 200 else refusals.answer_text(body)
            raise refusals.refused(self._endpoint, "log in", status, said)
        self._tokens[scopes] = (token.header, begin_s + token.life_s)
        return token.header
