"""A proxy on loopback that opens tunnels, as a company's does: every name leads to one port."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 1 << 16
_PATIENCE_S = 20


@dataclass(slots=True)
class ConnectProxy:
    """``asked`` holds the heads of what was asked for; ``context`` gives the proxy TLS."""

    port: int  # where each tunnel ends
    context: ssl.SSLContext | None = None
    refusal: bytes = b""  # a status line instead of a tunnel
    asked: list[str] = field(default_factory=list)
    address: tuple[str, int] = ("127.0.0.1", 0)

    @property
    def url(self) -> str:
        """For a proxy variable, with a login."""
        scheme = "https" if self.context else "http"
        return f"{scheme}://user:very%20secret@127.0.0.1:{self.address[1]}"

    @contextmanager
    def open(self) -> Iterator[ConnectProxy]:
        """Listens at ``address``."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.address = listening.getsockname()
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            yield self
            listening.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            client.settimeout(_PATIENCE_S)
            near = self.context.wrap_socket(client, server_side=True) if self.context else client
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            self.asked.append(head.decode())
            if self.refusal:
                near.sendall(self.refusal + b"\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.port), _PATIENCE_S) as far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                up = threading.Thread(target=_carry, args=(near, far), daemon=True)
                up.start()
                _carry(far, near)
                up.join(_PATIENCE_S)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
