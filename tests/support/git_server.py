"""Git repositories over HTTPS on loopback, served by git itself (git http-backend), and files."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.registry.settings import RegistrySettings, settings_from
from tests.lab.pki import Authority, server_context
from tests.support.transfers import Recorder

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


class GitServer:
    """Use it in a ``with`` block; a repository ``host/path`` is at ``<base>/host/path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "git"
        self.root.mkdir(parents=True)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refuses_commits = False  # as an old server does: only what a name points to
        self.down = False
        authority = Authority.in_folder(folder)
        self.ca_file = authority.certificate
        certificate, key = folder / "server.pem", folder / "server.key"
        authority.issue(["IP:127.0.0.1"], certificate, key)
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        context: ssl.SSLContext = server_context(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> GitServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def publish(
        self,
        name: str,
        files: Mapping[str, bytes | str],
        tag: str = "",
        *,
        links: Mapping[str, str] | None = None,
    ) -> str:
        """A commit with exactly these files in repository ``name``, under ``tag``; its id."""
        work = self.root / name
        if not (work / ".git").exists():
            work.mkdir(parents=True)
            self.git(work, "init", "--quiet", "--initial-branch=main")
        self.git(work, "rm", "-r", "--quiet", "--cached", "--ignore-unmatch", ".")
        entries = {path: ("100644", data) for path, data in files.items()}
        entries |= {path: ("120000", data) for path, data in (links or {}).items()}
        for path, (mode, data) in sorted(entries.items()):
            raw = data.encode() if isinstance(data, str) else data
            oid = self.git(work, "hash-object", "-w", "--stdin", data=raw)
            self.git(work, "update-index", "--add", "--cacheinfo", f"{mode},{oid},{path}")
        self.git(work, "commit", "--quiet", "--allow-empty", "--message", tag or "change")
        if tag:
            self.git(work, "tag", "--force", "--annotate", "--message", tag, tag)
        return self.git(work, "rev-parse", "HEAD")

    def git(self, folder: Path, *words: str, data: bytes = b"") -> str:
        """What a git command prints."""
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=_ENVIRONMENT,
            input=data,
            capture_output=True,
            check=True,
            timeout=30,
        )
        return done.stdout.decode().strip()

    def settings(self, *hosts: str) -> RegistrySettings:
        """Settings under which these hosts are this server."""
        mirrors = [f"{host}={self.base}/{host}" for host in hosts]
        return settings_from(environment={}, ca_file=self.ca_file, mirrors=mirrors)

    def fetcher(self, *hosts: str) -> FileFetcher:
        """A fetcher that does not wait between attempts and knows these hosts as this server."""
        settings, recorder = self.settings(*hosts), Recorder()
        return FileFetcher(settings, recorder.on_event, transport=recorder.transport(settings))


class _Handler(BaseHTTPRequestHandler):
    server_owner: GitServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        owner, parts = self.server_owner, urlsplit(self.path)
        owner.asked.append(self.path)
        path = unquote(parts.path)
        if owner.down:
            self._send(404, "text/plain", b"gone")
        elif path in owner.files:
            self._send(200, "application/octet-stream", owner.files[path])
        else:
            self._backend(path, parts.query, body)

    def _backend(self, path: str, query: str, body: bytes) -> None:
        environment = {
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.server_owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if not self.server_owner.refuses_commits:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(
            ["git", "http-backend"],
            env=environment,
            input=body,
            capture_output=True,
            check=False,
            timeout=30,
        )
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(
            line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
        )
        status = int(headers.get("Status", "200").split()[0])
        self._send(status, headers.get("Content-Type", "text/plain"), rest)

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
