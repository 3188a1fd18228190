"""Small sites on loopback: site.yaml, a vault key, an external registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perimeter_installer.site.load import load
from perimeter_installer.site.model import Site

_SITE = """\
site: {name: test}
ssh: {user: root}
hosts:
  n1: {address: 10.99.0.11, groups: [registry, control_plane, worker]}
  n2: {address: 10.99.0.12, groups: [registry, worker]}
"""
_EXTERNAL = "registry: {mode: external, url: 'https://10.99.0.9', ca_file: registry-ca.pem}\n"
VAULT_PASSWORD = "the password of a test's vault"


def make_site(folder: Path, *, registry_url: str = "", registry_ca: str = "") -> Site:
    """A site of two hosts that do not exist; with ``registry_url`` its registry is external."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _SITE
    if registry_url:
        (folder / "registry-ca.pem").write_text(registry_ca)
        text = text.replace("[registry, ", "[") + _EXTERNAL
    (folder / "site.yaml").write_text(text)
    key = folder / "vault.key"
    key.write_text(VAULT_PASSWORD + "\n")
    key.chmod(0o600)
    return open_site(folder, registry_url)


def open_site(folder: Path, registry_url: str = "") -> Site:
    """The site in ``folder``; its registry may be on loopback, which site.yaml refuses."""
    site = load(folder / "site.yaml")
    registry = replace(site.registry, url=registry_url) if registry_url else site.registry
    return replace(site, registry=registry)
