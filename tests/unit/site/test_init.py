"""What init writes is what load reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perimeter_bundle.model.errors import InputError
from perimeter_installer.site.init import (
    HostAnswer,
    SiteAnswers,
    make_trust_folder,
    make_vault_key,
    parse_host,
    plan_site,
    render_site,
    scalar,
    write_site,
)
from perimeter_installer.site.load import load, parse_site
from perimeter_installer.site.pin import parse_fingerprints
from perimeter_installer.site.yaml_source import parse_yaml

EVERYTHING = ("registry", "control_plane", "worker")
ANSWERS = SiteAnswers("lab", (HostAnswer("n1", "10.99.0.11", EVERYTHING),), "admin")


def test_the_least_that_must_be_said_makes_a_site(tmp_path: Path) -> None:
    text, site = plan_site(ANSWERS, tmp_path / "site.yaml", force=False)
    assert not (tmp_path / "site.yaml").exists()
    write_site(site, text)
    assert load(tmp_path / "site.yaml") == site


def test_everything_that_can_be_said_arrives(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "my key").write_text("x")
    (tmp_path / "my key").chmod(0o600)
    answers = SiteAnswers(
        name="no",
        hosts=(
            HostAnswer("n1", "10.99.0.11", ("control_plane",)),
            HostAnswer("n2", "10.99.0.12", ("worker", "gpu")),
        ),
        ssh_user="root",
        ssh_key="my key",
        pods="172.20.0.0/16",
        services="172.21.0.0/16",
        dns_servers=("10.0.0.53", "10.0.0.54"),
        endpoint="api.plant.site:8443",
        registry_url="https://harbor.site/perimeter",
        registry_ca="ca.pem",
        storage_path="/srv/volumes",
        volume_size="20Gi",
    )
    site = parse_site(render_site(answers), tmp_path / "site.yaml")
    assert site.name == "no"
    assert [str(server) for server in site.dns.servers] == ["10.0.0.53", "10.0.0.54"]
    assert str(site.endpoint) == "api.plant.site:8443"
    assert site.endpoint.external
    assert site.registry_endpoints == ("https://harbor.site/perimeter",)
    assert site.registry.ca_file == tmp_path / "ca.pem"
    assert site.ssh.key_file == tmp_path / "my key"
    assert site.storage.path == "/srv/volumes"
    assert site.minio.volume_size == "20Gi"
    assert str(site.networks.services) == "172.21.0.0/16"


def test_every_commented_example_is_one_that_works(tmp_path: Path) -> None:
    """What stands behind a # in the file must be right when somebody takes the # away."""
    text = render_site(ANSWERS).replace("  # become: true ", "  become: true  ")
    text = text.replace("    # interface: eth0", "    interface: eth0")
    text = text.replace("    # labels: {zone: a}", "    labels: {zone: a}")
    text = text.replace("  # mtu: 1500", "  mtu: 1500").replace("  # domain:", "  domain:")
    text = text.replace("# kubernetes:\n#   endpoint", "kubernetes:\n  endpoint")
    text = text.replace("    # ssh_port: 22", "    ssh_port: 22")
    site = parse_site(text, tmp_path / "site.yaml")
    assert site.networks.mtu == 1500
    assert site.endpoint.external


def test_answers_that_make_no_site_write_nothing(tmp_path: Path) -> None:
    answers = SiteAnswers("Lab", (HostAnswer("n1", "10.99.0.11", ("worker",)),), "admin")
    with pytest.raises(InputError) as caught:
        plan_site(answers, tmp_path / "site.yaml", force=False)
    assert caught.value.code == "bad-site"
    assert list(tmp_path.iterdir()) == []


def test_an_existing_site_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("mine")
    with pytest.raises(InputError) as caught:
        plan_site(ANSWERS, tmp_path / "site.yaml", force=False)
    assert caught.value.code == "site-exists"
    plan_site(ANSWERS, tmp_path / "site.yaml", force=True)


def test_the_vault_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    _, site = plan_site(ANSWERS, tmp_path / "site.yaml", force=False)
    assert make_vault_key(site)
    made = site.vault_key_file.read_bytes()
    assert not make_vault_key(site)
    assert site.vault_key_file.read_bytes() == made
    assert site.vault_key_file.stat().st_mode & 0o777 == 0o600


def test_a_trust_folder_with_keys_is_not_touched(tmp_path: Path) -> None:
    _, site = plan_site(ANSWERS, tmp_path / "site.yaml", force=False)
    assert make_trust_folder(site)
    (site.trust_folder / "builder.pub").write_text("key")
    assert not make_trust_folder(site)
    assert (site.trust_folder / "builder.pub").read_text() == "key"


def test_a_host_without_groups_is_control_plane_and_worker() -> None:
    assert parse_host("n1=10.99.0.11").groups == ("control_plane", "worker")
    assert parse_host(" n1=10.99.0.11:worker,gpu ").groups == ("worker", "gpu")


@pytest.mark.parametrize(
    "text", ["", "n1", "n1=", "=10.0.0.1", "n1=10.0.0.1:Worker", "n1:10.0.0.1"]
)
def test_refuses_a_host_it_cannot_read(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_host(text)
    assert caught.value.code == "bad-host-option"
    assert "n1=10.99.0.11:control_plane,worker,registry" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["n1", "n1=MD5:aa", "n1=SHA256:short", f"=SHA256:{'a' * 43}"])
def test_refuses_a_fingerprint_it_cannot_read(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_fingerprints([text])
    assert caught.value.code == "bad-fingerprint"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30))
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    document = parse_yaml(f"key: {scalar(text)}\n".encode(), "test")
    assert document.values == {"key": text}
    assert document.problems == []
