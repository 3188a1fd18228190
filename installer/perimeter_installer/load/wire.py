"""Requests to one registry, tried again where that helps; what all verbs of the push side share."""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import NetworkError
from perimeter_installer.load import refusals, retry
from perimeter_installer.load.body import BlobBody, Cancelled
from perimeter_installer.load.connection import Connections
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.login import Login

log = logging.getLogger(__name__)

LINE_FAILURES = (http.client.HTTPException, OSError)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry said, whole."""

    status: int
    headers: http.client.HTTPMessage  # the case of their names does not matter
    data: bytes = b""  # no more than refusals.MAX_ANSWER_BYTES


class Wire:
    """Asks one registry over a pool of connections; safe to use from several threads."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        *,
        sleep: Callable[[float], object] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        actions: str = "pull,push",
    ) -> None:
        self.endpoint = endpoint
        self.cancelled = threading.Event()
        self.sleep = sleep or self.cancelled.wait
        self.let_in = False  # whether the registry took our login before
        self.connections = Connections(endpoint)
        self.login = Login(endpoint, actions)
        self._headers = {"User-Agent": "perimeter-install", **headers}

    def once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BlobBody | None = None,
        timeout_s: float = retry.READ_TIMEOUT_S,
    ) -> Answer:
        """One answer, whatever it is; raises one of LINE_FAILURES when there is none.

        A 401 that a new token may help is asked again, but for a blob's bytes: those are the
        caller's to send again.
        """
        if self.cancelled.is_set():
            raise Cancelled
        return self._ask(method, path, headers, body=body, timeout_s=timeout_s)

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BlobBody | None = None,
        timeout_s: float,
    ) -> Answer:
        def ask(login: Mapping[str, str]) -> Answer:
            with self.connections.exchange(
                method, path, {**self._headers, **login, **headers}, body=body, timeout_s=timeout_s
            ) as response:
                return _whole(response)

        return self._logged_in(path, ask, twice=not isinstance(body, BlobBody))

    def _logged_in(
        self, path: str, ask: Callable[[Mapping[str, str]], Answer], *, twice: bool = True
    ) -> Answer:
        """What ``ask`` gets with the headers of our login."""
        scopes = self.login.scopes(path)
        sent = self.login.header(scopes)
        answer = ask({"Authorization": sent} if sent else {})
        if answer.status != 401:
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        if not self.login.answer(scopes, sent, challenge) or not twice:
            return answer
        return ask({"Authorization": self.login.header(scopes)})

    def send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        expect: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """An answer with a status of ``expect``; raises a PerimeterError after the retries."""
        return self.retrying(
            what, lambda: self.once(method, path, headers or {}, body=body), expect=expect
        )

    def retrying(
        self, what: str, attempt: Callable[[], Answer], *, expect: tuple[int, ...]
    ) -> Answer:
        """What ``attempt`` gives as soon as its status is one of ``expect``."""
        tries = Tries(self, what)
        while True:
            try:
                answer = attempt()
            except LINE_FAILURES as error:
                tries.wait_after_silence(error)
                continue
            if answer.status in expect:
                self.let_in = True
                return answer
            tries.wait_after_answer(answer)

    def read(
        self,
        path: str,
        what: str,
        use: Callable[[http.client.HTTPResponse], Result],
        *,
        method: str = "GET",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Result | None:
        """What ``use`` makes of an answer 200 as it comes in; None for 404. Tried as ``send``."""
        results: list[Result] = []

        def ask(login: Mapping[str, str]) -> Answer:
            if self.cancelled.is_set():
                raise Cancelled
            with self.connections.exchange(
                method,
                path,
                {**self._headers, **login, **headers},
                timeout_s=retry.READ_TIMEOUT_S,
            ) as response:
                if response.status != 200:
                    return _whole(response)
                results.append(use(response))
                return Answer(200, response.headers)

        self.retrying(what, lambda: self._logged_in(path, ask), expect=(200, 404))
        return results[0] if results else None

    def abandon(self, location: str, name: str) -> None:
        """Removes what a failed upload left on the registry's disc; helps when that is full.

        Distribution accepts the removal only with a location that knows how much has arrived.
        """

        def ask(method: str, where: str) -> Answer:
            return self._ask(method, where, {}, timeout_s=retry.CLEANUP_TIMEOUT_S)

        gone = 0
        try:
            for number in range(retry.CLEANUP_TRIES):
                status = ask("GET", location)
                gone = gone + 1 if status.status == 404 else 0
                # it may still be writing what had arrived, and makes the file again then
                if gone == 2 or (gone and not number):
                    return
                if not gone:
                    if status.status == 204:
                        location = self.location(status, name, location)
                    ask("DELETE", location)
                time.sleep(retry.CLEANUP_WAIT_S)
        except (*LINE_FAILURES, NetworkError) as error:
            log.info("%s keeps a half upload for some days: %s", self.endpoint.name, error)

    def location(self, answer: Answer, name: str, asked: str) -> str:
        """Where an upload goes on after the answer to ``asked``: there, when nothing is said.

        Raises NetworkError[registry-redirect] for another host.
        """
        location = answer.headers.get("Location", "")
        target = self.target(location, asked)
        if target is None:
            found = urlsplit(location)
            raise refusals.redirected(self.endpoint, name, f"{found.scheme}://{found.netloc}")
        return target

    def target(self, address: str, beside: str = "/") -> str | None:
        """The path and query of an address of this registry; None for any other server's.

        ``address`` may be relative to ``beside``. Credentials never go to another server.
        """
        try:
            found = urlsplit(urljoin(urljoin(self.endpoint.url, beside), address))
        except ValueError:
            return None
        ours = urlsplit(self.endpoint.url)
        if (ours.scheme, ours.netloc) != (found.scheme, found.netloc):
            return None
        return found._replace(scheme="", netloc="", fragment="").geturl() or "/"


def _whole(response: http.client.HTTPResponse) -> Answer:
    """The answer with its body, of which only so much is kept as people would read."""
    return Answer(response.status, response.headers, response.read(refusals.MAX_ANSWER_BYTES))


class Tries:
    """How often one thing was tried: each failure either waits here or is raised."""

    def __init__(self, wire: Wire, what: str) -> None:
        self._wire = wire
        self._what = what
        self._number = 1

    def wait_after_silence(self, error: Exception) -> None:
        """Waits before the next try, or raises what people can act on."""
        endpoint = self._wire.endpoint
        if tls.is_untrusted(error):
            raise refusals.untrusted(endpoint, error) from error
        timed_out = isinstance(error, TimeoutError)
        rule = retry.ON_TIMEOUT if timed_out else retry.ON_CONNECTION
        if self._number >= rule.tries:
            raise refusals.unreachable(endpoint, self._what, error, self._number) from error
        self._wait(rule, f"{type(error).__name__}: {error}")

    def wait_after_answer(self, answer: Answer) -> None:
        """Waits before the next try, or raises what people can act on."""
        text = refusals.answer_text(answer.data)
        if refusals.says_full(answer.status, text):
            raise refusals.full(self._wire.endpoint, self._what)
        rule = retry.BY_STATUS.get(answer.status)
        if answer.status == 401 and self._wire.let_in:
            rule = retry.ON_LOGIN_LOST
        if rule is None or self._number >= rule.tries:
            raise refusals.refused(
                self._wire.endpoint, self._what, answer.status, text, tries=self._number
            )
        self._wait(rule, f"status {answer.status}", answer.headers.get("Retry-After", ""))

    def _wait(self, rule: retry.RetryRule, reason: str, asked: str = "") -> None:
        self._number += 1
        wait_s = max(rule.wait_before(self._number), retry.asked_wait_s(asked))
        name = self._wire.endpoint.name
        log.info("%s: %s: %s; try %d in %.1f s", name, self._what, reason, self._number, wait_s)
        self._wire.sleep(wait_s)
