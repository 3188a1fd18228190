"""The client context that threads share."""

from __future__ import annotations

import ssl

import pytest
from tests.lab.pki import Authority, server_context

from perimeter_bundle.model.tls import client_context, is_untrusted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context that takes either protocol, and the authority to trust."""
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority.in_folder(folder)
    authority.issue(["site.test"], folder / "server.pem", folder / "server.key")
    context = server_context(folder / "server.pem", folder / "server.key")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context, authority.certificate.read_text()


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """A whole handshake in memory; gives back the client's end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="site.test"),
        server.wrap_bio(up, down, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[0]


def test_a_later_protocol_list_changes_nothing_in_a_context_that_threads_share(
    server: tuple[ssl.SSLContext, str],
) -> None:
    context = client_context(ca_pem=server[1])
    context.set_alpn_protocols(["h2"])  # as urllib3 does for each connection
    assert shake(context, server[0]).selected_alpn_protocol() == "http/1.1"


def test_only_the_given_authority_is_trusted_when_asked(
    server: tuple[ssl.SSLContext, str],
) -> None:
    assert len(client_context(ca_pem=server[1], only_ca=True).get_ca_certs()) == 1
    with pytest.raises(ssl.SSLCertVerificationError) as raised:
        shake(client_context(), server[0])
    assert is_untrusted(raised.value)


def test_something_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(ssl.SSLError):
        client_context(ca_pem="nothing")
