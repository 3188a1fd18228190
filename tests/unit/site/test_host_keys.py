"""known_hosts: what we write, ssh reads; what we cannot read, we refuse."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import HostError, InputError
from perimeter_installer.site.host_keys import HostKey, KnownHosts, host_pattern

BLOB = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00 " + bytes(range(32))
KEY = HostKey("ssh-ed25519", BLOB)
TEXT = base64.b64encode(BLOB).decode()


def test_a_fingerprint_is_written_as_ssh_keygen_writes_it() -> None:
    """ssh-keygen -lf on a file with this very key."""
    assert KEY.fingerprint == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


@pytest.mark.parametrize(
    ("port", "expected"), [(22, "10.99.0.11"), (2222, "[10.99.0.11]:2222")]
)  # fmt: skip
def test_a_port_other_than_22_stands_in_the_name(port: int, expected: str) -> None:
    assert host_pattern("10.99.0.11", port) == expected


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    known = KnownHosts().with_key("10.99.0.11", 22, KEY).with_key("10.99.0.12", 2222, KEY)
    known.save(path)
    assert KnownHosts.load(path) == known
    assert known.keys_of("10.99.0.12", 2222) == (KEY,)
    assert known.keys_of("10.99.0.12", 22) == ()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["known_hosts"]


def test_no_file_pins_nothing(tmp_path: Path) -> None:
    assert KnownHosts.load(tmp_path / "known_hosts").entries == ()


def test_lines_people_write_are_read(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"# comment\n\n10.99.0.11,n1 ssh-ed25519 {TEXT} root@n1\n")
    assert KnownHosts.load(path).keys_of("n1", 22) == (KEY,)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("10.99.0.11", "line 2: expected an address, a key type and a key"),
        ("10.99.0.11 ssh-ed25519 ???", "line 2: the key is not base64"),
        (f"10.99.0.11 ssh-rsa {TEXT}", "line 2: the key is not of the type ssh-rsa"),
        (f"|1|abc=|def= ssh-ed25519 {TEXT}", "line 2: hashed names and markers are not read here"),
        (f"@revoked * ssh-ed25519 {TEXT}", "line 2: hashed names and markers are not read here"),
        ("10.99.0.11 ssh-ed25519 AAAA", "line 2: the key is not of the type"),
    ],
)
def test_refuses_lines_that_would_be_believed_elsewhere(
    tmp_path: Path, line: str, expected: str
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"10.99.0.11 ssh-ed25519 {TEXT}\n{line}\n")
    with pytest.raises(InputError) as caught:
        KnownHosts.load(path)
    assert caught.value.code == "bad-known-hosts"
    assert expected in caught.value.problems[0]


def test_a_folder_that_is_not_there_is_an_error_of_this_host(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        KnownHosts().save(tmp_path / "gone" / "known_hosts")
    assert caught.value.code == "cannot-write"
