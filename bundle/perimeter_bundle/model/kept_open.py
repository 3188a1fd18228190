"""Connections of http.client that stay open between requests; for both programs."""

from __future__ import annotations

import http.client
import re
import select
import socket
import string
import threading
from typing import Generic, TypeVar
from urllib.parse import quote

_PLAIN_TARGET = re.compile(r"[!-~]+")

Connection = TypeVar("Connection", bound=http.client.HTTPConnection)


class KeptOpen(Generic[Connection]):
    """Idle connections by where they lead; the one used last is used first. Safe between threads.

    Holds ``at_most``, and closes those that waited longest.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._lock = threading.Lock()
        self._idle: list[tuple[object, Connection]] = []  # the one used last at the end

    def take(self, where: object) -> Connection | None:
        """An open connection that leads there and that nobody else has; None without one."""
        while True:
            with self._lock:
                places = range(len(self._idle) - 1, -1, -1)
                found = next((at for at in places if self._idle[at][0] == where), None)
                if found is None:
                    return None
                connection = self._idle.pop(found)[1]
            if connection.sock is not None and not _is_dropped(connection.sock):
                return connection
            connection.close()

    def keep(self, where: object, connection: Connection) -> None:
        """Keeps a connection whose last answer was read to its end; closes one that is over."""
        if connection.sock is None:
            connection.close()
            return
        with self._lock:
            self._idle.append((where, connection))
            over = self._idle.pop(0)[1] if len(self._idle) > self._at_most else None
        if over is not None:
            over.close()

    def close(self) -> None:
        """Closes every connection that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()


def request_target(path: str) -> str:
    """A path with its query, quoted where it must be: a server may name anything."""
    return path if _PLAIN_TARGET.fullmatch(path) else quote(path, safe=string.punctuation)


def _is_dropped(sock: socket.socket) -> bool:
    """Whether the other side closed an idle connection, or sent what nobody asked for."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(0))
