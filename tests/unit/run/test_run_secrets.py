"""Secrets and certificates: made once, renewed by rule, shown nowhere."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.sites import make_site

from perimeter_bundle.model.errors import InputError, TrustError
from perimeter_bundle.model.events import Event
from perimeter_installer.run import certificates, vault
from perimeter_installer.run.secrets import SECRETS_FILE, Secrets, complete, open_secrets
from perimeter_installer.site.model import Ca, Site

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def source(seed: int = 1) -> certificates.RandomBytes:
    return random.Random(seed).randbytes


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def make(site: Site, now: datetime = NOW) -> Secrets:
    return complete(None, site, None, now, source())[0]


def test_the_same_random_source_makes_the_same_keys(site: Site) -> None:
    one, two = make(site), make(site)
    assert one.ca.key == two.ca.key
    assert one.minio_root_password == two.minio_root_password
    assert one.ca.key != complete(None, site, None, NOW, source(2))[0].ca.key


def test_each_registry_host_gets_a_certificate_for_its_address_and_name(site: Site) -> None:
    secrets = make(site)
    assert list(secrets.registry_certificates) == ["n1", "n2"]
    found = certificates.read_certificate(secrets.registry_certificates["n2"].certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [
        IPv4Address("10.99.0.12"),
        IPv4Address("127.0.0.1"),
    ]
    assert names.get_values_for_type(x509.DNSName) == ["n2", "localhost"]
    found.verify_directly_issued_by(certificates.read_certificate(secrets.ca.certificate))
    assert found.not_valid_before_utc == NOW - timedelta(days=1)


def test_nothing_is_made_anew_without_a_reason(site: Site) -> None:
    secrets = make(site)
    again, notes = complete(secrets, site, None, NOW + timedelta(days=400), source(9))
    assert notes == ()
    assert again.values == secrets.values


def test_a_certificate_near_its_end_is_renewed_and_the_rest_is_kept(site: Site) -> None:
    secrets = make(site)
    later = NOW + certificates.SERVER_LIFETIME - timedelta(days=100)
    again, notes = complete(secrets, site, None, later, source(9))
    assert notes[0] == "the registry certificate of n1 was made: it ends on 2029-02-24"
    assert len(notes) == 2
    assert again.ca == secrets.ca
    assert again.minio_root_password == secrets.minio_root_password


def test_a_host_with_another_address_gets_another_certificate(site: Site) -> None:
    secrets = make(site)
    moved = replace(site.hosts[1], address=IPv4Address("10.99.0.22"))
    again, notes = complete(
        secrets, replace(site, hosts=(site.hosts[0], moved)), None, NOW, source(9)
    )
    assert notes == (
        "the registry certificate of n2 was made: the host's names or addresses changed",
    )
    assert again.registry_certificates["n1"] == secrets.registry_certificates["n1"]


def test_a_host_that_is_no_registry_any_more_loses_its_certificate(site: Site) -> None:
    secrets = make(site)
    alone = replace(site, hosts=(site.hosts[0],))
    again, notes = complete(secrets, alone, None, NOW, source(9))
    assert list(again.registry_certificates) == ["n1"]
    assert notes == ("certificates of hosts that are no registry any more were dropped",)


def test_a_ca_of_the_sites_own_signs_everything_anew(site: Site) -> None:
    secrets = make(site)
    own = certificates.make_ca("own", NOW, source(5))
    again, notes = complete(secrets, site, own, NOW, source(9))
    assert again.ca == own
    assert notes[0] == "the site's CA was replaced by the files named in site.yaml"
    assert "another CA signed it" in notes[1]


def test_refuses_a_ca_that_cannot_sign(site: Site) -> None:
    ca = certificates.make_ca("own", NOW, source(5))
    leaf = certificates.make_server_certificate(ca, ("n1",), NOW, source(6))
    other = certificates.make_ca("other", NOW, source(7))
    wrong_key = certificates.KeyPair(ca.certificate, other.key)
    for pair, now, problem in (
        (leaf, NOW, "it is not a CA: its basic constraints say so"),
        (wrong_key, NOW, "the private key does not belong to the certificate"),
        (ca, NOW + timedelta(days=4000), "it ended on 2036-11-21"),
        (ca, NOW - timedelta(days=4), "it begins on 2026-11-21"),
    ):
        with pytest.raises(InputError, match="the site's CA cannot be used") as raised:
            complete(None, site, pair, now, source())
        assert raised.value.code == "bad-ca"
        assert problem in raised.value.problems


def test_secrets_show_nothing(site: Site) -> None:
    secrets = make(site)
    shown = repr(secrets) + str(secrets) + f"{[secrets]}" + repr(secrets.ca)
    assert not [value for value in secrets.values if value in shown]


def test_the_vault_is_made_once_and_opened_again(site: Site) -> None:
    events: list[Event] = []
    first = open_secrets(site, on_event=events.append)
    path = site.folder / SECRETS_FILE
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "the site's CA was made" in [event.message for event in events]
    before = path.read_bytes()
    assert open_secrets(site) == first
    assert path.read_bytes() == before


def test_check_writes_no_vault(site: Site) -> None:
    assert open_secrets(site, check=True).minio_root_password
    assert not (site.folder / SECRETS_FILE).exists()


def test_a_wrong_password_is_named_as_such(site: Site, tmp_path: Path) -> None:
    open_secrets(site)
    other = tmp_path / "other.key"
    other.write_text("wrong\n")
    other.chmod(0o600)
    with pytest.raises(TrustError, match="wrong password, or the file is damaged") as raised:
        open_secrets(site, password_file=other)
    assert raised.value.code == "vault-locked"


def test_refuses_a_vault_key_that_others_can_read(site: Site) -> None:
    site.vault_key_file.chmod(0o644)
    with pytest.raises(InputError, match="others can read the vault's password") as raised:
        open_secrets(site)
    assert raised.value.code == "open-vault-key"


def test_a_missing_or_empty_vault_key_is_named(site: Site) -> None:
    site.vault_key_file.write_text("\n")
    with pytest.raises(InputError, match="holds no usable password"):
        open_secrets(site)
    site.vault_key_file.unlink()
    with pytest.raises(InputError, match="cannot read the vault's password") as raised:
        open_secrets(site)
    assert "perimeter-install init" in (raised.value.hint or "")


def test_the_password_file_is_the_option_then_the_environment_then_the_sites() -> None:
    key, option = Path("/site/vault.key"), Path("/option")
    environment = {"PERIMETER_VAULT_PASSWORD_FILE": "/environment"}
    assert vault.password_file(key, option, environment) == option
    assert vault.password_file(key, None, environment) == Path("/environment")
    assert vault.password_file(key, None, {}) == key


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("format: perimeter-secrets/2\n", "format"),
        ("format: perimeter-secrets/1\n", "ca"),
        ("- a list\n", "the shape of a value"),
        ("a: [\n", "YAML"),
    ],
)
def test_refuses_a_vault_with_another_content_without_showing_it(
    site: Site, text: str, what: str
) -> None:
    password = vault.read_password(site.vault_key_file)
    path = site.folder / SECRETS_FILE
    path.write_bytes(vault.encrypt((text + "# geheim\n").encode(), password))
    with pytest.raises(InputError, match=f"cannot be used: wrong is {what}") as raised:
        open_secrets(site)
    assert raised.value.code == "bad-secrets"
    assert "geheim" not in str(raised.value)


def test_the_ca_is_taken_from_the_files_the_site_names(site: Site) -> None:
    ca = certificates.make_ca("own", datetime.now(UTC), source(5))
    cert, key = site.folder / "ca.crt", site.folder / "ca.key"
    cert.write_text(ca.certificate)
    key.write_text(ca.key)
    own = replace(site, ca=Ca("files", cert, key))
    assert open_secrets(own).ca == ca
