"""Connections of http.client to one registry, kept open, that send pieces of files too.

One address and a known target for each request: nothing is taken apart or quoted again, which is
most of what a request costs elsewhere.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.kept_open import KeptOpen, request_target
from perimeter_installer.load import retry
from perimeter_installer.load.body import BlobBody, Piece
from perimeter_installer.load.endpoint import RegistryEndpoint

_MAX_IDLE = 64  # more than load has threads
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
        self._kept: KeptOpen[_SendsPieces] = KeptOpen(_MAX_IDLE)

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
        connection = self._kept.take(None) or self._new()
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout_s)
            response = _ask(connection, method, target, headers, body)
            yield response
        except BaseException:
            connection.close()
            raise
        if response.isclosed():
            self._kept.keep(None, connection)
        else:  # an answer that was not read to its end
            response.close()
            connection.close()

    def close(self) -> None:
        """Closes every connection that nobody uses."""
        self._kept.close()

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
    connection.putrequest(method, request_target(target))
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
