"""Module site_files: what it puts in place is the promised bytes, or nothing."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DATA = b"a program" * 1000


@pytest.fixture
def module(library: Callable[[str], ModuleType]) -> ModuleType:
    return library("site_files")


def described(data: bytes, src: Path, **more: Any) -> dict[str, Any]:
    file = {
        "name": "program",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "urls": [],
        "src": str(src),
        "dest": None,
        "unpack": [],
        "mode": "0755",
    }
    src.write_bytes(data)
    return file | more


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def ensure(module: ModuleType, file: dict[str, Any], tmp_path: Path, dry: bool = False) -> Any:
    return module.ensure(file, module.Source(None, "", "", 5), str(tmp_path / "records"), dry=dry)


def test_file_is_put_in_place_once(module: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "bin" / "program"
    file = described(DATA, tmp_path / "blob", dest=str(target))
    assert ensure(module, file, tmp_path) == [str(target)]
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o755
    assert ensure(module, file, tmp_path) == []


def test_dry_run_names_what_would_change_and_writes_nothing(
    module: ModuleType, tmp_path: Path
) -> None:
    file = described(DATA, tmp_path / "blob", dest=str(tmp_path / "program"))
    assert ensure(module, file, tmp_path, dry=True) == [str(tmp_path / "program")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [(DATA[:-1] + b"x", "expected sha256"), (DATA[:-1], "bytes came"), (DATA + b"x", "more than")],
)
def test_other_bytes_are_refused_and_what_was_there_stays(
    module: ModuleType, tmp_path: Path, found: bytes, reason: str
) -> None:
    target = tmp_path / "program"
    target.write_bytes(b"the former version")
    file = described(DATA, tmp_path / "blob", dest=str(target))
    (tmp_path / "blob").write_bytes(found)
    with pytest.raises(module.Refused, match=reason):
        ensure(module, file, tmp_path)
    assert target.read_bytes() == b"the former version"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "program"]


def test_changed_file_is_put_right_again(module: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "program"
    file = described(DATA, tmp_path / "blob", dest=str(target))
    ensure(module, file, tmp_path)
    target.write_bytes(b"somebody else's")
    assert ensure(module, file, tmp_path) == [str(target)]
    target.chmod(0o777)
    assert ensure(module, file, tmp_path) == [str(target)]
    assert target.read_bytes() == DATA


def test_link_in_place_of_a_program_is_replaced(module: ModuleType, tmp_path: Path) -> None:
    target, other = tmp_path / "program", tmp_path / "other"
    other.write_bytes(DATA)
    other.chmod(0o755)
    target.symlink_to(other)
    file = described(DATA, tmp_path / "blob", dest=str(target))
    assert ensure(module, file, tmp_path) == [str(target)]
    assert not target.is_symlink()


def test_members_of_an_archive_are_unpacked_flat(module: ModuleType, tmp_path: Path) -> None:
    data = archive(bin__containerd=b"one", bin__ctr=b"two", README=b"three")
    folder = tmp_path / "bin"
    rules = [{"from": "bin/*", "to": str(folder)}]
    file = described(data, tmp_path / "blob", unpack=rules)
    placed = [str(folder / "containerd"), str(folder / "ctr")]
    assert ensure(module, file, tmp_path) == placed
    assert sorted(path.name for path in folder.iterdir()) == ["containerd", "ctr"]
    assert ensure(module, file, tmp_path) == []
    (folder / "ctr").unlink()
    assert ensure(module, file, tmp_path, dry=True) == [str(folder / "ctr")]
    assert ensure(module, file, tmp_path) == placed


def test_members_that_climb_out_stay_in_the_folder(module: ModuleType, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../../evil", "/etc/evil2"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    folder = tmp_path / "deep" / "down" / "bin"
    rules = [{"from": "*", "to": str(folder)}]
    file = described(buffer.getvalue(), tmp_path / "blob", unpack=rules)
    ensure(module, file, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["evil", "evil2"]
    assert not (tmp_path / "evil").exists()


def test_archive_without_the_wanted_member_is_refused(module: ModuleType, tmp_path: Path) -> None:
    rules = [{"from": "crictl", "to": str(tmp_path)}]
    file = described(archive(other=b"x"), tmp_path / "blob", unpack=rules)
    with pytest.raises(module.Refused, match="has no member crictl"):
        ensure(module, file, tmp_path)
    with pytest.raises(module.Refused, match="has no member crictl"):
        ensure(module, file, tmp_path)


def test_damaged_record_is_not_believed(module: ModuleType, tmp_path: Path) -> None:
    rules = [{"from": "crictl", "to": str(tmp_path / "bin")}]
    file = described(archive(crictl=b"x"), tmp_path / "blob", unpack=rules)
    ensure(module, file, tmp_path)
    for record in (tmp_path / "records").iterdir():
        record.write_text("{")
    assert ensure(module, file, tmp_path) == [str(tmp_path / "bin" / "crictl")]


def test_file_without_any_address_is_refused(module: ModuleType, tmp_path: Path) -> None:
    file = described(DATA, tmp_path / "blob", dest=str(tmp_path / "program")) | {"src": ""}
    with pytest.raises(module.Refused, match="it has no address"):
        ensure(module, file, tmp_path)
