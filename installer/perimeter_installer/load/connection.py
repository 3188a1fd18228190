"""Connections of http.client to one registry, kept open, that send pieces of files too.

One address and a known target for each request: nothing is taken apart or quoted again, which is
most of what a request costs elsewhere.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import string
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import InputError
from perimeter_installer.load import retry
from perimeter_installer.load.body import BlobBody, Piece
from perimeter_installer.load.endpoint import RegistryEndpoint

_PLAIN_TARGET = re.compile(r"[!-~]+")
_DROP = struct.pack("ii", 1, 0)  # struct linger: on, no seconds

if TYPE_CHECKING:
    _Base = http.client.HTTPConnection
else:
    _Base = object


class _SendsPieces(_Base):
    """Left in the middle of a body, it drops what it holds instead of sending on.

    The registry then stops writing at once, and what it has can be removed or asked for.
    """

    _in_body = False

    def send(self, data: Any) -> None:
        if isinstance(data, Piece):
            self._in_body = True
            data.send_over(self.sock)
        else:
            super().send(data)

    def getresponse(self) -> http.client.HTTPResponse:
        self._in_body = False
        return super().getresponse()

    def close(self) -> None:
        if self._in_body and self.sock is not None:
            self._in_body = False
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        super().close()


class _PlainConnection(_SendsPieces, http.client.HTTPConnection):
    pass


class _TlsConnection(_SendsPieces, http.client.HTTPSConnection):
    pass


class Connections:
    """As many as are needed at once; the one used last is used first. Safe between threads.

    Raises InputError[bad-certificate] when the registry's CA is none.
    """

    def __init__(self, endpoint: RegistryEndpoint) -> None:
        parts = urlsplit(endpoint.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = _client_context(endpoint)
        self._idle: deque[_SendsPieces] = deque()

    @contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BlobBody | None = None,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read inside the block; raises OSError or HTTPException.

        ``target`` is a path with its query, quoted where that is needed. No redirect is followed.
        """
        connection = self._take()
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout_s)
            response = _ask(connection, method, target, headers, body)
            yield response
        except BaseException:
            connection.close()
            raise
        if response.isclosed() and connection.sock is not None:
            self._idle.append(connection)
        else:  # an answer that was not read to its end, or the last one on this connection
            response.close()
            connection.close()

    def close(self) -> None:
        """Closes every connection that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _SendsPieces:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._new()
            if not _is_dropped(connection.sock):
                return connection
            connection.close()

    def _new(self) -> _SendsPieces:
        timeout_s = retry.CONNECT_TIMEOUT_S
        if self._tls is None:
            return _PlainConnection(self._host, self._port, timeout=timeout_s)
        return _TlsConnection(self._host, self._port, timeout=timeout_s, context=self._tls)


def _client_context(endpoint: RegistryEndpoint) -> ssl.SSLContext:
    try:
        return tls.client_context(ca_pem=endpoint.ca_pem or None)
    except ssl.SSLError as error:
        raise InputError(
            "bad-certificate",
            f"the CA of {endpoint.name} ({endpoint.url}) holds no PEM certificate",
            hint="look at registry.ca_file in site.yaml",
        ) from error


def _ask(
    connection: _SendsPieces,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | BlobBody | None,
) -> http.client.HTTPResponse:
    if not _PLAIN_TARGET.fullmatch(target):  # a registry may name anything
        target = quote(target, safe=string.punctuation)
    connection.putrequest(method, target)
    for name, value in headers.items():
        connection.putheader(name, value)
    if isinstance(body, bytes):
        connection.putheader("Content-Length", str(len(body)))
    try:
        connection.endheaders(body if isinstance(body, bytes) else None)
        if isinstance(body, BlobBody):
            for piece in body:
                connection.send(piece)
    except BrokenPipeError:
        pass  # whoever stopped reading may have said why
    return connection.getresponse()


def _is_dropped(sock: socket.socket) -> bool:
    """Whether the other side closed an idle connection, or sent what nobody asked for."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(0))
