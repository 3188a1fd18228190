"""Vaults are opened like Ansible's own tools open them, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.model.errors import TrustError
from perimeter_installer.run.vault import decrypt, encrypt

WHERE = Path("secrets.vault.yml")


def ansible(password: bytes) -> VaultLib:
    return VaultLib([("default", VaultSecret(password))])


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=300), password=st.binary(min_size=1, max_size=40))
def test_what_ansible_seals_is_opened_and_the_other_way_round(data: bytes, password: bytes) -> None:
    assert decrypt(ansible(password).encrypt(data), password, WHERE) == data
    assert bytes(ansible(password).decrypt(encrypt(data, password))) == data


def test_a_vault_with_a_label_and_windows_line_ends_is_opened() -> None:
    sealed = ansible(b"word").encrypt(b"the data", vault_id="site")
    assert sealed.startswith(b"$ANSIBLE_VAULT;1.2;AES256;site\n")
    assert decrypt(sealed.replace(b"\n", b"\r\n"), b"word", WHERE) == b"the data"


def test_a_vault_looks_as_ansible_writes_it() -> None:
    ours, theirs = encrypt(b"x" * 500, b"word"), ansible(b"word").encrypt(b"x" * 500)
    assert [len(line) for line in ours.split(b"\n")] == [len(one) for one in theirs.split(b"\n")]
    assert encrypt(b"x", b"word") != encrypt(b"x", b"word")


def test_another_password_opens_nothing() -> None:
    with pytest.raises(TrustError, match="wrong password, or the file is damaged"):
        decrypt(encrypt(b"data", b"right"), b"wrong", WHERE)


def test_every_changed_or_missing_byte_is_refused() -> None:
    sealed = encrypt(b"key: value\n", b"word")
    for place in range(0, len(sealed), 7):
        digit = b"1" if sealed[place : place + 1] != b"1" else b"2"
        damaged = sealed[:place] + digit + sealed[place + 1 :]
        if damaged.replace(b"\n", b"") == sealed.replace(b"\n", b""):
            continue
        with pytest.raises(TrustError):
            decrypt(damaged, b"word", WHERE)
        with pytest.raises(TrustError):
            decrypt(sealed[:place], b"word", WHERE)
        with pytest.raises(AnsibleError):
            ansible(b"word").decrypt(damaged)


@pytest.mark.parametrize(
    "data", [b"", b"plain: text\n", b"$ANSIBLE_VAULT;1.1;AES\n6162\n", b"\xff"]
)
def test_what_is_no_vault_is_refused(data: bytes) -> None:
    with pytest.raises(TrustError, match="or the file is damaged"):
        decrypt(data, b"word", WHERE)
