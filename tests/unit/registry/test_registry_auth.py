"""Challenges, tokens and what happens when they end in the middle."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.model.challenge import Challenge, parse_challenges
from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.registry.auth import Authenticator
from perimeter_bundle.registry.credentials import Credentials

PATH = "/v2/a/b/blobs/x"
PASSWORD = "very-secret"


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        server.serve(PATH, b"blob")
        yield server


def authenticator(
    server: LyingServer,
    credentials: Credentials | None = None,
    recorder: Recorder | None = None,
) -> Authenticator:
    transport = (recorder or Recorder()).transport(loopback_settings(server))
    return Authenticator(transport, lambda host: credentials)


def get(subject: Authenticator, server: LyingServer, scope: str = "repository:a/b:pull") -> bytes:
    with subject.open(
        "GET", server.url + PATH, {}, host=server.host, scope=scope, attempted="fetching a blob"
    ) as answer:
        return answer.read_all(100, "test")


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", ()),
        ('Basic realm="a"', (Challenge("basic", {"realm": "a"}),)),
        (
            'Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"',
            (
                Challenge(
                    "bearer",
                    {"realm": "https://a/token", "service": "s", "scope": "repository:x:pull,push"},
                ),
            ),
        ),
        (
            'bearer realm="a\\"b" , error=invalid_token, Basic realm=c',
            (
                Challenge("bearer", {"realm": 'a"b', "error": "invalid_token"}),
                Challenge("basic", {"realm": "c"}),
            ),
        ),
        ("Negotiate", (Challenge("negotiate", {}),)),
        (
            'Negotiate, Basic realm="a"',
            (Challenge("negotiate", {}), Challenge("basic", {"realm": "a"})),
        ),
        ('"""', ()),
    ],
)
def test_reads_challenges(header: str, challenges: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == challenges


def test_gets_one_token_for_a_scope_and_keeps_it(server: LyingServer) -> None:
    server.auth_scheme = "bearer"
    subject = authenticator(server)
    assert [get(subject, server) for _ in range(3)] == [b"blob"] * 3
    (asked,) = server.requests_to("/token")
    assert asked.path == "/token?service=lying&scope=repository%3Aa%2Fb%3Apull"
    get(subject, server, "repository:other:pull")
    assert len(server.requests_to("/token")) == 2


def test_renews_a_token_that_was_withdrawn_in_the_middle(server: LyingServer) -> None:
    server.auth_scheme = "bearer"
    subject = authenticator(server)
    get(subject, server)
    server.valid_tokens.clear()
    assert get(subject, server) == b"blob"
    assert len(server.requests_to("/token")) == 2


def test_renews_a_token_before_it_ends(server: LyingServer) -> None:
    server.auth_scheme, server.token_life_s = "bearer", 300
    subject = authenticator(server, recorder=Recorder(seconds_a_look=200))
    get(subject, server)
    get(subject, server)
    assert len(server.requests_to("/token")) == 2
    assert len([seen for seen in server.requests_to(PATH) if "Authorization" not in seen.headers])


def test_a_server_that_takes_no_token_is_asked_twice(server: LyingServer) -> None:
    server.auth_scheme = "bearer"
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}
    server.lie(PATH, *[Lie(status=401, body=b"", headers=challenge)] * 9)
    with pytest.raises(NetworkError, match="fetching a blob was refused") as caught:
        get(authenticator(server), server)
    assert caught.value.code == "unauthorized"
    assert len(server.requests_to(PATH)) == 2


def test_logs_in_with_a_password(server: LyingServer) -> None:
    server.auth_scheme, server.login = "bearer", ("me", PASSWORD)
    assert get(authenticator(server, Credentials("me", PASSWORD)), server) == b"blob"


def test_logs_in_with_an_identity_token(server: LyingServer) -> None:
    server.auth_scheme, server.login = "bearer", ("", PASSWORD)
    credentials = Credentials("", PASSWORD, is_identity_token=True)
    assert get(authenticator(server, credentials), server) == b"blob"
    (asked,) = server.requests_to("/token")
    assert (asked.method, asked.path) == ("POST", "/token")


def test_logs_in_with_basic_authentication(server: LyingServer) -> None:
    server.auth_scheme, server.login = "basic", ("me", PASSWORD)
    subject = authenticator(server, Credentials("me", PASSWORD))
    assert [get(subject, server), get(subject, server)] == [b"blob"] * 2
    assert len(server.requests_to(PATH)) == 3


def test_says_so_when_there_are_no_credentials(server: LyingServer) -> None:
    server.auth_scheme, server.login = "basic", ("me", PASSWORD)
    with pytest.raises(NetworkError, match=f"{server.host} wants a login") as caught:
        get(authenticator(server), server)
    assert caught.value.code == "unauthorized"
    assert caught.value.context == {"offered": "basic", "credentials": "none found"}
    assert "docker login" in (caught.value.hint or "")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_refused_password_is_in_no_error_and_no_log(
    server: LyingServer, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.auth_scheme, server.login = scheme, ("me", "another")
    credentials = Credentials("me", PASSWORD)
    with pytest.raises(NetworkError) as caught:
        get(authenticator(server, credentials), server)
    assert caught.value.code == "unauthorized"
    told = str(caught.value) + repr(caught.value) + repr(credentials) + caplog.text
    assert PASSWORD not in told
    assert credentials.basic_header() not in told


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 5}', b'{"token": "a\\nb"}', b"<html>"])
def test_a_token_server_without_a_token_is_refused(server: LyingServer, body: bytes) -> None:
    server.auth_scheme = "bearer"
    server.lie("/token", Lie(status=200, body=body))
    with pytest.raises(NetworkError, match="the token server gave no token") as caught:
        get(authenticator(server), server)
    assert caught.value.code == "bad-answer"


def test_a_redirect_target_cannot_ask_for_the_password(server: LyingServer) -> None:
    with LyingServer() as thief:
        thief.lie(
            "/x",
            Lie(status=401, body=b"", headers={"WWW-Authenticate": 'Basic realm="give it"'}),
        )
        server.lie(PATH, Lie(status=307, headers={"Location": f"{thief.url}/x"}))
        with pytest.raises(NetworkError, match="was refused"):
            get(authenticator(server, Credentials("me", PASSWORD)), server)
        assert len(thief.seen) == 1


def test_credentials_are_asked_for_by_the_host_of_the_registry(tmp_path: Path) -> None:
    asked: list[str] = []
    with LyingServer() as server:
        server.serve(PATH, b"blob")
        server.auth_scheme = "bearer"
        transport = Recorder().transport(loopback_settings(server))
        subject = Authenticator(transport, lambda host: asked.append(host))
        with subject.open(
            "GET", server.url + PATH, {}, host="quay.io", scope="s", attempted="x"
        ) as answer:
            assert json.dumps(answer.status) == "200"
    assert asked == ["quay.io"]
