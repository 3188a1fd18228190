"""Everything secret of a site: made on first use, kept in an Ansible Vault, shown nowhere.

``secrets.vault.yml`` beside site.yaml; docs/secrets.md says what is in it and how it is renewed.
"""

from __future__ import annotations

import os
import secrets as random_source
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_installer.run import certificates, vault
from perimeter_installer.run.certificates import KeyPair, RandomBytes
from perimeter_installer.run.files import replace_file
from perimeter_installer.site.model import Site

SECRETS_FILE = "secrets.vault.yml"
SECRETS_FORMAT = "perimeter-secrets/1"
MINIO_PASSWORD_BYTES = 24
_HEADER = "# Secrets of one site. Edit with: ansible-vault edit --vault-password-file vault.key\n"

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Every secret value; printing it shows nothing."""

    ca: KeyPair
    registry_certificates: Mapping[str, KeyPair]  # registry host → certificate and key
    minio_root_user: str
    minio_root_password: str
    registry_username: str = ""
    registry_password: str = ""
    vault_password: bytes = field(default=b"")

    def __repr__(self) -> str:
        return "<Secrets>"

    @property
    def values(self) -> tuple[str, ...]:
        """What must be in no log and on no command line, longest first."""
        keys = [self.ca.key, *(pair.key for pair in self.registry_certificates.values())]
        lines = [line for key in keys for line in key.splitlines() if "PRIVATE KEY" not in line]
        words = [self.minio_root_password, self.registry_password]
        words.append(self.vault_password.decode("utf-8", "replace"))
        return tuple(sorted({value for value in [*lines, *words] if value}, key=len, reverse=True))


def open_secrets(
    site: Site,
    *,
    password_file: Path | None = None,
    check: bool = False,
    on_event: OnEvent = ignore_events,
    now: Now = lambda: datetime.now(UTC),
    random: RandomBytes = random_source.token_bytes,
) -> Secrets:
    """The site's secrets; what is missing or near its end is made and saved first.

    With ``check`` what would be made is made in memory and nothing is written. Raises InputError
    for a missing or open vault key, TrustError[vault-locked], InputError[bad-ca].
    """
    password = vault.read_password(vault.password_file(site.vault_key_file, password_file))
    path = site.folder / SECRETS_FILE
    old = _parse(vault.decrypt(path.read_bytes(), password, path), path) if path.exists() else None
    new, notes = complete(old, site, _own_ca(site), now(), random)
    new = replace(new, vault_password=password)
    if notes and not check:
        replace_file(path, vault.encrypt(to_bytes(new), password), mode=0o600)
        for note in notes:
            on_event(Event(EventKind.NOTE, "secrets", note))
    return new


def complete(
    old: Secrets | None, site: Site, own_ca: KeyPair | None, now: datetime, random: RandomBytes
) -> tuple[Secrets, tuple[str, ...]]:
    """``old`` with everything the site needs, and what had to be made. Pure."""
    notes: list[str] = []
    ca = own_ca or (old.ca if old else None)
    if ca is None:
        ca = certificates.make_ca(site.name, now, random)
        notes.append("the site's CA was made")
    elif old and old.ca != ca:
        notes.append("the site's CA was replaced by the files named in site.yaml")
    certificates.check_ca(ca, now)
    pairs: dict[str, KeyPair] = {}
    for host, names in registry_names(site).items():
        pair = old.registry_certificates.get(host) if old else None
        reason = certificates.needs_renewal(pair, ca, names, now) if pair else "it is new"
        if pair is None or reason:
            pair = certificates.make_server_certificate(ca, names, now, random)
            notes.append(f"the registry certificate of {host} was made: {reason}")
        pairs[host] = pair
    if old is None:
        notes.append("the root user of MinIO was made")
    result = Secrets(
        ca=ca,
        registry_certificates=pairs,
        minio_root_user=old.minio_root_user if old else f"root-{random(6).hex()}",
        minio_root_password=(
            old.minio_root_password if old else random(MINIO_PASSWORD_BYTES).hex()
        ),
        registry_username=old.registry_username if old else "",
        registry_password=old.registry_password if old else "",
    )
    if old and set(old.registry_certificates) - set(pairs):
        notes.append("certificates of hosts that are no registry any more were dropped")
    return result, tuple(notes)


def registry_names(site: Site) -> dict[str, tuple[str, ...]]:
    """Registry host → names its certificate carries; empty for an external registry."""
    if site.registry.mode == "external":
        return {}
    return {
        host.name: (str(host.address), host.name, "localhost", "127.0.0.1")
        for host in site.group("registry")
    }


def to_bytes(secrets: Secrets) -> bytes:
    """The vault's content before encryption."""
    document = {
        "format": SECRETS_FORMAT,
        "ca": _pair_table(secrets.ca),
        "registry_certificates": {
            host: _pair_table(pair) for host, pair in secrets.registry_certificates.items()
        },
        "registry_login": {
            "username": secrets.registry_username,
            "password": secrets.registry_password,
        },
        "minio": {
            "root_user": secrets.minio_root_user,
            "root_password": secrets.minio_root_password,
        },
    }
    return (_HEADER + yaml.safe_dump(document, sort_keys=False)).encode()


def _pair_table(pair: KeyPair) -> dict[str, str]:
    return {"certificate": pair.certificate, "key": pair.key}


def _parse(data: bytes, path: Path) -> Secrets:
    """The reverse of ``to_bytes``; problems are named without any value."""
    try:
        document = yaml.safe_load(data)
        if document["format"] != SECRETS_FORMAT:
            raise _bad(path, "format", hint="it was written by another version")
        return Secrets(
            ca=_read_pair(document["ca"]),
            registry_certificates={
                str(host): _read_pair(pair)
                for host, pair in document["registry_certificates"].items()
            },
            registry_username=_text(document["registry_login"]["username"], empty=True),
            registry_password=_text(document["registry_login"]["password"], empty=True),
            minio_root_user=_text(document["minio"]["root_user"]),
            minio_root_password=_text(document["minio"]["root_password"]),
        )
    except yaml.YAMLError as error:
        raise _bad(path, "YAML") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = str(error.args[0])[:40] if isinstance(error, KeyError) else "the shape of a value"
        raise _bad(path, what) from error


def _read_pair(table: Mapping[str, object]) -> KeyPair:
    return KeyPair(_text(table["certificate"]), _text(table["key"]))


def _text(value: object, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise TypeError("not a text")
    return value


def _bad(path: Path, what: str, hint: str = "") -> InputError:
    return InputError(
        "bad-secrets",
        f"{path} cannot be used: wrong is {what}",
        hint=hint or "look at it with ansible-vault view; docs/secrets.md shows its keys",
    )


def _own_ca(site: Site) -> KeyPair | None:
    """The CA that the site brings along as files."""
    if site.ca.mode == "generated" or site.ca.cert_file is None or site.ca.key_file is None:
        return None
    if not os.access(site.ca.key_file, os.R_OK):
        raise InputError("bad-ca", f"cannot read {site.ca.key_file}")
    return KeyPair(site.ca.cert_file.read_text(), site.ca.key_file.read_text())
