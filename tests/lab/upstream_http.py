"""The wire of the upstream: connections, ranges, the access log, and faults on order."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from .upstream_faults import Fault, FaultTable

CHUNK_BYTES = 1 << 20
IDLE_TIMEOUT_S = 75.0
BODY_BYTES = 16 << 20
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    scheme: str
    authority: str  # host and port, as the client wrote them
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # lower-case names
    query_text: str = ""  # the query as it came
    body: bytes = b""  # of a POST to a git repository; no other body is read

    @property
    def host(self) -> str:
        return self.authority.partition(":")[0].lower()

    def query_value(self, name: str) -> str:
        return self.query.get(name, [""])[-1]

    def elsewhere(self, host: str, path: str) -> str:
        """Address of another host of this upstream; on loopback, of its other name."""
        name, _, port = self.authority.partition(":")
        if name not in LOOPBACK:
            return f"{self.scheme}://{host}{path}"
        other = LOOPBACK[1 - LOOPBACK.index(name)]
        prefix = "/-" if path.startswith("/token") else ""
        return f"{self.scheme}://{other}:{port}{prefix}{path}"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Path = b""

    def size_bytes(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


class Answers(Protocol):
    def reads_body(self, host: str, path: str) -> bool: ...
    def answer(self, request: Request) -> Reply: ...
    def moved_tag(self, digest: str) -> Reply: ...


def json_reply(status: int, value: Any) -> Reply:
    headers = {
        "Content-Type": "application/json",
        "Docker-Distribution-Api-Version": "registry/2.0",
    }
    return Reply(status, headers, json.dumps(value).encode() + b"\n")


class FileServer(ThreadingHTTPServer):
    """Serves what ``content`` answers; one thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        content: Answers,
        *,
        tls: ssl.SSLContext | None = None,
        log: Path | None = None,
        faults: FaultTable | None = None,
    ) -> None:
        self.content = content
        self.tls = tls
        self.faults = faults or FaultTable()
        self.requests: list[dict[str, Any]] = []
        self._log = log.open("a", buffering=1) if log else None
        self._log_lock = threading.Lock()
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_address[1]}"

    def note(self, entry: dict[str, Any]) -> None:
        """Keep a line of the access log: in the file if there is one, else in memory."""
        with self._log_lock:
            if self._log:
                self._log.write(json.dumps(entry) + "\n")
            else:
                self.requests.append(entry)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Speak TLS in the connection's own thread: a slow client holds up nobody."""
        if self.tls:
            request.settimeout(IDLE_TIMEOUT_S)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError) as err:
                self.note({"time": time.time(), "error": f"TLS handshake: {err}"})
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server."""

    def server_close(self) -> None:
        super().server_close()
        if self._log:
            self._log.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "upstream"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    server: FileServer

    def _handle(self) -> None:
        begin = time.monotonic()
        request = self._request()
        fault = self.server.faults.take(request.method, request.host, request.path)
        sent, status = 0, 0
        try:
            if fault and fault.kind == "drop":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            reply = self._reply(request, fault)
            status, sent = self._send(request, reply, fault)
        finally:
            entry = {
                "time": round(time.time(), 3),
                "method": request.method,
                "host": request.authority,
                "path": self.path,
                "status": status,
                "bytes": sent,
                "seconds": round(time.monotonic() - begin, 4),
                "range": request.headers.get("range"),
                "agent": request.headers.get("user-agent"),
                "authorization": "authorization" in request.headers,
                "fault": fault.kind if fault else None,
            }
            self.server.note(entry)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _request(self) -> Request:
        url = urllib.parse.urlsplit(self.path)
        authority, path = self.headers.get("Host", ""), urllib.parse.unquote(url.path)
        host = authority.partition(":")[0].lower()
        reads = self.command == "POST" and self.server.content.reads_body(host, path)
        return Request(
            method=self.command,
            scheme="https" if self.server.tls else "http",
            authority=authority,
            path=path,
            query=urllib.parse.parse_qs(url.query),
            headers={name.lower(): value for name, value in self.headers.items()},
            query_text=url.query,
            body=self._body() if reads else b"",
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(min(int(self.headers.get("Content-Length", "0")), BODY_BYTES))
        body = b""
        while (size := int(self.rfile.readline().partition(b";")[0], 16)) and len(
            body
        ) < BODY_BYTES:
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, request: Request, fault: Fault | None) -> Reply:
        if request.method not in ("GET", "HEAD") and not request.body:
            self.close_connection = True  # its body is not read
        if fault and fault.kind == "status":
            headers = {"Content-Type": "text/plain"}
            if fault.retry_after is not None:
                headers["Retry-After"] = fault.retry_after
            return Reply(fault.status, headers, f"{fault.status} on order\n".encode())
        if fault and fault.kind == "tag":
            return self.server.content.moved_tag(fault.digest)
        return self.server.content.answer(request)

    def _send(self, request: Request, reply: Reply, fault: Fault | None) -> tuple[int, int]:
        """Send a reply; gives back its status and how many bytes of the body went out."""
        size = reply.size_bytes()
        first, last, status = 0, size - 1, reply.status
        headers = dict(reply.headers)
        if status == 200 and isinstance(reply.body, Path):
            headers["Accept-Ranges"] = "bytes"
            span = parse_range(request.headers.get("range"), size)
            if span == (0, -1):
                headers, first, last, status = {"Content-Range": f"bytes */{size}"}, 0, -1, 416
            elif span is not None:
                first, last = span
                status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{size}"
        length = last - first + 1
        declared = length + (fault.delta_bytes if fault and fault.kind == "length" else 0)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(declared)}.items():
            self.send_header(name, value)
        if declared != length:
            self.close_connection = True
        self.end_headers()
        if request.method == "HEAD" or status == 416:
            return status, 0
        sent = 0
        for piece in self._spoil(_pieces(reply.body, first, length), fault):
            self.wfile.write(piece)
            sent += len(piece)
        return status, sent

    def _spoil(self, pieces: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
        """The pieces as the fault lets them through; positions are within this answer's body."""
        position = 0
        for piece in pieces:
            start, position = position, position + len(piece)
            if fault is None:
                yield piece
                continue
            inside = start <= fault.after_bytes < position
            cut = fault.after_bytes - start
            if fault.kind == "truncate" and inside:
                yield piece[:cut]
                self._hang_up()
                return
            if fault.kind == "stall" and inside:
                yield piece[:cut]
                self.wfile.flush()
                time.sleep(fault.seconds)
                piece = piece[cut:]
            elif fault.kind == "corrupt" and inside:
                piece = piece[:cut] + bytes([piece[cut] ^ 1]) + piece[cut + 1 :]
            elif fault.kind == "slow" and fault.bytes_per_s > 0:
                yield from _slowly(piece, fault.bytes_per_s)
                continue
            yield piece

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the access log has it already."""


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte asked for; None for everything; (0, -1) where it cannot be given."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (text or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size - 1
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return (first, last) if first <= last else (0, -1)


def _pieces(body: bytes | Path, first: int, length: int) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body[first : first + length]
        return
    with body.open("rb") as stream:
        stream.seek(first)
        while length > 0 and (piece := stream.read(min(CHUNK_BYTES, length))):
            length -= len(piece)
            yield piece


def _slowly(piece: bytes, bytes_per_s: int) -> Iterator[bytes]:
    step = max(bytes_per_s // 10, 1)
    for start in range(0, len(piece), step):
        yield piece[start : start + step]
        time.sleep(0.1)
