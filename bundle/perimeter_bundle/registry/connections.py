"""Requests over http.client, with or without a proxy; connections stay open between them.

A body of known length is read from the socket straight into the caller's memory.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.kept_open import KeptOpen, request_target
from perimeter_bundle.registry.credentials import Credentials
from perimeter_bundle.registry.settings import RegistrySettings, goes_past_proxy

LITTLE_BYTES: Final = 64 * 1024  # reading so much is cheaper than a new connection
_PORTS: Final = {"http": 80, "https": 443}


class NotConnectedError(OSError):
    """No connection came about; ``__cause__`` is why."""


class Headers(Mapping[str, str]):
    """The fields of an answer, by name in any case.

    Fields of one name are joined: https://www.rfc-editor.org/rfc/rfc9110#section-5.3
    """

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields: dict[str, str] = {}
        for name, value in fields:
            key = name.lower()
            self._fields[key] = f"{self._fields[key]}, {value}" if key in self._fields else value

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True, slots=True)
class _Proxy:
    """A proxy of the environment; its password is in ``headers`` alone."""

    scheme: str
    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Where:
    """What a connection is open to; through a proxy without TLS to the server, to all."""

    scheme: str
    host: str
    port: int
    proxy: _Proxy | None


class Connections:
    """Sends requests; safe to use from many threads.

    Raises InputError[bad-proxy] for a proxy variable without an address.
    """

    def __init__(self, settings: RegistrySettings, context: ssl.SSLContext) -> None:
        self._settings = settings
        self._context = context
        self._kept: KeptOpen[http.client.HTTPConnection] = KeptOpen(settings.connections)
        self._proxies = {
            scheme: _proxy(address)
            for scheme, address in settings.proxies.items()
            if scheme != "no"
        }

    def ask(
        self, method: str, parts: SplitResult, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        """The answer to one request; no redirect is followed.

        Raises NotConnectedError, and OSError or http.client.HTTPException for what comes later.
        """
        scheme, host = parts.scheme, parts.hostname or ""
        where = _Where(scheme, host, parts.port or _PORTS[scheme], self._proxy_for(scheme, host))
        connection = self._kept.take(where) or self._connected(where)
        target = request_target(parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
        if where.proxy and scheme == "http":  # a proxy wants the whole address
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            headers = {**headers, **where.proxy.headers}
        try:
            sock = connection.sock
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            with suppress(BrokenPipeError):  # whoever stopped reading may have said why
                connection.endheaders(body)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return Reply(response, sock, lambda: self._kept.keep(where, connection), connection.close)

    def _proxy_for(self, scheme: str, host: str) -> _Proxy | None:
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        if proxy is None or goes_past_proxy(host, self._settings.proxies.get("no", "")):
            return None
        return proxy

    def _connected(self, where: _Where) -> http.client.HTTPConnection:
        connection = self._new(where)
        try:
            connection.connect()
            connection.sock.settimeout(self._settings.read_timeout_s)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise NotConnectedError from error
            raise
        return connection

    def _new(self, where: _Where) -> http.client.HTTPConnection:
        timeout_s = self._settings.connect_timeout_s
        proxy = where.proxy
        first = proxy or where
        if proxy and proxy.scheme == where.scheme == "https":
            return _TlsWithinTls(proxy, where, timeout_s, self._context)
        if "https" not in (first.scheme, where.scheme):
            return http.client.HTTPConnection(first.host, first.port, timeout=timeout_s)
        connection = http.client.HTTPSConnection(
            first.host, first.port, timeout=timeout_s, context=self._context
        )
        if proxy and where.scheme == "https":
            connection.set_tunnel(where.host, where.port, dict(proxy.headers))
        return connection


class Reply:
    """An answer whose body has not been read; to be ended with ``end``."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        sock: socket.socket,
        keep: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self.status = response.status
        self.headers = Headers(response.getheaders())
        self._response = response
        self._sock = sock
        self._keep = keep
        self._close = close
        self._is_ahead = True  # some of the body may have come with the answer's head
        if "," in self.headers.get("Content-Length", ""):
            # which of them counts is not for us to guess: RFC 9112, section 6.3
            self.end(well=False)
            raise OSError("the answer has several lengths")

    def read_into(self, view: memoryview) -> int:
        """One read, never decoded; 0 at the end. Raises IncompleteRead when it comes too soon."""
        response = self._response
        if response.chunked or response.length is None:
            data = response.read1(len(view))
            view[: len(data)] = data
            return len(data)
        if not response.length:
            return 0
        view = view[: response.length]
        if self._is_ahead:
            asked = min(len(view), io.DEFAULT_BUFFER_SIZE)
            data = response.fp.read1(asked)  # what is buffered, and waits only without any
            size = len(data)
            view[:size] = data
            self._is_ahead = size == asked
        else:
            size = response.fp.raw.readinto(view) or 0
        if not size:
            raise http.client.IncompleteRead(b"", response.length)
        response.length -= size
        if not response.length:
            response.read()  # nothing; http.client notices the end and lets the socket go
        return size

    def interrupt(self) -> None:
        """Wakes a thread that waits for the body; what it reads then is rubbish."""
        tcp = getattr(self._sock, "socket", self._sock)
        socket.socket.shutdown(tcp, socket.SHUT_RD)  # a TLS socket's own forgets that it is one

    def end(self, *, well: bool) -> None:
        """Ends the use; the connection is kept when it went ``well`` and little is left on it."""
        response = self._response
        left = response.length
        if well and not response.isclosed() and left is not None and left <= LITTLE_BYTES:
            with suppress(http.client.HTTPException, OSError):
                response.read()
        if well and response.isclosed():
            self._keep()
        else:
            response.close()
            self._close()


class _TlsWithinTls(http.client.HTTPConnection):
    """TLS to a proxy, and within it TLS to the server, which ssl's own sockets cannot do."""

    def __init__(
        self, proxy: _Proxy, where: _Where, timeout_s: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(proxy.host, proxy.port, timeout=timeout_s)
        self.set_tunnel(where.host, where.port, dict(proxy.headers))
        self._context = context
        self._server = where.host

    def connect(self) -> None:
        from urllib3.util.ssltransport import SSLTransport

        outer = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(outer, server_hostname=self.host)
        self._tunnel()  # type: ignore[attr-defined]  # http.client has no public name for it
        self.sock = SSLTransport(self.sock, self._context, server_hostname=self._server)


def _proxy(address: str) -> _Proxy:
    no_address = InputError(
        "bad-proxy", "a proxy variable does not hold an address", hint="it reads http://host:port"
    )
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port
    except ValueError as error:
        raise no_address from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise no_address
    headers = {}
    if parts.username is not None:
        login = Credentials(unquote(parts.username), unquote(parts.password or ""))
        headers["Proxy-Authorization"] = login.basic_header()
    return _Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], headers)
