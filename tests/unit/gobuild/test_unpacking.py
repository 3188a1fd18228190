"""Go's release archive: what is refused, and what comes out of an honest one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from tests.support.go_modules import go_archive

from perimeter_bundle.gobuild.unpacking import unpack_toolchain
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

SAYS = "#!/bin/sh\necho go version {version} linux/amd64\n"


def refused(archive: bytes, folder: Path, expected: Digest | None = None) -> IntegrityError:
    path = folder / "go.tar.gz"
    path.write_bytes(archive)
    with pytest.raises(IntegrityError) as caught:
        unpack_toolchain(path, expected or Digest.of_bytes(archive), "go1.26.8", folder / "into")
    return caught.value


def archive_of(member: tarfile.TarInfo, data: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


def test_refuses_an_archive_that_is_not_the_locked_one(tmp_path: Path) -> None:
    good = go_archive(SAYS.format(version="go1.26.8"))
    error = refused(good, tmp_path, Digest.of_bytes(b"other"))
    assert error.code == "digest-mismatch"
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", ["../out", "/etc/out", "go/../../out", "other/bin/go"])
def test_refuses_a_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    error = refused(archive_of(tarfile.TarInfo(name), b"x"), tmp_path)
    assert error.code == "bad-go"
    assert "outside go/" in error.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_refuses_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("go/bin")
    member.type, member.linkname = kind, "/etc"
    error = refused(archive_of(member), tmp_path)
    assert error.code == "bad-go"
    assert "no plain file" in error.message


@pytest.mark.parametrize("archive", [b"", b"<html>not found</html>"])
def test_refuses_what_is_no_archive(tmp_path: Path, archive: bytes) -> None:
    error = refused(archive, tmp_path)
    assert error.code == "bad-go"


def test_refuses_an_archive_that_ends_too_soon(tmp_path: Path) -> None:
    whole = go_archive(SAYS.format(version="go1.26.8"), padding=100_000)
    assert refused(whole[: len(whole) // 2], tmp_path).code == "bad-go"


def test_refuses_another_version_than_its_name_says(tmp_path: Path) -> None:
    error = refused(go_archive(SAYS.format(version="go1.26.7")), tmp_path)
    assert (error.code, error.message.endswith("it holds go1.26.7, not go1.26.8")) == (
        "bad-go",
        True,
    )


def test_gives_a_go_that_runs_and_nothing_of_what_lay_there(tmp_path: Path) -> None:
    path = tmp_path / "go.tar.gz"
    archive = go_archive(SAYS.format(version="go1.26.8"))
    path.write_bytes(archive)
    left_over = tmp_path / "into" / "go" / "left-over"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    found = unpack_toolchain(path, Digest.of_bytes(archive), "go1.26.8", tmp_path / "into")
    assert (found.version, found.program) == ("go1.26.8", tmp_path / "into" / "go" / "bin" / "go")
    assert found.program.stat().st_mode & 0o777 == 0o755
    assert not left_over.exists()
