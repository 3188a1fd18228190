"""What may travel along with a request, and what a refused one says."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.lab.pki import Authority, server_context
from tests.support.connect_proxy import ConnectProxy
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.model.errors import InputError, NetworkError
from perimeter_bundle.registry.answer import shown_url
from perimeter_bundle.registry.connections import Headers
from perimeter_bundle.registry.retry import Failure, FailureKind
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.transport import Transport

LARGE = bytes(range(256)) * 12_000  # 3 MB: many records of TLS
SECRET = {"Authorization": "Bearer very-secret"}


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        server.serve("/file", b"content")
        yield server


@pytest.fixture
def other() -> Iterator[LyingServer]:
    with LyingServer() as other:
        other.serve("/file", b"content")
        yield other


def transport(*servers: LyingServer) -> Transport:
    return Recorder().transport(loopback_settings(*servers))


def get(subject: Transport, url: str, limit_bytes: int = 1000) -> bytes:
    with subject.open("GET", url, SECRET) as answer:
        return answer.read_all(limit_bytes, "test")


def test_a_credential_follows_a_redirect_on_the_same_server(server: LyingServer) -> None:
    server.lie("/old", Lie(status=307, headers={"Location": "/file"}))
    assert get(transport(server), f"{server.url}/old") == b"content"
    assert server.seen[-1].headers["Authorization"] == "Bearer very-secret"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_credential_follows_a_redirect_to_another_server(
    server: LyingServer, other: LyingServer, status: int
) -> None:
    server.lie("/old", Lie(status=status, headers={"Location": f"{other.url}/file?sig=1"}))
    assert get(transport(server, other), f"{server.url}/old") == b"content"
    assert "Authorization" not in other.seen[0].headers
    assert "Authorization" in server.seen[0].headers


def test_a_credential_does_not_come_back_after_a_detour(
    server: LyingServer, other: LyingServer
) -> None:
    server.lie("/old", Lie(status=307, headers={"Location": f"{other.url}/on"}))
    other.lie("/on", Lie(status=307, headers={"Location": f"{server.url}/file"}))
    assert get(transport(server, other), f"{server.url}/old") == b"content"
    assert "Authorization" not in server.seen[-1].headers


@pytest.mark.parametrize(
    "target",
    ["http://example.com/file", "ftp://example.com/file", "file:///etc/passwd", "http://[::2]/x"],
)
def test_no_redirect_leads_away_from_tls(server: LyingServer, target: str) -> None:
    server.lie("/old", Lie(status=302, headers={"Location": target}))
    with pytest.raises(NetworkError, match="refused to go on without TLS") as caught:
        get(transport(server), f"{server.url}/old")
    assert caught.value.code == "not-https"


def test_plain_http_is_refused_from_the_start() -> None:
    with pytest.raises(NetworkError, match="refused to go on without TLS"):
        get(transport(), "http://example.com/file")


def test_a_redirect_without_end_is_given_up(server: LyingServer) -> None:
    server.lie("/old", *[Lie(status=302, headers={"Location": "/old"})] * 20)
    with pytest.raises(NetworkError, match="more than 8 redirects") as caught:
        get(transport(server), f"{server.url}/old")
    assert caught.value.code == "too-many-redirects"


def test_signed_addresses_and_tokens_are_in_no_error_and_no_log(
    server: LyingServer, other: LyingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = b'{"errors":[{"code":"DENIED","message":"no: Bearer very-secret"}]}'
    server.lie(
        "/old", Lie(status=307, headers={"Location": f"{other.url}/signed?X-Signature=very-secret"})
    )
    other.lie("/signed", Lie(status=403, body=echo))
    with pytest.raises(NetworkError) as caught:
        get(transport(server, other), f"{server.url}/old")
    assert caught.value.context == {
        "found": f"403 from {other.url}/signed",
        "reason": "DENIED",
    }
    assert "very-secret" not in str(caught.value) + repr(caught.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:1/path?sig=x#y", "https://host:1/path"),
        ("https://[broken", "(not an address)"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_refuses_an_answer_that_a_proxy_packed(server: LyingServer) -> None:
    server.lie("/file", Lie(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(NetworkError, match="packed though it was asked for as it is") as caught:
        get(transport(server), f"{server.url}/file")
    assert caught.value.code == "content-encoding"
    assert server.seen[0].headers["Accept-Encoding"] == "identity"


def test_refuses_an_answer_larger_than_it_may_be(server: LyingServer) -> None:
    server.serve("/file", bytes(1001))
    with pytest.raises(NetworkError, match="larger than it may be") as caught:
        get(transport(server), f"{server.url}/file")
    assert caught.value.code == "too-large"


def test_an_answer_that_ends_early_may_be_asked_for_again(server: LyingServer) -> None:
    server.lie("/file", Lie(cut_after=3))
    with pytest.raises(Failure) as caught:
        get(transport(server), f"{server.url}/file")
    assert caught.value.kind is FailureKind.TRUNCATED


def test_nobody_listening_is_a_failure_to_connect() -> None:
    with LyingServer() as gone:
        url = f"{gone.url}/file"
    with pytest.raises(Failure, match="Connection refused") as caught:
        get(transport(), url)
    assert caught.value.kind is FailureKind.CONNECT


@pytest.mark.parametrize("url", ["https://", "https://host:port/x", "https://[x/", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(NetworkError) as caught:
        get(transport(), url)
    assert caught.value.code in ("bad-address", "not-https")


def test_connections_are_used_again(server: LyingServer) -> None:
    subject = transport(server)
    for _ in range(3):
        get(subject, f"{server.url}/file")
    assert server.connections == 1


def test_no_more_connections_are_kept_than_may_be_in_use(server: LyingServer) -> None:
    subject = transport(server)
    at_once = subject.settings.connections + 5
    opened = [subject.open("GET", f"{server.url}/file") for _ in range(at_once)]
    for answer in opened:
        with answer:
            assert answer.read_all(1000, "test") == b"content"
    deadline = time.monotonic() + 10
    while server.connections > subject.settings.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.connections == subject.settings.connections


def test_a_connection_the_server_closed_meanwhile_is_not_used(server: LyingServer) -> None:
    subject = transport(server)
    server.lie("/file", Lie(headers={"Connection": "close"}), Lie(no_length=True))
    assert [get(subject, f"{server.url}/file") for _ in range(3)] == [b"content"] * 3


@pytest.mark.parametrize("fields", ["5\r\nContent-Length: 6", "5, 5"])
def test_an_answer_with_several_lengths_is_not_believed(server: LyingServer, fields: str) -> None:
    server.lie(
        "/file", Lie(raw=f"HTTP/1.1 200 OK\r\nContent-Length: {fields}\r\n\r\nhello".encode())
    )
    with pytest.raises(Failure, match="several lengths"):
        get(transport(server), f"{server.url}/file")


def test_fields_of_one_name_are_read_together() -> None:
    headers = Headers([("Link", "<a>"), ("ETag", "x"), ("LINK", "<b>")])
    assert (headers["link"], headers.get("etag"), len(headers)) == ("<a>, <b>", "x", 2)


@pytest.mark.parametrize("proxy_has_tls", [False, True])
def test_tls_goes_through_a_proxy_untouched(tmp_path: Path, proxy_has_tls: bool) -> None:
    with tunnelled(tmp_path, proxy_has_tls=proxy_has_tls) as (subject, proxy, server):
        for _ in range(2):
            assert get(subject, "https://upstream.example/file", len(LARGE)) == LARGE
    assert len(proxy.asked) == 1  # one tunnel, used twice
    assert proxy.asked[0].startswith("CONNECT upstream.example:443 HTTP/1.")
    login = base64.b64encode(b"user:very secret").decode()
    assert f"Proxy-Authorization: Basic {login}" in proxy.asked[0]
    assert "Bearer" not in proxy.asked[0]
    assert [seen.path for seen in server.seen] == ["/file"] * 2
    assert "Proxy-Authorization" not in server.seen[0].headers


def test_what_a_proxy_refuses_is_told(tmp_path: Path) -> None:
    with tunnelled(tmp_path) as (subject, proxy, _):
        proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required"
        with pytest.raises(Failure, match="407 Proxy Authentication Required") as caught:
            get(subject, "https://upstream.example/file")
    assert caught.value.kind is FailureKind.CONNECT
    assert "secret" not in caught.value.found


def test_a_name_the_certificate_does_not_hold_is_refused_behind_a_proxy(tmp_path: Path) -> None:
    with (
        tunnelled(tmp_path) as (subject, _, _),
        pytest.raises(NetworkError, match="not trusted") as caught,
    ):
        get(subject, "https://other.example/file")
    assert caught.value.code == "tls-untrusted"


@contextmanager
def tunnelled(
    folder: Path, *, proxy_has_tls: bool = False
) -> Iterator[tuple[Transport, ConnectProxy, LyingServer]]:
    """A transport whose only way to upstream.example is a proxy's tunnel."""
    authority = Authority.in_folder(folder)
    certificate, key = folder / "server.crt", folder / "server.key"
    authority.issue(["upstream.example", "IP:127.0.0.1"], certificate, key)
    context = server_context(certificate, key)
    with LyingServer(context) as server:
        server.serve("/file", LARGE)
        proxy = ConnectProxy(int(server.host.rpartition(":")[2]))
        proxy.context = context if proxy_has_tls else None
        with proxy.open():
            settings = replace(
                loopback_settings(), ca_file=authority.certificate, proxies={"https": proxy.url}
            )
            yield Recorder().transport(settings), proxy, server


def test_a_ca_file_that_is_none_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text("not a certificate")
    with pytest.raises(InputError, match="cannot read certificates from") as caught:
        Transport(RegistrySettings(ca_file=path))
    assert caught.value.code == "bad-ca-file"


def test_a_proxy_is_used_and_its_password_stays_out_of_errors(server: LyingServer) -> None:
    # the lying server plays the proxy: over plain HTTP it sees the whole address
    settings = loopback_settings(
        proxies={"http": server.url.replace("http://", "http://user:very-secret@")},
        unsafe_http_hosts=frozenset({"upstream.example"}),
    )
    server.lie("/file", Lie(status=403, body=b""))
    subject = Recorder().transport(settings)
    with pytest.raises(NetworkError) as caught:
        subject.open("GET", "http://upstream.example/file")
    assert server.seen[0].path == "http://upstream.example/file"
    sent = {name.lower(): value for name, value in server.seen[0].headers.items()}
    assert sent["proxy-authorization"].startswith("Basic ")
    assert "very-secret" not in str(caught.value) + repr(settings)


def test_a_proxy_variable_without_an_address_is_refused() -> None:
    with pytest.raises(InputError, match="a proxy variable does not hold an address"):
        Transport(RegistrySettings(proxies={"https": "http://[broken"}))


@pytest.mark.parametrize("location", ["", "http://[broken", "https://", "http://exa mple/"])
def test_a_redirect_to_no_address_is_refused(server: LyingServer, location: str) -> None:
    server.lie("/old", Lie(status=302, headers={"Location": location}))
    with pytest.raises(NetworkError) as caught:
        get(transport(server), f"{server.url}/old")
    assert caught.value.code in ("bad-answer", "bad-address", "not-https")


def test_a_body_is_sent_nowhere_but_where_it_was_addressed(
    server: LyingServer, other: LyingServer
) -> None:
    server.lie("/token", Lie(status=307, headers={"Location": f"{other.url}/file"}))
    with pytest.raises(NetworkError, match="was refused"):
        transport(server, other).open("POST", f"{server.url}/token", body=b"refresh_token=secret")
    assert other.seen == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"\x16\x03\x01 TLS?",
    ],
)
def test_what_is_not_http_may_be_asked_for_again(server: LyingServer, raw: bytes) -> None:
    server.lie("/file", Lie(raw=raw))
    with pytest.raises(Failure) as caught:
        get(transport(server), f"{server.url}/file")
    assert caught.value.kind in (FailureKind.BROKEN, FailureKind.TRUNCATED)


@pytest.mark.parametrize("length", [b"-5", b"abc", b"9" * 30])
def test_a_length_that_is_none_does_not_break_reading(server: LyingServer, length: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\nhello"
    server.lie("/file", Lie(raw=raw))
    try:
        assert get(transport(server), f"{server.url}/file") == b"hello"
    except Failure as failure:
        assert failure.kind is FailureKind.TRUNCATED


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (Lie(close_at_once=True), "the connection was closed without an answer"),
        (Lie(raw=b"\x00 no web server\r\n\r\n"), "what came is no answer of a web server"),
    ],
)
def test_what_a_host_did_instead_of_answering_is_said_in_words_with_its_name(
    server: LyingServer, lie: Lie, found: str
) -> None:
    server.lie("/file", lie)
    transport = Recorder().transport(loopback_settings(server))
    with pytest.raises(Failure) as caught:
        transport.open("GET", server.serve("/file", b"data"))
    assert str(caught.value) == f"{server.host}: {found}"


def test_the_host_of_a_redirect_that_nobody_can_reach_is_named(server: LyingServer) -> None:
    server.lie("/file", Lie(status=307, headers={"Location": "https://127.0.0.1:1/file"}))
    transport = Recorder().transport(loopback_settings(server))
    with pytest.raises(Failure, match=r"^127\.0\.0\.1:1: Connection refused$"):
        transport.open("GET", server.serve("/file", b"data"))
