"""Connections of urllib3 that send pieces of files as well as bytes."""

from __future__ import annotations

from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from perimeter_bundle.model import tls
from perimeter_installer.load.body import Piece
from perimeter_installer.load.endpoint import RegistryEndpoint


class _PlainConnection(HTTPConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Piece):
            data.send_over(self.sock)
        else:
            super().send(data)


class _TlsConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Piece):
            data.send_over(self.sock)
        else:
            super().send(data)


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
