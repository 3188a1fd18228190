"""Module site_files against replicas on loopback, with TLS: down, lying, slow, right."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DATA = b"kubelet" * 5000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own CA, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replica")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "replica.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class Replica:
    """One server; ``answer`` says what it gives to each request, by its number."""

    def __init__(self, certificate: Path, answer: Callable[[int], bytes | int]) -> None:
        replica = self
        self.requests: list[Any] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replica.requests.append(self.headers)
                given = answer(len(replica.requests))
                status, body = (given, b"") if isinstance(given, int) else (200, given)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}/blob"


@pytest.fixture
def replica(certificate: Path) -> Iterator[Callable[[Callable[[int], bytes | int]], Replica]]:
    made: list[Replica] = []

    def make(answer: Callable[[int], bytes | int]) -> Replica:
        made.append(Replica(certificate, answer))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def fetch(
    library: Callable[[str], ModuleType], certificate: Path, tmp_path: Path
) -> Callable[..., Path]:
    module = library("site_files")

    def run(*urls: str, ca_file: Path | None = certificate, user: str = "") -> Path:
        target = tmp_path / "kubelet"
        file = {
            "name": "kubelet",
            "sha256": hashlib.sha256(DATA).hexdigest(),
            "size_bytes": len(DATA),
            "urls": list(urls),
            "src": None,
            "dest": str(target),
            "unpack": [],
            "mode": "0755",
        }
        source = module.Source(str(ca_file) if ca_file else None, user, "word", 5)
        module.ensure(file, source, str(tmp_path / "records"), dry=False)
        return target

    run.Refused = module.Refused  # type: ignore[attr-defined]
    return run


def test_next_replica_is_asked_when_one_is_down(replica: Any, fetch: Any) -> None:
    good = replica(lambda number: DATA)
    assert fetch("https://127.0.0.1:1/blob", good.url).read_bytes() == DATA


def test_next_replica_is_asked_when_one_lies(replica: Any, fetch: Any) -> None:
    liar = replica(lambda number: DATA[:-1] + b"x")
    good = replica(lambda number: DATA)
    assert fetch(liar.url, good.url).read_bytes() == DATA


def test_replica_that_restarts_is_asked_again(replica: Any, fetch: Any) -> None:
    restarting = replica(lambda number: 503 if number == 1 else DATA)
    assert fetch(restarting.url).read_bytes() == DATA
    assert len(restarting.requests) == 2


def test_every_reason_is_named_when_nobody_gives_it(replica: Any, fetch: Any) -> None:
    liar, missing = replica(lambda number: b"short"), replica(lambda number: 404)
    with pytest.raises(fetch.Refused) as caught:
        fetch(liar.url, missing.url)
    assert "5 of 35000 bytes came" in str(caught.value)
    assert "404" in str(caught.value)


def test_replica_with_an_unknown_certificate_is_refused(replica: Any, fetch: Any) -> None:
    good = replica(lambda number: DATA)
    with pytest.raises(fetch.Refused, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(good.url, ca_file=None)
    assert not good.requests


def test_proxy_of_the_environment_is_not_used(
    replica: Any, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    good = replica(lambda number: DATA)
    assert fetch(good.url).read_bytes() == DATA


def test_credentials_go_in_a_header_and_only_when_there_are_some(replica: Any, fetch: Any) -> None:
    good = replica(lambda number: DATA)
    fetch(good.url).unlink()
    fetch(good.url, user="reader")
    assert [one["Authorization"] for one in good.requests] == [None, "Basic cmVhZGVyOndvcmQ="]
