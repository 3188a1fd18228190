"""Connections of urllib3 that send pieces of files as well as bytes."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from perimeter_bundle.model import tls
from perimeter_installer.load.body import Piece
from perimeter_installer.load.endpoint import RegistryEndpoint

_DROP = struct.pack("ii", 1, 0)  # struct linger: on, no seconds

if TYPE_CHECKING:
    _Base = HTTPConnection
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

    def getresponse(self) -> Any:
        self._in_body = False
        return super().getresponse()

    def close(self) -> None:
        if self._in_body and self.sock is not None:
            self._in_body = False
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        super().close()


class _PlainConnection(_SendsPieces, HTTPConnection):
    pass


class _TlsConnection(_SendsPieces, HTTPSConnection):
    pass


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def connections_to(endpoint: RegistryEndpoint, at_once: int) -> urllib3.PoolManager:
    """A pool of ``at_once`` connections; request bodies may yield ``Piece``."""
    pool = urllib3.PoolManager(
        num_pools=1,
        maxsize=at_once,
        block=True,
        ssl_context=tls.client_context(ca_pem=endpoint.ca_pem or None),
        retries=False,
    )
    pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pool
