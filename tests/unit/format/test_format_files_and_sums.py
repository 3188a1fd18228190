"""Paths, folders, SHA256SUMS and hashing in parallel."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from perimeter_bundle.format.files import (
    Tree,
    list_tree,
    open_plain,
    path_problem,
    read_file,
    write_file,
)
from perimeter_bundle.format.sums import (
    MAX_SUMS_BYTES,
    Sums,
    check_hashes,
    check_tree,
    hash_files,
    some,
    write_sums,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind

X = Digest.of_bytes(b"x")


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "not a plain relative path"),
        ("/etc/passwd", "not a plain relative path"),
        ("a/../b", "not a plain relative path"),
        ("..", "not a plain relative path"),
        ("a/", "not a plain relative path"),
        ("a//b", "not a plain relative path"),
        ("./a", "not a plain relative path"),
        ("-", "standard input"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\\b", "backslash"),
        ("a\udcffb", "not UTF-8"),
        ("x" * 256, "too long"),
        ("x/" * 600 + "x", "too long"),
    ],
)
def test_refuses_a_path(path: str, problem: str) -> None:
    assert problem in (path_problem(path) or "")


@pytest.mark.parametrize("path", ["a", "a/b.c", "-x", "...", "a b", "ü/ö", "*", ".hidden"])
def test_allows_a_path(path: str) -> None:
    assert path_problem(path) is None


def test_lists_files_and_names_what_is_odd(tmp_path: Path) -> None:
    fill(tmp_path, "b/c", "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"x")
    tree = list_tree(tmp_path)
    assert tree.files == {"a": 1, "b/c": 1}
    assert tree.odd == (
        "'\\udcff': its name is not UTF-8",
        "'link': a symbolic link",
        "'pipe': a named pipe",
        "'s': a socket",
    )


def test_a_missing_folder_is_empty_only_when_that_is_allowed(tmp_path: Path) -> None:
    assert list_tree(tmp_path / "none", missing_ok=True) == Tree({}, ())
    with pytest.raises(IntegrityError, match="cannot read") as caught:
        list_tree(tmp_path / "none")
    assert caught.value.code == "unreadable"


def test_a_link_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(IntegrityError, match="cannot read") as caught:
        read_file(tmp_path / "link", 10)
    assert caught.value.code == "unreadable"
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_plain(tmp_path / "link")


def test_reading_stops_at_the_size_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(IntegrityError, match="a is larger than any honest one") as caught:
        read_file(tmp_path / "a", 4)
    assert caught.value.code == "oversize"


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    write_file(tmp_path / "x/a", b"1", mode=0o600)
    write_file(tmp_path / "x/a", b"2", mode=0o640)
    assert (tmp_path / "x/a").read_bytes() == b"2"
    assert (tmp_path / "x/a").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]


def test_sums_are_sorted_by_bytes_and_come_back() -> None:
    sums = Sums({"ü": X, "b": X, "a/b": X, "a-b": X, "B": X})
    data = sums.to_bytes()
    assert [line[66:] for line in data.decode().splitlines()] == ["B", "a-b", "a/b", "b", "ü"]
    assert Sums.parse(data) == sums


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is empty"),
        (f"{X.hex}  a".encode(), "its last line does not end"),
        (b"\xff\n", "utf-8"),
        (f"{X.hex} a\n".encode(), "line 1: not a SHA-256"),
        (f"{X.hex}  a\n\n".encode(), "line 2: not a SHA-256"),
        (f"{X.hex}  a\x0bb\n".encode(), "control character"),
        (f"{X.hex}  a\u2028b\n".encode(), "control character"),
        (f"{X.hex}  a\u202eb\n".encode(), "control character"),
        (f"{X.hex}  b\n{X.hex}  a\n".encode(), "not sorted"),
        (f"{X.hex}  a\n{X.hex}  a\n".encode(), "'a' stands there twice"),
        (f"{X.hex}  SHA256SUMS\n".encode(), "the list does not hold itself"),
        (f"{X.hex}  signatures/a\n".encode(), "signatures are made after"),
        (b"x" * (MAX_SUMS_BYTES + 1), "are allowed"),
    ],
)
def test_refuses_sums(data: bytes, problem: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        Sums.parse(data)
    assert caught.value.code == "bad-sums"
    assert problem in str(caught.value)


def test_many_problems_are_counted_not_listed() -> None:
    assert some(["a"] * 3) == ("a",) * 3
    assert some(["a"] * 25) == ("a",) * 20 + ("… and 5 more",)


def test_the_tree_must_be_exactly_what_is_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "SHA256SUMS", "signatures/x.sig")
    tree = list_tree(tmp_path)
    check_tree(tree, Sums({"a": X, "b": X}))
    for sums, code in (({"a": X}, "unlisted-file"), ({"a": X, "b": X, "c": X}, "missing-file")):
        with pytest.raises(IntegrityError) as caught:
            check_tree(tree, Sums(sums))
        assert caught.value.code == code
    with pytest.raises(IntegrityError) as caught:
        check_tree(Tree({}, ("'x': a device",)), Sums({}))
    assert caught.value.code == "odd-file"


def test_the_first_wrong_file_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c")
    y = Digest.of_bytes(b"y")
    with pytest.raises(IntegrityError) as caught:
        check_hashes(tmp_path, list_tree(tmp_path).files, Sums({"a": X, "b": y, "c": y}))
    assert caught.value.code == "digest-mismatch"
    assert caught.value.message == "b and 1 more: not the bytes that were signed"
    assert caught.value.context == {"expected": str(y), "found": str(X), "size_bytes": "1"}


def test_hashing_reports_what_is_done(tmp_path: Path) -> None:
    sizes = {}
    for number in range(20):
        (tmp_path / f"f{number}").write_bytes(bytes([number]) * number)
        sizes[f"f{number}"] = number
    events: list[Event] = []
    digests = hash_files(tmp_path, sizes, on_event=events.append, workers=3)
    assert digests == {f"f{n}": Digest.of_bytes(bytes([n]) * n) for n in range(20)}
    assert events[0] == Event(
        EventKind.START, "sums", done_bytes=0, total_bytes=190, done_items=0, total_items=20
    )
    assert events[-1].kind is EventKind.FINISH
    assert (events[-1].done_bytes, events[-1].done_items) == (190, 20)


def test_hashing_nothing_is_done_at_once(tmp_path: Path) -> None:
    assert hash_files(tmp_path, {}) == {}


def test_a_file_that_cannot_be_read_stops_the_hashing(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with pytest.raises(IntegrityError, match="cannot read") as caught:
        hash_files(tmp_path, {"a": 1, "ghost": 1})
    assert caught.value.code == "unreadable"


def test_an_interruption_stops_the_readers(tmp_path: Path) -> None:
    """Ctrl-C arrives in the calling thread, which is where events come from."""
    fill(tmp_path, *(f"f{number}" for number in range(50)))

    def interrupt(event: Event) -> None:
        if event.kind is EventKind.PROGRESS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_files(tmp_path, {f"f{number}": 1 for number in range(50)}, on_event=interrupt)


def test_sums_are_the_same_for_the_same_tree(tmp_path: Path) -> None:
    first = write_sums(fill(tmp_path / "one", "b", "a/c", "signatures/x.sig"))
    second = write_sums(fill(tmp_path / "two", "a/c", "b"))
    assert first == second == write_sums(tmp_path / "one")
    sums = Sums.parse((tmp_path / "one/SHA256SUMS").read_bytes())
    assert list(sums.digests) == ["a/c", "b"]


def test_no_sums_are_written_over_odd_files(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(IntegrityError, match="not a plain file"):
        write_sums(tmp_path)
    assert not (tmp_path / "SHA256SUMS").exists()
