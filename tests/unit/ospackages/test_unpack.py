"""Packed indexes, and keyrings in armour: unpacked up to a limit, junk named."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.apt_repository import AptKeys

from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, TrustError
from perimeter_bundle.ospackages import unpack
from perimeter_bundle.ospackages.signature import check_detached, read_armoured, read_keyring
from perimeter_bundle.ospackages.unpack import unpack_index


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "xz": lzma.compress, "zst": zstd
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKERS)
def test_an_index_is_unpacked_whatever_packed_it(kind: str, tmp_path: Path) -> None:
    data = PACKERS[kind](b"index" * 1000)
    assert unpack_index(data, f"https://x/p.{kind}", tmp_path, "bad-index") == b"index" * 1000
    assert unpack_index(b"plain", "https://x/p.xml", tmp_path, "bad-index") == b"plain"


@pytest.mark.parametrize("kind", PACKERS)
def test_an_index_that_grows_without_end_or_is_cut_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 64 * 1024)
    bomb = PACKERS[kind](bytes(10 * 1024 * 1024))
    with pytest.raises(IntegrityError, match="unpacks to more than any honest index") as caught:
        unpack_index(bomb, f"https://x/p.{kind}", tmp_path, "bad-index")
    assert caught.value.code == "bad-index"
    for junk in (PACKERS[kind](b"x" * 1000)[:-5], b"junk"):
        with pytest.raises(IntegrityError, match="cannot be unpacked"):
            unpack_index(junk, f"https://x/p.{kind}", tmp_path, "bad-index")


def test_without_zstd_the_builder_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perimeter_bundle.tools.run._PATH", str(tmp_path))
    with pytest.raises(HostError) as caught:
        unpack_index(zstd(b"x"), "https://x/p.zst", tmp_path, "bad-index")
    assert caught.value.code == "tool-missing"
    assert "install zstd" in str(caught.value.hint)


def test_several_armoured_keys_in_one_file_are_all_taken(tmp_path: Path) -> None:
    keys = [AptKeys(tmp_path / name) for name in ("one", "other")]
    both = tmp_path / "both.asc"
    both.write_bytes(b"about\n" + b"\n".join(one.gpg("--armor", "--export") for one in keys))
    assert read_keyring(both) == b"".join(one.keyring.read_bytes() for one in keys)
    assert read_armoured(both) == both.read_bytes()
    data = tmp_path / "data"
    data.write_bytes(b"data")
    for one in keys:
        signature = one.gpg("--armor", "--detach-sign", "-o", "-", str(data))
        check_detached(b"data", signature, both, tmp_path, "data")
        with pytest.raises(TrustError, match=r"is not signed by a key in both\.asc"):
            check_detached(b"datb", signature, both, tmp_path, "data")
    with pytest.raises(TrustError):
        check_detached(b"data", b"", both, tmp_path, "data")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n", "has no public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----",
         "cannot be read"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----",
         "nothing follows"),
        (bytes(2 * 1024 * 1024), "larger than any keyring"),
    ],
)  # fmt: skip
def test_a_keyring_that_is_none_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "keys.asc"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        read_keyring(path)
    assert caught.value.code == "bad-keyring"
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        read_keyring(path)
