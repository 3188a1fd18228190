"""One registry's connections against servers that answer oddly; real sockets on loopback."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from perimeter_bundle.model.errors import NetworkError, TrustError
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.refusals import MAX_ANSWER_BYTES
from perimeter_installer.load.registry import PushClient

Serve = Callable[[socketserver.StreamRequestHandler, int], bool]
PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def registry(serve: Serve) -> Iterator[tuple[RegistryEndpoint, list[bytes]]]:
    """A server that gives each request to ``serve`` with its number; False ends the connection."""
    asked: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                asked.append(line)
                if not serve(self, len(asked)):
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            port = server.server_address[1]
            yield RegistryEndpoint.parse("n1", f"http://127.0.0.1:{port}"), asked
        finally:
            server.shutdown()


def test_a_connection_that_the_registry_closed_while_idle_is_opened_again_unasked() -> None:
    waits: list[float] = []
    closed = threading.Event()

    def once_each(handler: socketserver.StreamRequestHandler, number: int) -> bool:
        handler.wfile.write(PONG)
        handler.connection.shutdown(2)
        closed.set()
        return False

    with (
        registry(once_each) as (endpoint, asked),
        closing(PushClient(endpoint, sleep=waits.append)) as client,
    ):
        for _ in range(3):
            closed.clear()
            client.ping()
            assert closed.wait(5)
    assert len(asked) == 3
    assert waits == []


def test_of_an_endless_answer_only_the_start_is_read() -> None:
    sent = 0

    def endless(handler: socketserver.StreamRequestHandler, number: int) -> bool:
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 403 No\r\nContent-Length: 99999999999\r\n\r\n")
        try:
            while True:
                sent += handler.connection.send(b"no " * 4096)
        except OSError:
            return False

    with (
        registry(endless) as (endpoint, _),
        closing(PushClient(endpoint)) as client,
        pytest.raises(TrustError, match="does not let us"),
    ):
        client.ping()
    assert sent < 100 * MAX_ANSWER_BYTES  # what the sockets between hold, and no more


def test_what_a_registry_names_is_quoted_before_it_is_asked_for() -> None:
    def answer(handler: socketserver.StreamRequestHandler, number: int) -> bool:
        handler.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True

    with registry(answer) as (endpoint, asked), closing(PushClient(endpoint)) as client:
        assert client.head_manifest("quay.io/ä b\r\nX: y", "1") is None
    assert asked == [b"HEAD /v2/quay.io/%C3%A4%20b%0D%0AX:%20y/manifests/1 HTTP/1.1\r\n"]


@pytest.mark.parametrize("header", [b"X: y\r\n" * 200, b"X: " + b"y" * 70_000 + b"\r\n"])
def test_headers_without_measure_are_refused(header: bytes) -> None:
    def answer(handler: socketserver.StreamRequestHandler, number: int) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n")
        return False

    with (
        registry(answer) as (endpoint, _),
        closing(PushClient(endpoint, sleep=lambda seconds: None)) as client,
        pytest.raises(NetworkError, match="did not answer"),
    ):
        client.ping()
