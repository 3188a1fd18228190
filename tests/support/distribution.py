"""A real Distribution registry on loopback, with TLS from a CA of the test's own."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes

import bcrypt

from perimeter_installer.run.certificates import KeyPair, make_ca, make_server_certificate
from tests.lab.build import tool

_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  relativeurls: true
"""
_TLS = "  tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key, minimumtls: tls1.2}}\n"
_LOGIN = "auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
_TOKEN = (
    "auth: {{token: {{realm: '{realm}', service: registry, issuer: test,"
    " rootcertbundle: {folder}/root.crt}}}}\n"
)
_SPARSE = "validation: {manifests: {indexes: {platforms: none}}}\n"
START_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Distribution:
    """One registry process; use it in a ``with`` block. ``data`` is where it keeps blobs."""

    folder: Path
    ca: KeyPair = field(default_factory=lambda: make_ca("test", datetime.now(UTC), token_bytes))
    sparse: bool = True  # takes an index of which platforms are missing
    login: tuple[str, str] | None = None  # user and password, when it wants one
    plain: bool = False  # without TLS
    token_realm: str = ""  # of a TokenServer with the same CA, when tokens are wanted
    data: Path = field(init=False)
    port: int = field(default=0)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.data = self.folder / "data"

    def __enter__(self) -> Distribution:
        self.data.mkdir(parents=True, exist_ok=True)
        pair = make_server_certificate(
            self.ca, ("127.0.0.1", "localhost"), datetime.now(UTC), token_bytes
        )
        (self.folder / "tls.crt").write_text(pair.certificate)
        (self.folder / "tls.key").write_text(pair.key)
        self.port = self.port or free_port()
        text = _CONFIGURATION.format(data=self.data, port=self.port, folder=self.folder)
        if not self.plain:
            text += _TLS.format(folder=self.folder)
        if self.login:
            user, password = self.login
            hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
            (self.folder / "htpasswd").write_text(f"{user}:{hashed}\n")
            text += _LOGIN.format(folder=self.folder)
        if self.token_realm:
            (self.folder / "root.crt").write_text(self.ca.certificate)
            text += _TOKEN.format(folder=self.folder, realm=self.token_realm)
        (self.folder / "config.yml").write_text(text + (_SPARSE if self.sparse else ""))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{'http' if self.plain else 'https'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Starts it, again after ``stop``, and waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(tool("registry")), "serve", str(self.folder / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"OTEL_TRACES_EXPORTER": "none", "PATH": "/usr/bin:/bin"},
            )
        context = ssl.create_default_context(cadata=self.ca.certificate)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                opener.open(f"{self.url}/v2/", timeout=2).close()
            except OSError as error:
                if isinstance(error, urllib.error.HTTPError) and error.code == 401:
                    return  # it answers, and wants a login as it should
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the registry did not start:\n{self.log}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Ends it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def blobs(self) -> set[str]:
        """Hexadecimal digests of all blobs it stores."""
        below = self.data / "docker/registry/v2/blobs/sha256"
        return {folder.name for folder in below.glob("??/*") if (folder / "data").exists()}

    def linked(self) -> set[tuple[str, str]]:
        """Repository and hexadecimal digest of each blob that a repository gives out."""
        below = self.data / "docker/registry/v2/repositories"
        stored = self.blobs()
        return {
            (link.parents[3].relative_to(below).as_posix(), link.parent.name)
            for link in below.rglob("_layers/sha256/*/link")
            if link.stat().st_size and link.parent.name in stored
        }


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
