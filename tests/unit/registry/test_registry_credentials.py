"""Credentials as docker and podman keep them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.registry.credentials import Credentials, CredentialStore

SECRET = "very-secret"
PACKED = base64.b64encode(f"me:{SECRET}".encode()).decode()


def store(folder: Path, document: object) -> CredentialStore:
    path = folder / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return CredentialStore(path, {"PATH": f"{folder}:/usr/bin:/bin", "LANG": "C.UTF-8"})


def helper(folder: Path, script: str) -> None:
    path = folder / "docker-credential-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "key", ["quay.io", "https://quay.io", "https://quay.io/v1/", "https://quay.io/v2/"]
)
def test_finds_a_host_however_docker_wrote_it(tmp_path: Path, key: str) -> None:
    subject = store(tmp_path, {"auths": {key: {"auth": PACKED}}})
    assert subject.find("quay.io") == Credentials("me", SECRET)
    assert subject.find("other.io") is None
    assert subject.find("evil-quay.io") is None


def test_finds_docker_hub_under_its_old_name(tmp_path: Path) -> None:
    subject = store(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": PACKED}}})
    assert subject.find("docker.io") == Credentials("me", SECRET)


def test_reads_plain_pairs_and_identity_tokens(tmp_path: Path) -> None:
    auths = {
        "a.io": {"username": "me", "password": SECRET},
        "b.io": {"auth": PACKED, "identitytoken": "refresh"},
        "c.io": {},
    }
    subject = store(tmp_path, {"auths": auths})
    assert subject.find("a.io") == Credentials("me", SECRET)
    assert subject.find("b.io") == Credentials("", "refresh", is_identity_token=True)
    assert subject.find("c.io") is None


def test_asks_the_helper_of_a_host_with_its_name_on_the_input(tmp_path: Path) -> None:
    helper(
        tmp_path,
        f'test "$1" = get && test "$(cat)" = quay.io || exit 1\n'
        f'echo \'{{"ServerURL":"quay.io","Username":"me","Secret":"{SECRET}"}}\'',
    )
    subject = store(tmp_path, {"credHelpers": {"quay.io": "test"}})
    assert subject.find("quay.io") == Credentials("me", SECRET)


def test_asks_the_store_for_every_host(tmp_path: Path) -> None:
    helper(tmp_path, f'echo \'{{"Username":"<token>","Secret":"{SECRET}"}}\'')
    subject = store(tmp_path, {"credsStore": "test"})
    assert subject.find("x.io") == Credentials("<token>", SECRET, is_identity_token=True)


def test_a_helper_that_knows_nothing_is_no_error(tmp_path: Path) -> None:
    helper(tmp_path, "echo 'credentials not found in native keychain'; exit 1")
    assert store(tmp_path, {"credsStore": "test"}).find("x.io") is None


def test_asks_a_helper_once_a_host(tmp_path: Path) -> None:
    helper(tmp_path, f'echo x >> {tmp_path}/asked; echo \'{{"Username":"u","Secret":"s"}}\'')
    subject = store(tmp_path, {"credsStore": "test"})
    for _ in range(3):
        subject.find("x.io")
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"echo '{SECRET}' >&2; exit 3", "docker-credential-test gave no credentials for x.io"),
        (f"echo 'not json {SECRET}'", "answered something that is not credentials"),
        ("echo '{}'", "answered something that is not credentials"),
    ],
)
def test_a_helper_that_fails_is_named_but_not_quoted(
    tmp_path: Path, script: str, message: str
) -> None:
    helper(tmp_path, script)
    with pytest.raises(InputError, match=message) as caught:
        store(tmp_path, {"credsStore": "test"}).find("x.io")
    assert caught.value.code == "credential-helper"
    assert SECRET not in str(caught.value)


def test_a_helper_name_cannot_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the name of a credential helper"):
        store(tmp_path, {"credsStore": "../../bin/sh"}).find("x.io")


@pytest.mark.parametrize("document", ["", "[]", f"{{ {SECRET}", "[" * 100_000])
def test_a_damaged_file_is_refused_without_quoting_it(tmp_path: Path, document: str) -> None:
    with pytest.raises(InputError, match=r"config\.json") as caught:
        store(tmp_path, document).find("x.io")
    assert caught.value.code == "bad-docker-config"
    assert SECRET not in str(caught.value)


def test_a_damaged_entry_is_refused_without_quoting_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the entry for x\.io is damaged") as caught:
        store(tmp_path, {"auths": {"x.io": {"auth": SECRET}}}).find("x.io")
    assert SECRET not in str(caught.value)


def test_without_a_file_nobody_is_logged_in() -> None:
    assert CredentialStore(None, {}).find("quay.io") is None
