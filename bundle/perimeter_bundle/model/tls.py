"""The one TLS client context of both programs."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Final

ALPN_PROTOCOLS: Final = ("http/1.1",)


class _SettledContext(ssl.SSLContext):
    """A context whose protocols are set once, so that threads can share it.

    urllib3 sets them anew for each connection, which frees the list another thread's handshake is
    just copying: a garbled hello, or worse (https://github.com/python/cpython/issues/141012).
    """

    _settled = False

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        if not self._settled:
            self._settled = True
            super().set_alpn_protocols(alpn_protocols)


def client_context(*, ca_pem: str | None = None, only_ca: bool = False) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and host name checked; safe to share between threads.

    Trusts the system's authorities and those in ``ca_pem``; with ``only_ca`` nobody else's.
    Raises ssl.SSLError when ``ca_pem`` holds no certificate.
    """
    context = _SettledContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    if not only_ca:
        context.load_default_certs()
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem)
    return context


def is_untrusted(error: BaseException) -> bool:
    """Whether a failed handshake is about the certificate, and so will fail again."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
