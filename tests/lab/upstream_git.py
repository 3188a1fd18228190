"""Git repositories of the upstream, answered by git itself (git http-backend), read only."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .upstream_http import Reply, Request

TIMEOUT_S = 120.0
GIT_PATH = re.compile(r"(?P<name>/[A-Za-z0-9._/-]+?)(\.git)?/(?P<verb>info/refs|git-upload-pack)")


@dataclass(frozen=True, slots=True)
class GitRepositories:
    """Bare repositories in ``<folder>/<host>/<path>.git``."""

    folder: Path

    def hosts(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()

    def has(self, host: str, path: str) -> bool:
        """Whether the request is for a repository that is here."""
        return self._repository(host, path) is not None

    def answer(self, request: Request) -> Reply:
        found = self._repository(request.host, request.path)
        assert found
        name, verb = found
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROJECT_ROOT": str(self.folder / request.host),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"{name}.git/{verb}",
            "QUERY_STRING": request.query_text,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_ADDR": "upstream",
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env=environment,
            input=request.body,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
        headers = {name: value for name, _, value in lines if name}
        status = int(headers.pop("Status", "200").partition(" ")[0])
        return Reply(status if head else 500, headers, body)

    def _repository(self, host: str, path: str) -> tuple[str, str] | None:
        """Name and verb of a request for a repository that is here."""
        match = GIT_PATH.fullmatch(path)
        if match is None or ".." in path or host not in self.hosts():
            return None
        name = match["name"]
        folder = self.folder / host / f"{name.lstrip('/')}.git"
        return (name, match["verb"]) if folder.is_dir() else None
