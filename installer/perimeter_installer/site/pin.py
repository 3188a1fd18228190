"""Pinning of host keys: look once, compare for ever.

A host whose key is pinned already is compared; a host that is new is shown to a person, or
compared with the fingerprint that person gave. Nothing is pinned before all hosts were looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.model.errors import HostError, InputError, TrustError
from perimeter_installer.site.every import on_every
from perimeter_installer.site.host_keys import HostKey, KnownHosts
from perimeter_installer.site.model import Host, Site
from perimeter_installer.site.ssh import (
    CONNECT_TIMEOUT_S,
    Target,
    check_offered_key,
    scan_host_key,
)


@dataclass(frozen=True, slots=True)
class SeenKey:
    """The key a host offers; ``pinned``: it is the pinned one; ``expected``: somebody named it."""

    host: str
    address: str
    port: int
    key: HostKey
    pinned: bool
    expected: bool

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "host": self.host,
            "address": self.address,
            "type": self.key.kind,
            "fingerprint": self.key.fingerprint,
            "pinned": self.pinned,
            "expected": self.expected,
        }


def parse_fingerprints(texts: Sequence[str]) -> dict[str, str]:
    """``n1=SHA256:…`` to name and fingerprint; raises InputError[bad-fingerprint]."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value.startswith("SHA256:") or len(value) != 50:
            raise InputError(
                "bad-fingerprint",
                f"cannot read the fingerprint {text!r}",
                hint="write HOST=SHA256:…, as ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
                " prints it on the host",
            )
        found[name] = value
    return found


def look_at_keys(
    site: Site,
    known_hosts: KnownHosts,
    expected: Mapping[str, str],
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> list[SeenKey]:
    """The key of every host, asked at once.

    Raises InputError[bad-fingerprint] for a host that is not in the site,
    TrustError[unexpected-host-key] when a key is not the one that was named, and the HostError of
    a single host, or HostError[hosts-unseen] with the reason for each.
    """
    unknown = sorted(set(expected) - {host.name for host in site.hosts})
    if unknown:
        raise InputError("bad-fingerprint", f"there is no host {', '.join(unknown)} in this site")

    def look(host: Host) -> SeenKey:
        target = Target.of(host)
        pinned = known_hosts.keys_of(target.address, target.port)
        key = scan_host_key(target, [each.kind for each in pinned], timeout_s=timeout_s)
        if pinned:
            check_offered_key(target, pinned, key)
        return SeenKey(
            host.name, target.address, target.port, key, bool(pinned), host.name in expected
        )

    answers = on_every(site.hosts, look)
    errors = [answer for answer in answers.values() if isinstance(answer, HostError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise HostError(
            "hosts-unseen",
            f"{len(errors)} hosts could not be looked at; nothing was pinned",
            problems=[_in_one_line(error) for error in errors],
            hint="mend them, or write site.yaml now with --no-pin and pin later with --pin",
        )
    seen = [answer for answer in answers.values() if isinstance(answer, SeenKey)]
    _check_expected(seen, expected)
    return seen


def _in_one_line(error: HostError) -> str:
    found = "".join(f"; {name} {value}" for name, value in error.context.items())
    return error.message + found


def _check_expected(seen: Sequence[SeenKey], expected: Mapping[str, str]) -> None:
    wrong = [each for each in seen if expected.get(each.host, "") not in ("", each.key.fingerprint)]
    if wrong:
        raise TrustError(
            "unexpected-host-key",
            "hosts offer other keys than the ones you named; nothing was pinned",
            problems=[
                f"{each.host}: expected {expected[each.host]}, offered {each.key}" for each in wrong
            ],
            hint="the fingerprint may be of another key type; ask for the one shown here, on the"
            " host's own console",
        )


def pin(known_hosts: KnownHosts, seen: Sequence[SeenKey]) -> KnownHosts:
    """``known_hosts`` with every key that was not pinned yet."""
    for each in seen:
        if not each.pinned:
            known_hosts = known_hosts.with_key(each.address, each.port, each.key)
    return known_hosts
