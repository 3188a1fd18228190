"""One way out: every HTTP request of the connected side, images and files alike.

Redirects are followed here and not by the library, so that one place decides what may travel
along: no credential goes to another origin, no redirect leads from TLS to plain text. Addresses
are shown without their query, since a signed address is a credential too.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from perimeter_bundle import __version__
from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import InputError, NetworkError
from perimeter_bundle.model.loopback import is_loopback
from perimeter_bundle.registry.answer import Answer, refusal, short_reason, shown_url
from perimeter_bundle.registry.connections import Connections, NotConnectedError
from perimeter_bundle.registry.retry import Clock, Failure, FailureKind, retry_after_s
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop

MAX_REDIRECTS: Final = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING_STATUSES = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})


class Transport:
    """Opens addresses over pooled connections; safe to use from many threads."""

    def __init__(
        self, settings: RegistrySettings, *, stop: Stop | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.stop = stop or Stop()
        self.clock = clock or Clock()
        self._connections = Connections(settings, _tls_context(settings))

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        accept: frozenset[int] = frozenset(),
        body: bytes | None = None,
        attempted: str = "",
    ) -> Answer:
        """The answer at the end of all redirects, with a status of 200, 206 or one in ``accept``.

        Raises Failure for what may pass, NetworkError for what will not.
        """
        what = attempted or f"{method} {shown_url(url)}"
        sent = {"Accept-Encoding": "identity", "User-Agent": f"perimeter-bundle/{__version__}"}
        sent |= headers or {}
        for _ in range(MAX_REDIRECTS + 1):
            self.refuse_plain_text(url, what)
            answer = self._send(method, url, sent, body, what)
            # a body may hold a secret, so it is sent where it was addressed and nowhere else
            if answer.status not in _REDIRECTS or body is not None:
                return self._judge(answer, accept, what)
            with answer:
                target = _joined(url, answer.headers.get("Location", ""), what)
            if _origin(target) != _origin(url):
                sent = {key: value for key, value in sent.items() if key != "Authorization"}
            url = target
        raise NetworkError(
            "too-many-redirects",
            f"{what}: more than {MAX_REDIRECTS} redirects",
            context={"last": shown_url(url)},
            hint="the server sends requests round in circles; a login page may be the reason",
        )

    def refuse_plain_text(self, url: str, attempted: str) -> None:
        """Raises NetworkError[not-https] for an address without TLS that was not allowed."""
        parts = _split(url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname:
            host = parts.netloc.rpartition("@")[2]
            if is_loopback(parts.hostname) or host in self.settings.unsafe_http_hosts:
                return
        raise NetworkError(
            "not-https",
            f"{attempted}: refused to go on without TLS",
            context={"address": shown_url(url)},
            hint="fetch from a mirror with TLS: --mirror HOST=https://MIRROR",
        )

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, what: str
    ) -> Answer:
        self.stop.check()
        with _translated(url, what):
            reply = self._connections.ask(method, _split(url), headers, body)
        return Answer(
            reply,
            url,
            stop=self.stop,
            clock=self.clock,
            read_timeout_s=self.settings.read_timeout_s,
        )

    def _judge(self, answer: Answer, accept: frozenset[int], what: str) -> Answer:
        encoding = answer.headers.get("Content-Encoding", "identity").lower()
        if answer.status in (200, 206) and encoding not in ("identity", ""):
            answer.__exit__(None, None, None)
            raise NetworkError(
                "content-encoding",
                f"{what}: the answer is packed though it was asked for as it is",
                context={
                    "found": f"Content-Encoding: {encoding[:40]}",
                    "from": shown_url(answer.url),
                },
                hint="a proxy is rewriting downloads; fetch from another mirror (--mirror)",
            )
        if answer.status in (200, 206) or answer.status in accept:
            return answer
        with answer:
            found = f"{answer.status} from {shown_url(answer.url)}"
            if answer.status == 429 or answer.status in _PASSING_STATUSES:
                kind = FailureKind.THROTTLED if answer.status == 429 else FailureKind.SERVER
                asked_s = retry_after_s(answer.headers.get("Retry-After"), self.clock.wall())
                raise Failure(kind, found, retry_after_s=asked_s)
            raise refusal(answer, what)


def _tls_context(settings: RegistrySettings) -> ssl.SSLContext:
    context = tls.client_context()
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "bad-ca-file",
                f"cannot read certificates from {settings.ca_file}",
                context={"found": error},
                hint="it must hold PEM certificates",
            ) from error
    return context


def _joined(url: str, location: str, what: str) -> str:
    try:
        if location:
            return urljoin(url, location)
    except ValueError:
        pass
    raise NetworkError(
        "bad-answer",
        f"{what}: the server redirects to something that is no address",
        context={"from": shown_url(url)},
        hint="something else than the expected server answered",
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise NetworkError("bad-address", f"not an address: {shown_url(url)!r}") from error
    return parts


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = _split(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


@contextmanager
def _translated(url: str, what: str) -> Iterator[None]:
    host = _split(url).netloc.rpartition("@")[2]  # after redirects it may be any
    try:
        yield
    except NotConnectedError as caught:
        error = caught.__cause__ or caught
        if not tls.is_untrusted(error):
            raise Failure(FailureKind.CONNECT, f"{host}: {short_reason(error)}") from error
        raise NetworkError(
            "tls-untrusted",
            f"{what}: the server's certificate is not trusted",
            context={"found": f"{host}: {short_reason(error)}"},
            hint="name the file with the certificate authority: --ca-file",
        ) from error
    except TimeoutError as error:
        raise Failure(FailureKind.TIMEOUT, f"{host}: no answer came in time") from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise NetworkError("bad-address", f"{what}: not an address") from error
    except (http.client.HTTPException, OSError) as error:
        raise Failure(FailureKind.BROKEN, f"{host}: {short_reason(error)}") from error
