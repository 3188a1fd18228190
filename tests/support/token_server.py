"""A token server as registries name it: tokens that a real Distribution checks.

https://distribution.github.io/distribution/spec/auth/jwt/
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_bytes, token_hex
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from perimeter_installer.run.certificates import KeyPair, make_server_certificate


@dataclass(slots=True)
class TokenServer:
    """Answers over TLS with a certificate of ``ca``; use it in a ``with`` block."""

    folder: Path
    ca: KeyPair
    login: tuple[str, str] = ("robot", "secret")
    life_s: int = 300  # as it says; a token really ends after ``ends_after_s``
    ends_after_s: int = 300
    rights: frozenset[str] = frozenset({"pull", "push", "*"})
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # who, and scopes
    broken: int = 0  # how many requests are answered with 503 first
    _server: ThreadingHTTPServer | None = None
    _pair: KeyPair | None = None

    @property
    def realm(self) -> str:
        """Its address."""
        assert self._server
        return f"https://localhost:{self._server.server_address[1]}/token"

    def __enter__(self) -> TokenServer:
        owner = self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pair = make_server_certificate(
            self.ca, ("127.0.0.1", "localhost"), datetime.now(UTC), token_bytes
        )
        files = self.folder / "tokens.crt", self.folder / "tokens.key"
        files[0].write_text(self._pair.certificate)
        files[1].write_text(self._pair.key)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = owner._answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        query = parse_qs(urlsplit(path).query)
        scopes = tuple(query.get("scope", []))
        who = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        self.asked.append((who.partition(":")[0], scopes))
        if self.broken:
            self.broken -= 1
            return 503, b"busy"
        if who != ":".join(self.login):
            return 401, b'{"details": "incorrect username or password"}'
        token = self._token(scopes)
        return 200, json.dumps({"token": token, "expires_in": self.life_s}).encode()

    def _token(self, scopes: tuple[str, ...]) -> str:
        assert self._pair
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [action for action in actions.split(",") if action in self.rights]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        certificate = x509.load_pem_x509_certificate(self._pair.certificate.encode())
        chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
        claims = {
            "iss": "test",
            "sub": self.login[0],
            "aud": "registry",
            "jti": token_hex(8),
            # Distribution lets a token end a minute late
            "iat": now,
            "nbf": now - 5,
            "exp": now + self.ends_after_s - 60,
            "access": access,
        }
        signed = ".".join(map(_packed, ({"typ": "JWT", "alg": "ES256", "x5c": chain}, claims)))
        key = load_pem_private_key(self._pair.key.encode(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{_text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _packed(value: object) -> str:
    return _text(json.dumps(value).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
