"""rpm files taken apart, and the indexes written from them: real packages of rpmbuild, and junk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.apt_repository import AptKeys
from tests.support.rpm_repository import Rpm, RpmFolder

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.ospackages.repodata import ServedRpm, write_repodata
from perimeter_bundle.ospackages.rpm_file import read_rpm
from perimeter_bundle.ospackages.rpm_index import RpmPackage, read_primary, read_repomd
from perimeter_bundle.ospackages.signature import check_detached
from perimeter_bundle.ospackages.unpack import unpack_index

RPMS = (
    Rpm(
        "rich", "1.0~rc1^git5", "3.el9",
        ("Epoch: 2", "Requires: (a >= 1:2 if b else c)", "Requires(pre): shadow", "Requires: d < 3",
         "Provides: cap(x)(64bit) = 4:5-6", "Provides: plain", "Obsoletes: old <= 2",
         "Recommends: nice", "Conflicts: bad"),
        ("/usr/bin/rich", "/etc/rich.conf", "/usr/share/rich/a & b"),
    ),
    Rpm("poor", "1", target="i686"),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RpmFolder:
    folder = tmp_path_factory.mktemp("rpm-files")
    made = RpmFolder(folder, AptKeys(folder / "keys", "ed25519"))
    made.build(RPMS)
    made.index()
    return made


def served(made: RpmFolder) -> list[ServedRpm]:
    return [
        ServedRpm(
            path.name,
            Digest.of_bytes(path.read_bytes()),
            path.stat().st_size,
            read_rpm(path, path.name),
        )
        for path in made.made.glob("*.rpm")
    ]


def told(package: RpmPackage) -> tuple[object, ...]:
    return (
        package.full_name, package.evr, package.location, package.size_bytes, package.digest,
        {str(one) for one in package.provides}, {str(one) for one in package.requires},
        set(package.files),
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ["x86_64", "i686"])
def test_the_written_index_tells_what_the_one_of_createrepo_tells(
    made: RpmFolder, tmp_path: Path, architecture: str
) -> None:
    repomd = read_repomd((made.made / "repodata" / "repomd.xml").read_bytes(), "theirs")
    packed = (made.made / repomd.primary.path).read_bytes()
    theirs = read_primary(
        unpack_index(packed, repomd.primary.path, tmp_path, "x"), architecture, ""
    )
    written = write_repodata(served(made))
    mine = read_repomd(written["repodata/repomd.xml"], "ours").primary
    data = written[mine.path]
    assert (mine.digest, mine.size_bytes) == (Digest.of_bytes(data), len(data))
    assert list(map(told, read_primary(data, architecture, ""))) == list(map(told, theirs))
    assert len(theirs) == 1


def test_the_same_packages_in_any_order_give_the_same_index(made: RpmFolder) -> None:
    packages = served(made)
    assert write_repodata(packages) == write_repodata(packages[::-1])


def test_a_package_signed_by_an_elliptic_curve_is_checked(made: RpmFolder, tmp_path: Path) -> None:
    for one in served(made):
        assert one.rpm.payload_problem is None
        check_detached(one.rpm.signed, one.rpm.signature, made.keys.keyring, tmp_path, one.file)


@pytest.fixture(scope="module")
def one_file(made: RpmFolder) -> bytes:
    return next(made.made.glob("rich*.rpm")).read_bytes()


def refused(data: bytes, folder: Path) -> str:
    path = folder / "x.rpm"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_rpm(path, "x.rpm")
    assert caught.value.code == "bad-rpm"
    return caught.value.message


def test_what_is_no_package_is_refused(one_file: bytes, tmp_path: Path) -> None:
    assert "is not a usable rpm" in refused(b"", tmp_path)
    assert "does not begin like one" in refused(b"x" * 200, tmp_path)
    assert "no header where one must be" in refused(one_file[:96] + b"x" * 100, tmp_path)
    assert "ends within its header" in refused(one_file[:200], tmp_path)
    huge = struct.pack(">II", 9_999, 2**31)
    assert "larger than any honest" in refused(one_file[:104] + huge + one_file[112:], tmp_path)
    many = struct.pack(">II", 2**31, 10)
    assert "larger than any honest" in refused(one_file[:104] + many + one_file[112:], tmp_path)
    entry = one_file[112:128]
    twice = one_file[:112] + entry + entry + one_file[144:]
    assert "twice" in refused(twice, tmp_path)
    outside = struct.pack(">IIII", 7, 7, 2**30, 16)
    assert "lies outside" in refused(one_file[:112] + outside + one_file[128:], tmp_path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_gives_an_error_or_a_package_but_nothing_else(
    one_file: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(one_file)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.rpm"
    path.write_bytes(changed)
    try:
        rpm = read_rpm(path, "x.rpm")
        write_repodata([ServedRpm("x.rpm", Digest.of_bytes(bytes(changed)), len(changed), rpm)])
    except IntegrityError as error:
        assert error.code == "bad-rpm"
