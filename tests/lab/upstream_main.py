"""The upstream as a process: ``python -m tests.lab.upstream_main STATE CONTENT``."""

from __future__ import annotations

import argparse
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .cgroups import Group
from .host import say
from .pki import server_context
from .state import StateFolder
from .upstream import serve_layout
from .upstream_faults import FaultTable
from .upstream_process import NAME


class _ToHttps(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(308)
        self.send_header("Location", f"https://{self.headers.get('Host', '')}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it only points elsewhere."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("content", type=Path)
    parser.add_argument("--wheels", type=Path)
    options = parser.parse_args(argv)
    state = StateFolder(options.state)
    Group(state, NAME).enter("machine")
    layout = options.content / "registry"
    plain = ThreadingHTTPServer(("", 80), _ToHttps)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    with serve_layout(
        layout if (layout / "index.json").exists() else None,
        files=options.content / "files",
        git=options.content / "git",
        wheels=[options.wheels] if options.wheels else [],
        tls=server_context(state.path / "upstream.crt", state.path / "upstream.key"),
        address=("", 443),
        log=state.upstream_log,
        faults=FaultTable(state.upstream_faults),
    ):
        (state.path / "upstream.ready").touch()
        say("upstream serves")
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
