"""Lines and proxies between a client and a registry on loopback that do what real ones do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BLOCK = 1 << 16


@dataclass(slots=True)
class Line:
    """Bytes to ``port`` and back; the counters say what passed towards the registry."""

    port: int
    cut_after: int | None = None  # closes a connection that sent so much
    slow_after: int | None = None  # of all connections together
    slow_s: float = 0.05  # for each block then
    refuse_first: int = 0  # handshakes that end with an alert
    connections: int = 0
    cuts: int = 0
    passed: int = 0
    address: tuple[str, int] = ("127.0.0.1", 0)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens, for a registry with TLS."""
        return f"https://127.0.0.1:{self.address[1]}"

    @contextmanager
    def open(self) -> Iterator[Line]:
        """Listens at ``address``."""
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            ThreadPoolExecutor(128) as pool,
        ):
            self.address = listening.getsockname()
            pool.submit(self._accept, listening, pool)
            try:
                yield self
            finally:
                self.slow_s = 0
                for one in (listening, *self._sockets):
                    with suppress(OSError):  # closed already
                        one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket, pool: ThreadPoolExecutor) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                self.connections += 1
                if self.refuse_first:
                    self.refuse_first -= 1
                    near.recv(_BLOCK)
                    near.sendall(bytes.fromhex("15030300020232"))  # alert: fatal, decode_error
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.port))
                self._sockets += [near, far]
                pool.submit(self._carry, near, far)
                pool.submit(_back, far, near)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := near.recv(_BLOCK):
                if self.cut_after is not None and sent + len(data) > self.cut_after:
                    self.cuts += 1
                    far.sendall(data[: self.cut_after - sent])
                    near.shutdown(socket.SHUT_RDWR)
                    break
                far.sendall(data)
                sent += len(data)
                with self._lock:
                    self.passed += len(data)
                if self.slow_after is not None and self.passed > self.slow_after:
                    time.sleep(self.slow_s)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)
        if self.cut_after is not None:
            near.close()


def _back(far: socket.socket, near: socket.socket) -> None:
    with suppress(OSError):
        while data := far.recv(_BLOCK):
            near.sendall(data)
    with suppress(OSError):
        near.shutdown(socket.SHUT_WR)
    far.close()


@dataclass(frozen=True, slots=True)
class Request:
    """What came to a proxy: its number from 1, method, path with query, bytes of the body."""

    number: int
    method: str
    path: str
    size_bytes: int


# an answer instead of the registry's: status and headers; None lets the request pass
Fault = Callable[[Request], tuple[int, dict[str, str]] | None]


# the headers that are given for the registry's to an answer that passes
Change = Callable[[Request, dict[str, str]], dict[str, str]]


def _as_they_are(request: Request, headers: dict[str, str]) -> dict[str, str]:
    return headers


@contextmanager
def proxy(port: int, fault: Fault, change: Change = _as_they_are) -> Iterator[str]:
    """Address of a plain HTTP proxy before a registry; ``fault`` answers before the body is read.

    That is how nginx refuses a body that is too large: it answers and closes.
    """
    numbers = iter(range(1, 1 << 30))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            with lock:
                request = Request(next(numbers), self.command, self.path, size)
                answer = fault(request)
            if answer is not None:
                self.close_connection = True
                self.send_response(answer[0])
                for name, value in {**answer[1], "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            far = http.client.HTTPConnection("127.0.0.1", port)
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            far.request(self.command, self.path, self.rfile.read(size), headers)
            given = far.getresponse()
            data = given.read()
            self.send_response(given.status)
            for name, value in change(request, dict(given.getheaders())).items():
                if name != "Connection" or value == "close":
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            far.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
