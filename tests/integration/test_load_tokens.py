"""Loading into a registry that wants tokens: a real Distribution and a token server beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import make_bundle
from tests.support.distribution import Distribution
from tests.support.token_server import TokenServer

from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.errors import NetworkError, TrustError
from perimeter_bundle.model.events import ignore_events
from perimeter_installer.inventory.client import ReadClient
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import bundle_content
from perimeter_installer.load.push import fill_replica
from perimeter_installer.load.registry import PushClient

Stand = Callable[..., tuple[RegistryEndpoint, TokenServer]]


@pytest.fixture
def bundle(tmp_path: Path) -> VerifiedBundle:
    made = make_bundle(tmp_path / "bundle")
    return open_bundle(made.root, made.trust)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Starts a registry and its token server; gives where to load with the right login."""
    with ExitStack() as stack:

        def start(**settings: object) -> tuple[RegistryEndpoint, TokenServer]:
            registry = Distribution(tmp_path / "registry")
            tokens = TokenServer(tmp_path / "tokens", registry.ca, **settings)  # type: ignore[arg-type]
            stack.enter_context(tokens)
            registry.token_realm = tokens.realm
            stack.enter_context(registry)
            endpoint = RegistryEndpoint.parse(
                "the site's registry",
                registry.url,
                ca_pem=registry.ca.certificate,
                username="robot",
                password="secret",
            )
            return endpoint, tokens

        yield start


def fill(endpoint: RegistryEndpoint, bundle: VerifiedBundle) -> int:
    with closing(PushClient(endpoint, sleep=lambda seconds: None)) as client:
        report = fill_replica(client, bundle_content(bundle), bundle.extents, ignore_events)
    assert report.complete
    return report.blobs_sent


def test_a_bundle_is_loaded_with_one_token_for_each_thing_that_is_asked_for(
    stand: Stand, bundle: VerifiedBundle
) -> None:
    endpoint, tokens = stand()
    assert fill(endpoint, bundle) > 0
    scopes = [scopes for _, scopes in tokens.asked]
    assert len(scopes) == len(set(scopes))
    assert any(scope.endswith(":pull,push") for each in scopes for scope in each)
    assert {who for who, _ in tokens.asked} == {"robot"}
    assert fill(endpoint, bundle) == 0


def test_an_inventory_asks_for_the_catalog_and_to_pull_only(
    stand: Stand, bundle: VerifiedBundle
) -> None:
    endpoint, tokens = stand()
    fill(endpoint, bundle)
    tokens.asked.clear()
    with closing(ReadClient(endpoint)) as client:
        names = client.repositories()
        assert names
        assert all(client.tags(name) for name in names)
    asked = [scope for _, scopes in tokens.asked for scope in scopes]
    assert "registry:catalog:*" in asked
    assert not any("push" in scope for scope in asked)


def test_tokens_that_end_in_the_middle_are_renewed(stand: Stand, bundle: VerifiedBundle) -> None:
    endpoint, tokens = stand(ends_after_s=1)  # though it says they live for minutes
    with closing(PushClient(endpoint, sleep=lambda seconds: None)) as client:
        name = bundle_content(bundle).blobs[0].names[0]
        need = bundle_content(bundle).blobs[0]
        assert client.head_blob(name, need.digest) is None
        time.sleep(2.1)
        client.push_blob(
            name, need.digest, bundle.extents(need.digest), need.size_bytes, lambda count: None
        )
        assert client.head_blob(name, need.digest) == need.size_bytes
    assert len(tokens.asked) >= 2


def test_a_wrong_password_is_refused_and_not_shown(stand: Stand, bundle: VerifiedBundle) -> None:
    endpoint, _ = stand()
    with pytest.raises(TrustError, match="does not let us log in") as caught:
        fill(replace(endpoint, password="hunter2"), bundle)
    assert "hunter2" not in str(caught.value)


def test_a_login_without_the_right_to_push_is_told_so(stand: Stand, bundle: VerifiedBundle) -> None:
    endpoint, tokens = stand(rights=frozenset({"pull"}))
    with pytest.raises(TrustError, match="does not let us send"):
        fill(endpoint, bundle)
    assert len(tokens.asked) < 200


def test_a_token_server_that_is_busy_is_asked_again(stand: Stand, bundle: VerifiedBundle) -> None:
    endpoint, tokens = stand()
    tokens.broken = 2
    assert fill(endpoint, bundle) > 0


@pytest.mark.parametrize(
    "realm",
    [
        "http://127.0.0.1:9/token",
        "https://localhost:port/token",
        "https://[half/token",
        "ftp://localhost/token",
        "/token",
    ],
)
def test_the_password_goes_to_no_token_server_without_tls(tmp_path: Path, realm: str) -> None:
    registry = Distribution(tmp_path / "registry")
    registry.token_realm = realm
    with registry:
        endpoint = RegistryEndpoint.parse(
            "n1",
            registry.url,
            ca_pem=registry.ca.certificate,
            username="robot",
            password="secret",
        )
        with (
            closing(PushClient(endpoint)) as client,
            pytest.raises(TrustError, match="without TLS; the password was not sent"),
        ):
            client.ping()


def test_a_token_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    registry = Distribution(tmp_path / "registry")
    registry.token_realm = "https://127.0.0.1:9/token"
    with registry:
        endpoint = RegistryEndpoint.parse("n1", registry.url, ca_pem=registry.ca.certificate)
        with (
            closing(PushClient(endpoint, sleep=lambda seconds: None)) as client,
            pytest.raises(NetworkError, match="did not answer: could not ask"),
        ):
            client.ping()
