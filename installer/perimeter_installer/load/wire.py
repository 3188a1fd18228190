"""Requests to one registry, tried again where that helps; what all verbs of the push side share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import cast
from urllib.parse import urljoin, urlsplit

import urllib3

from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import NetworkError
from perimeter_installer.load import refusals, retry
from perimeter_installer.load.body import BlobBody, Cancelled
from perimeter_installer.load.connection import connections_to
from perimeter_installer.load.endpoint import RegistryEndpoint

log = logging.getLogger(__name__)

Answer = urllib3.BaseHTTPResponse
LINE_FAILURES = (urllib3.exceptions.HTTPError, OSError)


class Wire:
    """Asks one registry over a pool of connections; safe to use from several threads."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        *,
        sleep: Callable[[float], object] | None = None,
        connections: int = retry.CONNECTIONS,
    ) -> None:
        self.endpoint = endpoint
        self.cancelled = threading.Event()
        self.sleep = sleep or self.cancelled.wait
        self.let_in = False  # whether the registry took our login before
        self.pool = connections_to(endpoint, connections)
        self._headers = {"User-Agent": "perimeter-install"}
        if endpoint.username:
            self._headers |= urllib3.make_headers(
                basic_auth=f"{endpoint.username}:{endpoint.password}"
            )

    def once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BlobBody | None = None,
        timeout_s: float = retry.READ_TIMEOUT_S,
    ) -> Answer:
        """One answer, whatever it is; raises one of LINE_FAILURES when there is none."""
        if self.cancelled.is_set():
            raise Cancelled
        return self.pool.request(
            method,
            urljoin(self.endpoint.url, path),
            headers={**self._headers, **headers},
            body=cast("Iterable[bytes] | bytes | None", body),  # our connections send pieces, too
            timeout=urllib3.Timeout(connect=retry.CONNECT_TIMEOUT_S, read=timeout_s),
            redirect=False,
            preload_content=True,
        )

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

    def abandon(self, location: str, name: str) -> None:
        """Removes what a failed upload left on the registry's disc; helps when that is full.

        Distribution accepts the removal only with a location that knows how much has arrived.
        """

        def ask(method: str, where: str) -> Answer:
            timeout = urllib3.Timeout(retry.CLEANUP_TIMEOUT_S)
            return self.pool.request(method, where, headers=self._headers, timeout=timeout)

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
                        location = self.location(status, name)
                    ask("DELETE", location)
                time.sleep(retry.CLEANUP_WAIT_S)
        except (*LINE_FAILURES, NetworkError) as error:
            log.info("%s keeps a half upload for some days: %s", self.endpoint.name, error)

    def location(self, answer: Answer, name: str) -> str:
        """Where an upload goes on; the credentials never follow it to another host."""
        location = urljoin(self.endpoint.url + "/", answer.headers.get("Location", ""))
        ours, theirs = urlsplit(self.endpoint.url), urlsplit(location)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            found = f"{theirs.scheme}://{theirs.netloc}"
            raise refusals.redirected(self.endpoint, name, found)
        return location


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
        timed_out = isinstance(error, urllib3.exceptions.ReadTimeoutError | TimeoutError)
        rule = retry.ON_TIMEOUT if timed_out else retry.ON_CONNECTION
        if self._number >= rule.tries:
            raise refusals.unreachable(endpoint, self._what, error, self._number) from error
        self._wait(rule, f"{type(error).__name__}: {error}")

    def wait_after_answer(self, answer: Answer) -> None:
        """Waits before the next try, or raises what people can act on."""
        text = refusals.answer_text(answer)
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
