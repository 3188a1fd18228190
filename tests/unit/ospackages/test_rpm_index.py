"""repomd.xml and primary.xml: what they say, and what no honest repository says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.ospackages import rpm_index, strict_xml
from perimeter_bundle.ospackages.rpm_index import (
    RpmPackage,
    check_same,
    read_primary,
    read_repomd,
)

SHA = "ab" * 32
REPOMD = f"""<?xml version="1.0"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1700</revision>
<data type="filelists"><timestamp>1800.5</timestamp></data>
<data type="primary"><checksum type="sha256">{SHA}</checksum><timestamp>1600</timestamp>
<location href="repodata/primary.xml.gz"/><size>12</size></data></repomd>"""


def package(
    name: str = "a",
    version: str = 'epoch="0" ver="1.0" rel="1"',
    *,
    arch: str = "x86_64",
    sha: str = SHA,
    kind: str = "sha256",
    size: str = "10",
    location: str = 'href="Packages/a.rpm"',
    details: str = "",
) -> str:
    return (
        f'<package type="rpm"><name>{name}</name><arch>{arch}</arch><version {version}/>'
        f'<checksum type="{kind}" pkgid="YES">{sha}</checksum><size package="{size}"/>'
        f"<location {location}/><format>{details}</format></package>"
    )


def primary(*packages: str) -> bytes:
    start = (
        '<metadata xmlns="http://linux.duke.edu/metadata/common"'
        ' xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">'
    )
    return f"{start}{''.join(packages)}</metadata>".encode()


def read(*packages: str) -> list[RpmPackage]:
    return read_primary(primary(*packages), "x86_64", "index")


def test_the_primary_index_and_the_revision_are_taken() -> None:
    found = read_repomd(REPOMD.encode(), "repomd.xml")
    first = found.primary
    assert (found.revision, first.path) == (1700, "repodata/primary.xml.gz")
    assert (first.digest.hex, first.size_bytes) == (SHA, 12)
    without = REPOMD.replace("<revision>1700</revision>", "")
    assert read_repomd(without.encode(), "repomd.xml").revision == 1800


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('type="primary"', 'type="secondary"', "names no primary index"),
        ('type="filelists"', 'type="primary"', "primary index"),
        ("repodata/primary.xml.gz", "../../primary.xml.gz", "is not a path in the repository"),
        ("repodata/primary.xml.gz", "/etc/passwd", "is not a path in the repository"),
        ("repodata/primary.xml.gz", "https://other.example/p.xml", "is not a path"),
        ("repodata/primary.xml.gz", "repodata/p.xml?x=1", "is not a path"),
        ("<location ", '<location xml:base="https://other.example" ', "lies at another address"),
        ('type="sha256"', 'type="sha1"', "no usable SHA-256"),
        (SHA, "zz", "no usable SHA-256"),
        ("<size>12</size>", "", "is not a size"),
        ("<size>12</size>", "<size>-1</size>", "is not a size"),
        ("1700", "x", "is not a revision"),
        ("1600", "next week", "is not a time"),
        ("</repomd>", "", "it is not XML"),
        ("metadata/repo", "metadata/other", "its root is"),
        ('<?xml version="1.0"?>', "<!DOCTYPE repomd>", "declares a document type"),
    ],
)
def test_a_repomd_that_no_honest_repository_has_is_refused(old: str, new: str, said: str) -> None:
    assert old in REPOMD
    with pytest.raises(IntegrityError) as caught:
        read_repomd(REPOMD.replace(old, new).encode(), "repomd.xml")
    assert caught.value.code == "bad-rpm-index"
    assert said in caught.value.message


def test_two_primary_indexes_are_refused() -> None:
    start = REPOMD.index('<data type="primary">')
    entry = REPOMD[start : REPOMD.index("</repomd>")]
    with pytest.raises(IntegrityError, match="names two primary indexes"):
        read_repomd(REPOMD.replace("</repomd>", f"{entry}</repomd>").encode(), "repomd.xml")


BOMBS = {
    "laughs": '<!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><metadata>&b;</metadata>',
    "outside": '<!DOCTYPE m SYSTEM "file:///etc/passwd"><metadata/>',
    "parameter": '<!DOCTYPE m [<!ENTITY % x SYSTEM "https://example.org/x">%x;]><metadata/>',
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_document_type_is_refused_before_any_entity_grows(name: str) -> None:
    with pytest.raises(IntegrityError, match="declares a document type"):
        read_primary(BOMBS[name].encode(), "x86_64", "index")


def test_xml_deeper_longer_or_fuller_than_any_honest_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(IntegrityError, match="deeper or more"):
        read(package(details="<a>" * 20 + "</a>" * 20))
    monkeypatch.setattr(strict_xml, "MAX_TEXT", 1000)
    with pytest.raises(IntegrityError, match="a longer text"):
        read(package(details=f"<file>{'x' * 1001}</file>"))
    monkeypatch.setattr(strict_xml, "MAX_ELEMENTS", 100)
    with pytest.raises(IntegrityError, match="deeper or more"):
        read(package(details="<file>/x</file>" * 101))
    monkeypatch.setattr(rpm_index, "MAX_PACKAGES", 2)
    with pytest.raises(IntegrityError, match="more than 2 packages"):
        read(package(), package(), package())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (package("../a"), "is not the name of a package"),
        (package(version='ver="" rel="1"'), "is not version and release"),
        (package(version='ver="1" rel=""'), "is not version and release"),
        (package(version='ver="1/2" rel="1"'), "is not version and release"),
        (package(version='epoch="x" ver="1" rel="1"'), "is not an epoch"),
        (package(location='href="../../etc/x.rpm"'), "is not a path in the repository"),
        (package(location='href="/x.rpm"'), "is not a path in the repository"),
        (package(location='href="repodata"'), "is not the file of a package"),
        (package(location='xml:base="https://o.example" href="a.rpm"'), "at another address"),
        (package(location=""), "is not a path in the repository"),
        (package(size="x"), "is not a size"),
        (package(size="9" * 12), "more than any honest package"),
        (package(sha="ab"), "no usable SHA-256"),
        (package(kind="sha512", sha=SHA * 2), "its checksum is not a SHA-256"),
        (package(kind="md5"), "no usable SHA-256"),
        (package(details='<rpm:requires><rpm:entry name="x" flags="XX" ver="1"/></rpm:requires>'),
         "is not a relation"),
        (package(details='<rpm:provides><rpm:entry/></rpm:provides>'), "is nothing that"),
        ("<other/>", "it lists a"),
    ],
)  # fmt: skip
def test_an_index_that_no_honest_repository_has_is_refused(text: str, said: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(text)
    assert caught.value.code == "bad-rpm-index"
    assert said in caught.value.message


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_index_gives_packages_or_an_error_and_nothing_else(data: st.DataObject) -> None:
    needs = '<rpm:requires><rpm:entry name="(a if b)"/><rpm:entry name="c" flags="GE" ver="1"/>'
    changed = bytearray(b'<?xml version="1.0" encoding="UTF-8"?>')
    changed += primary(package(details=f"{needs}</rpm:requires>"), package("b"))
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(read_primary(bytes(changed), "x86_64", "index")) <= 2
    except IntegrityError as error:
        assert error.code == "bad-rpm-index"


@pytest.mark.parametrize("encoding", ["rot13", "idna", "utf-7", "cp037", "nonsense", "UTF-16"])
def test_an_index_is_utf8_whatever_it_declares(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + primary(package())
    assert len(read_primary(text, "x86_64", "index")) == 1


def test_packages_for_other_processors_and_of_modules_are_left_out() -> None:
    found = read(
        package("i", arch="i686"),
        package("a", arch="aarch64"),
        package("m", 'ver="1" rel="3.module+el8.5.0+1"'),
        package("n", arch="noarch"),
        package("x", arch="x86_64"),
    )
    assert [one.name for one in found] == ["n", "x"]


def test_one_name_for_different_packages_is_refused_and_the_same_twice_is_not() -> None:
    assert len(check_same(read(package(), package()))) == 1
    with pytest.raises(IntegrityError, match="stands there twice with other bytes"):
        check_same(read(package(), package(sha="cd" * 32)))
