"""Source archives: the same bytes each time, and nothing else is read back."""

from __future__ import annotations

import io
import tarfile

import pytest

from perimeter_bundle.format import source_tree
from perimeter_bundle.format.source_tree import pack_tree, unpack_tree
from perimeter_bundle.model.errors import IntegrityError

LONG = "/".join(["a-long-folder-name"] * 20)
FILES = {"b/x.yaml": b"kind: X\n", "a.txt": b"", f"{LONG}/ä.txt": b"deep"}


def refused(data: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        unpack_tree(data, "source trees")
    assert caught.value.code == "bad-source"
    return caught.value.message


def tar(*members: tarfile.TarInfo, data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


def member(name: str, **changes: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = 0o644
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def test_what_is_packed_comes_back_and_is_the_same_each_time() -> None:
    data = pack_tree(FILES)
    assert data == pack_tree(dict(reversed(FILES.items())))
    assert unpack_tree(data, "x") == FILES
    assert unpack_tree(pack_tree({}), "x") == {}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (member("../x"), "it is not a plain relative path"),
        (member("/etc/x"), "it is not a plain relative path"),
        (member("a\nb"), "it holds a control character"),
        (member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'x' is not a plain file"),
        (member("x", type=tarfile.LNKTYPE, linkname="y"), "'x' is not a plain file"),
        (member("x", type=tarfile.CHRTYPE), "'x' is not a plain file"),
        (member("x", type=tarfile.FIFOTYPE), "'x' is not a plain file"),
        (member("x", type=tarfile.DIRTYPE), "'x' is not a plain file"),
        (member("x", mode=0o4755), "it is not packed as perimeter packs"),
        (member("x", mtime=1), "it is not packed as perimeter packs"),
        (member("x", uid=1), "it is not packed as perimeter packs"),
    ],
)
def test_refuses_what_it_would_not_have_written(made: tarfile.TarInfo, reason: str) -> None:
    assert refused(tar(made)).startswith("refused source trees: ")
    assert reason in refused(tar(made))


def test_refuses_a_sparse_file_that_says_to_be_huge() -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    made = member("x", size=512, pax_headers={**headers, "GNU.sparse.name": "x"})
    assert "is not a plain file" in refused(tar(made, data=b"1\n0\n1\n".ljust(512, b"\0")))


@pytest.mark.parametrize("data", [b"", b"no archive", pack_tree(FILES)[:700], b"x" * 1024])
def test_refuses_what_is_no_archive(data: bytes) -> None:
    refused(data)


def test_refuses_the_same_name_twice_another_order_and_bytes_behind() -> None:
    assert "not packed as" in refused(tar(member("x"), member("x")))
    assert "not packed as" in refused(tar(member("b"), member("a")))
    assert "not packed as" in refused(pack_tree(FILES) + b"\0" * 512)


def test_refuses_more_than_an_honest_source_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MAX_ARCHIVE_BYTES", 100)
    assert "bytes are more than the 100 allowed" in refused(pack_tree(FILES))


def test_packs_no_tree_that_could_not_be_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MAX_TREE_FILES", 1)
    monkeypatch.setattr(source_tree, "MAX_TREE_BYTES", 1)
    with pytest.raises(IntegrityError) as caught:
        pack_tree({"a": b"", "a/b": b"xx", "../c": b""})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "'../c'",
        "'a' is a file and a folder",
        "3 files are more than the 1 allowed",
        "2 bytes are more than the 1 allowed",
    ]
