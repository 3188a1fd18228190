"""Published SHA-256 files in the forms that projects use."""

from __future__ import annotations

import pytest

from perimeter_bundle.collect.checksums import find_checksum
from perimeter_bundle.model.errors import NetworkError

ONE, TWO = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"{ONE}\n",
        f"{ONE}  runc.amd64\n{TWO}  runc.arm64\n",
        f"{TWO} *other\n{ONE} *runc.amd64\n",
        f"{ONE}  ./release/runc.amd64\n",
        f"SHA256 (runc.amd64) = {ONE.upper()}\n",
        f"# signed\n{ONE}  runc.amd64\n-----BEGIN PGP SIGNATURE-----\nabc\n",
    ],
)
def test_finds_the_digest_of_the_file(text: str) -> None:
    assert str(find_checksum(text.encode(), "runc.amd64", "u")) == f"sha256:{ONE}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not found</html>",
        f"{ONE}  runc.arm64\n",
        f"{ONE}\n{TWO}\n",
        f"{ONE[:-1]}  runc.amd64\n",
        f"{ONE}  runc.arm64\n{TWO}\n",
    ],
)
def test_refuses_a_file_that_does_not_say(text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        find_checksum(text.encode(), "runc.amd64", "https://example.org/sums")
    assert caught.value.code == "bad-checksum-file"
    assert "https://example.org/sums holds no SHA-256 of runc.amd64" in caught.value.message
