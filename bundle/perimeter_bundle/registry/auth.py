"""Logging in to registries: the challenge, the token, and when a new one is due.

https://distribution.github.io/distribution/spec/auth/token/ and RFC 9110, section 11.
Tokens live in memory only. The password of a host goes to that host, or to the token server the
host itself names; never to a mirror of it, never along a redirect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from perimeter_bundle.model.challenge import (
    MAX_TOKEN_BYTES,
    Challenge,
    parse_challenges,
    read_token,
)
from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.registry.answer import Answer, refusal, shown_url
from perimeter_bundle.registry.credentials import Credentials
from perimeter_bundle.registry.transport import Transport


@dataclass(frozen=True, slots=True)
class _Token:
    header: str = field(repr=False)
    good_until_s: float | None  # by the monotonic clock; None: as long as the server takes it


class Authenticator:
    """Adds what a registry wants to see; one for all hosts, safe to use from many threads."""

    def __init__(
        self, transport: Transport, credentials_for: Callable[[str], Credentials | None]
    ) -> None:
        self._transport = transport
        self._credentials_for = credentials_for
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._guard = threading.Lock()

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        host: str,
        scope: str,
        accept: frozenset[int] = frozenset(),
        attempted: str,
    ) -> Answer:
        """As ``Transport.open``; logs in when the server asks, and once more when a token ended.

        ``host`` is whose credentials may be used. Raises NetworkError[unauthorized] after that.
        """
        header = self._current(host, scope)
        for last in (False, True):
            sent = {**headers, "Authorization": header} if header else dict(headers)
            answer = self._transport.open(
                method, url, sent, accept=accept | {401}, attempted=attempted
            )
            if answer.status != 401:
                return answer
            with answer:
                if last:
                    raise refusal(answer, attempted)
                challenges = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
                # a redirect target must not choose where this host's password goes
                if urlsplit(answer.url).netloc != urlsplit(url).netloc or not challenges:
                    raise refusal(answer, attempted)
            header = self._renew(host, scope, header, challenges, url, attempted)
        raise AssertionError("unreachable: the second round returns or raises")

    def _current(self, host: str, scope: str) -> str:
        token = self._tokens.get((host, scope))
        if token is None or self._is_over(token):
            return ""
        return token.header

    def _is_over(self, token: _Token) -> bool:
        if token.good_until_s is None:
            return False
        return self._transport.clock.monotonic() >= token.good_until_s

    def _renew(
        self,
        host: str,
        scope: str,
        stale: str,
        challenges: tuple[Challenge, ...],
        url: str,
        attempted: str,
    ) -> str:
        key = (host, scope)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            # another thread may have fetched a new one while this one waited
            current = self._current(host, scope)
            if current and current != stale:
                return current
            token = self._log_in(host, scope, challenges, url, attempted)
            self._tokens[key] = token
            return token.header

    def _log_in(
        self, host: str, scope: str, challenges: tuple[Challenge, ...], url: str, attempted: str
    ) -> _Token:
        credentials = self._credentials_for(host)
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return self._fetch_token(host, scope, challenge, credentials, url)
            if challenge.scheme == "basic" and credentials and not credentials.is_identity_token:
                return _Token(credentials.basic_header(), None)
        offered = ", ".join(sorted({challenge.scheme for challenge in challenges}))
        raise NetworkError(
            "unauthorized",
            f"{attempted}: {host} wants a login",
            context={
                "offered": offered,
                "credentials": "none found" if not credentials else "not usable for this",
            },
            hint=f"run docker login {host}, or name a config.json with --docker-config",
        )

    def _fetch_token(
        self,
        host: str,
        scope: str,
        challenge: Challenge,
        credentials: Credentials | None,
        url: str,
    ) -> _Token:
        realm = challenge.parameters["realm"]
        attempted = f"logging in to {host}"
        if urlsplit(url).scheme == "https" and urlsplit(realm).scheme != "https":
            raise NetworkError(
                "not-https",
                f"{attempted}: its token server is without TLS",
                context={"address": shown_url(realm)},
                hint="tell whoever runs the registry; the password was not sent",
            )
        query = {"service": challenge.parameters.get("service", ""), "scope": scope}
        query = {key: value for key, value in query.items() if value}
        headers = {"Accept": "application/json"}
        if credentials and credentials.is_identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": credentials.secret,
                "client_id": "perimeter",
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            opened = self._transport.open(
                "POST", realm, headers, body=urlencode(form).encode(), attempted=attempted
            )
        else:
            if credentials:
                headers["Authorization"] = credentials.basic_header()
            separator = "&" if "?" in realm else "?"
            opened = self._transport.open(
                "GET", f"{realm}{separator}{urlencode(query)}", headers, attempted=attempted
            )
        started_s = self._transport.clock.monotonic()
        with opened as answer:
            return _read_token(answer.read_all(MAX_TOKEN_BYTES, attempted), attempted, started_s)


def _read_token(body: bytes, attempted: str, now_s: float) -> _Token:
    token = read_token(body)
    if token is None:  # and the answer itself must not be shown: it may be a secret
        raise NetworkError(
            "bad-answer",
            f"{attempted}: the token server gave no token",
            hint="something else than the expected server answered",
        )
    return _Token(token.header, now_s + token.life_s)
