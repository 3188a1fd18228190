"""apt indexes: versions as dpkg orders them, relations, closures, and what no honest index says."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest

from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.ospackages import deb_index
from perimeter_bundle.ospackages.deb_index import (
    Relation,
    by_name,
    closure,
    read_packages,
    read_release,
)
from perimeter_bundle.ospackages.deb_version import DebVersion

SHA = "ab" * 32
ORDERED = [
    "1.0~~", "1.0~rc1-2", "1.0~rc1-10", "1.0-0", "1.0-1", "1.0a-1", "1.0+b1", "1.0.1", "1.2",
    "1.10", "1.10-1~bpo1", "1.10-1", "1.10-1+b1", "1.10-1ubuntu1", "2-1-1", "1:0.1",
]  # fmt: skip


def stanza(name: str, version: str = "1.0", **fields: str) -> str:
    values = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Filename": f"pool/{name}_{version}_amd64.deb",
        "Size": "10",
        "SHA256": SHA,
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }
    return "\n".join(f"{key}: {value}" for key, value in values.items() if value)


def read(*stanzas: str) -> list[deb_index.DebPackage]:
    return read_packages(("\n\n".join(stanzas) + "\n").encode(), "index")


def names(*stanzas: str, install: tuple[str, ...], **more: tuple[str, ...]) -> list[str]:
    found = closure(by_name(read(*stanzas)), install, more.get("download", ()))
    assert not found.missing
    return [f"{package.name} {package.version}" for package in found.packages]


def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    ordered = sorted(map(DebVersion, ["1.10-1+b1", *reversed(ORDERED)]))
    unique = list(dict.fromkeys(str(version) for version in ordered))
    for older, newer in pairwise(unique):
        done = subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False)
        assert done.returncode == 0, (older, newer)
    assert DebVersion("1.0") == DebVersion("1.0-0")
    assert len({DebVersion("1.0"), DebVersion("1.0-0")}) == 1
    assert DebVersion("1.0") != "1.0"


@pytest.mark.parametrize("text", ["", "a b", "1:2:", "-", "1.0-1/2", "x" * 201, "1_0"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        DebVersion(text)


@pytest.mark.parametrize(
    ("operator", "version", "holds"),
    [("", "", True), ("=", "2", True), ("<<", "2", False), ("<=", "2", True), (">=", "3", False),
     (">>", "1", True)],
)  # fmt: skip
def test_relations_hold_or_do_not(operator: str, version: str, holds: bool) -> None:
    assert Relation("x", operator, version).holds(DebVersion("2")) is holds


def test_everything_that_is_needed_comes_along_but_what_every_system_has() -> None:
    assert names(
        stanza("headers", Depends="headers-common (= 1.0), libc6:any (>= 1), virtual | other"),
        stanza("headers-common", Pre_Depends="dpkg"),
        stanza("libc6", Depends="headers"),
        stanza("dpkg", Essential="yes"),
        stanza("real", Provides="virtual (= 3), more"),
        stanza("image", Depends="initramfs"),
        install=("headers",),
        download=("image",),
    ) == ["headers 1.0", "headers-common 1.0", "image 1.0", "libc6 1.0", "real 1.0"]


def test_the_newest_that_fits_is_taken() -> None:
    stanzas = [stanza("a", version) for version in ("1.0", "1.10", "1.9")]
    assert names(*stanzas, install=("a",)) == ["a 1.10"]
    stanzas.append(stanza("b", Depends="a (<< 1.10) [amd64] <!nocheck>"))
    assert names(*stanzas, install=("b",)) == ["a 1.9", "b 1.0"]


def test_what_is_in_no_index_is_named_with_who_needs_it() -> None:
    index = by_name(read(stanza("a", Depends="gone | lost, b (>> 9)"), stanza("b")))
    found = closure(index, ("a", "never"), ("nowhere",), ("perhaps",))
    assert found.missing == (
        ("b", "a"), ("gone | lost", "a"), ("never", ""), ("nowhere", "")
    )  # fmt: skip


def test_a_package_asked_for_by_name_comes_even_if_every_system_has_it() -> None:
    assert names(stanza("tar", Priority="required"), install=("tar",)) == ["tar 1.0"]


def test_a_closure_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_index, "MAX_CLOSURE", 5)
    many = [stanza(f"p{number}", Depends=f"p{number + 1}") for number in range(20)]
    with pytest.raises(IntegrityError, match="needs more than 5 packages"):
        closure(by_name(read(*many)), ("p0",), ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (stanza("Bad Name"), "is not the name of a package"),
        (stanza("a", Filename="../../etc/passwd"), "is not a path in the repository"),
        (stanza("a", Filename=""), "is not a path in the repository"),
        (stanza("a", Filename="/etc/passwd"), "is not a path in the repository"),
        (stanza("a", Size="-1"), "is not a size"),
        (stanza("a", Size="9" * 14), "is not a size"),
        (stanza("a", SHA256="abc"), "no usable SHA-256"),
        (stanza("a", SHA256=""), "no usable SHA-256"),
        (stanza("a", version="1 0"), "is not a version"),
        (stanza("a", Depends="b (1.0)"), "cannot read the relation"),
        (stanza("a", Depends="b (>= 1_0)"), "is not a version"),
        ("nonsense", "is not the name of a package"),
    ],
)
def test_an_index_that_no_honest_repository_has_is_refused(text: str, said: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(text)
    assert caught.value.code == "bad-apt-index"
    assert said in caught.value.message


def test_an_index_that_is_not_text_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not UTF-8"):
        read_packages(b"\xff", "index")


def test_sums_are_taken_from_the_sha256_field_alone() -> None:
    text = f"MD5Sum:\n aa 1 x\nSHA256:\n {SHA} 12 main/binary-amd64/Packages.gz\nSHA1:\n bb 1 y\n"
    ((path, (digest, size)),) = read_release(text, "Release").items()
    assert (path, digest.hex, size) == ("main/binary-amd64/Packages.gz", SHA, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no SHA256 sums"),
        (f"SHA256:\n {SHA} x path", "cannot read"),
        (f"SHA256:\n {SHA} 1", "cannot read"),
        ("SHA256:\n zz 1 path", "no usable SHA-256"),
    ],
)
def test_a_release_without_usable_sums_is_refused(text: str, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        read_release(text, "Release")
