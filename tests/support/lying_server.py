"""An HTTP server on loopback that is honest until told to lie.

Honest: serves ``files`` with HEAD, Range and 416, OCI error bodies, bearer tokens when asked to.
A ``Lie`` is used up by one request to its path; after the last one the truth is told again.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Lie:
    """How one request is answered instead of honestly; None means as an honest server would."""

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # an empty value removes the header
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    stall_after: int | None = None  # bytes of the body, then silence
    ignore_range: bool = False
    wrong_range_start: int | None = None  # 206 for another range than the one asked for
    close_at_once: bool = False  # no answer at all
    stall_at_once: bool = False
    no_length: bool = False  # neither Content-Length nor chunks: the end is the end
    chunked: bool = False
    raw: bytes | None = None  # instead of a whole HTTP answer


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Served:
    """An honest file."""

    data: bytes
    headers: Mapping[str, str]


class LyingServer:
    """Use it in a ``with`` block."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, Served] = {}
        self.lies: dict[str, deque[Lie]] = {}
        self.seen: list[Seen] = []
        self.token_life_s: int | None = None
        self.login: tuple[str, str] | None = None  # user, password (or refresh token)
        self.auth_scheme = ""  # "", "bearer", "basic"
        self.valid_tokens: set[str] = set()
        self.tokens_given = 0
        self.pause_s = 0.0  # after each block of a body: a slow line
        self.sent_bytes = 0  # of bodies
        self.connections = 0  # open now
        self.stalled = threading.Event()  # set when a request has been left waiting
        self.closing = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            owner = server

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.scheme = "http"
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.scheme = "https"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def host(self) -> str:
        """``127.0.0.1:port``."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{self.scheme}://{self.host}"

    def serve(self, path: str, data: bytes, **headers: str) -> str:
        """Adds a file; underscores in header names stand for dashes. Gives back its address."""
        fixed = {name.replace("_", "-"): value for name, value in headers.items()}
        self.files[path] = Served(data, {"Content-Type": "application/octet-stream", **fixed})
        return self.url + path

    def lie(self, path: str, *lies: Lie) -> None:
        """The next requests to ``path`` are answered so."""
        self.lies.setdefault(path, deque()).extend(lies)

    def requests_to(self, path: str) -> list[Seen]:
        """Requests for exactly this path, query left out, in order."""
        return [seen for seen in self.seen if urlsplit(seen.path).path == path]

    def new_token(self) -> str:
        """A token the server accepts from now on."""
        with self._lock:
            self.tokens_given += 1
            token = f"tok-{self.tokens_given}-secret"
        self.valid_tokens.add(token)
        return token

    def next_lie(self, path: str) -> Lie | None:
        """Takes the next lie for a path."""
        with self._lock:
            waiting = self.lies.get(path)
            return waiting.popleft() if waiting else None

    def __enter__(self) -> LyingServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    owner: LyingServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        with self.owner._lock:
            self.owner.connections += 1
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            with self.owner._lock:
                self.owner.connections -= 1

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at ``seen``."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.owner.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
        lie = self.owner.next_lie(path)
        try:
            if path == "/token" and lie is None:
                self._give_token(body)
            elif path.startswith("/v2/") and lie is None and not self._may_enter():
                self._ask_for_login()
            else:
                self._tell(path, lie or Lie())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _tell(self, path: str, lie: Lie) -> None:
        if lie.stall_at_once:
            self._stall()
            return
        if lie.raw is not None:
            self.wfile.write(lie.raw)
        if lie.close_at_once or lie.raw is not None:
            self.close_connection = True
            return
        status, data, headers = self._honest(path, lie)
        status = lie.status or status
        if lie.body is not None:
            data = lie.body
        headers = {**headers, "Content-Length": str(len(data)), **lie.headers}
        if lie.no_length or lie.chunked:
            headers.pop("Content-Length")
        if lie.no_length:
            headers["Connection"] = "close"
            self.close_connection = True
        if lie.chunked:
            headers["Transfer-Encoding"] = "chunked"
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if lie.chunked:
            for start in range(0, len(data), 1000):
                piece = data[start : start + 1000]
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        limits = [limit for limit in (lie.cut_after, lie.stall_after) if limit is not None]
        self._send(data[: min(limits)] if limits else data)
        if lie.stall_after is not None:
            self._stall()
        elif lie.cut_after is not None or len(data) != int(headers.get("Content-Length", 0) or 0):
            self.close_connection = True

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _BLOCK_BYTES):
            block = data[start : start + _BLOCK_BYTES]
            self.wfile.write(block)
            self.owner.sent_bytes += len(block)
            if self.owner.pause_s:
                self.owner.closing.wait(self.owner.pause_s)

    def _honest(self, path: str, lie: Lie) -> tuple[int, bytes, dict[str, str]]:
        served = self.owner.files.get(path)
        if served is None:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such thing"}]}
            return 404, json.dumps(error).encode(), {"Content-Type": "application/json"}
        headers = dict(served.headers)
        asked = self.headers.get("Range", "")
        if not asked or lie.ignore_range or self.command == "HEAD":
            return 200, served.data, headers
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if lie.wrong_range_start is None else lie.wrong_range_start
        end = min(int(last) if last else len(served.data) - 1, len(served.data) - 1)
        if start >= len(served.data):
            headers["Content-Range"] = f"bytes */{len(served.data)}"
            return 416, b"", headers
        headers["Content-Range"] = f"bytes {start}-{end}/{len(served.data)}"
        return 206, served.data[start : end + 1], headers

    def _stall(self) -> None:
        self.owner.stalled.set()
        self.owner.closing.wait()
        self.close_connection = True

    def _may_enter(self) -> bool:
        owner = self.owner
        given = self.headers.get("Authorization", "")
        if owner.auth_scheme == "basic" and owner.login:
            return given == _basic(*owner.login)
        if owner.auth_scheme == "bearer":
            return given.removeprefix("Bearer ") in owner.valid_tokens
        return True

    def _ask_for_login(self) -> None:
        owner = self.owner
        repository = "/".join(self.path.split("/")[2:-2])
        challenge = 'Basic realm="the registry"'
        if owner.auth_scheme == "bearer":
            challenge = (
                f'Bearer realm="{owner.url}/token",service="lying",'
                f'scope="repository:{repository}:pull"'
            )
        body = b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        self.send_response(401)
        self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _give_token(self, form: bytes) -> None:
        owner = self.owner
        allowed = owner.login is None
        if owner.login and self.command == "GET":
            allowed = self.headers.get("Authorization") == _basic(*owner.login)
        elif owner.login:
            allowed = parse_qs(form.decode()).get("refresh_token") == [owner.login[1]]
        document: dict[str, object] = {"token": owner.new_token()} if allowed else {}
        if owner.token_life_s is not None:
            document["expires_in"] = owner.token_life_s
        body = json.dumps(document).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
