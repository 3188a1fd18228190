"""Hashing many files at once: what changes, ends too early or cannot be read is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.vectors.damaged import flip

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.hashing import READ_BYTES, Outcome, hash_all, hash_extents
from perimeter_bundle.format.sums import Sums, check_extents, check_hashes
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind

DATA = bytes(range(256)) * ((2 * READ_BYTES + 512) // 256)


def written(path: Path, data: bytes = DATA) -> Path:
    path.write_bytes(data)
    return path


def sums_of(folder: Path, count: int = 5) -> tuple[dict[str, int], Sums]:
    """Files of different bytes, and the list of them."""
    digests = {}
    for number in range(count):
        data = bytes([number]) + DATA
        written(folder / f"f{number}", data)
        digests[f"f{number}"] = Digest.of_bytes(data)
    return {name: len(DATA) + 1 for name in digests}, Sums(digests)


@pytest.mark.parametrize("at", [0, READ_BYTES - 1, READ_BYTES, -1])
def test_a_changed_byte_anywhere_is_told_at_once_with_both_digests(at: int, tmp_path: Path) -> None:
    sizes, sums = sums_of(tmp_path)
    flip(tmp_path / "f3", at)
    found = Digest.of_bytes((tmp_path / "f3").read_bytes())
    events: list[Event] = []
    with pytest.raises(IntegrityError, match="f3: not the bytes that were signed") as caught:
        check_hashes(tmp_path, sizes, sums, on_event=events.append)
    assert caught.value.context["found"] == str(found)
    (warning,) = [event for event in events if event.kind is EventKind.WARNING]
    assert f"f3: not the bytes that were signed: expected {sums.digests['f3']}, found {found}" in (
        warning.message
    )


def test_the_first_failure_is_told_before_the_rest_is_hashed(tmp_path: Path) -> None:
    sizes, sums = sums_of(tmp_path, 40)
    for name in sizes:
        flip(tmp_path / name)
    events: list[Event] = []
    with pytest.raises(IntegrityError, match="f0 and 39 more"):
        check_hashes(tmp_path, sizes, sums, on_event=events.append, workers=1)
    kinds = [event.kind for event in events]
    assert kinds.count(EventKind.WARNING) == 1
    assert kinds.index(EventKind.WARNING) < kinds.index(EventKind.FINISH)


def _cut(path: Path) -> None:
    os.truncate(path, 100)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (_cut, "changing", "ends"),
        (_grow, "changing", "and has"),
        (_pipe, "unreadable", "cannot read"),
        (_link, "unreadable", "cannot read"),
        (Path.unlink, "unreadable", "cannot read"),
    ],
)
def test_a_file_that_changes_meanwhile_is_named_and_the_rest_is_hashed(
    change: Callable[[Path], None], code: str, message: str, tmp_path: Path
) -> None:
    sizes, sums = sums_of(tmp_path)
    change(tmp_path / "f2")
    flip(tmp_path / "f4")
    events: list[Event] = []
    with pytest.raises(IntegrityError, match="f4 and 1 more: not the bytes") as caught:
        check_hashes(tmp_path, sizes, sums, on_event=events.append)
    (problem,) = caught.value.problems
    assert str(tmp_path / "f2") in problem
    assert message in problem
    assert events[-1].kind is EventKind.FINISH
    flip(tmp_path / "f4")
    with pytest.raises(IntegrityError, match="f2") as alone:
        check_hashes(tmp_path, sizes, sums)
    assert alone.value.code == code


def test_a_file_cut_off_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "blob")

    def cut(length: int) -> None:
        os.truncate(path, READ_BYTES + 1)

    with pytest.raises(IntegrityError, match="bytes too early") as caught:
        hash_extents([Extent(path, 0, len(DATA))], on_bytes=cut)
    assert caught.value.code == "changing"


@pytest.mark.parametrize("cut", [0, 1, 4095, READ_BYTES, len(DATA)])
def test_the_bytes_may_lie_in_several_files(cut: int, tmp_path: Path) -> None:
    one = written(tmp_path / "one", b"before" + DATA[:cut])
    two = written(tmp_path / "two", DATA[cut:] + b"behind")
    extents = [Extent(one, 6, cut), Extent(two, 0, len(DATA) - cut)]
    assert hash_extents(extents) == Digest.of_bytes(DATA)
    check_extents({"x": extents}, Sums({"x": Digest.of_bytes(DATA)}))
    flip(two, len(DATA) - cut - 1) if cut < len(DATA) else flip(one, -1)
    with pytest.raises(IntegrityError, match="x: not the bytes that were signed"):
        check_extents({"x": extents}, Sums({"x": Digest.of_bytes(DATA)}))


def test_nothing_at_all_has_the_digest_of_nothing() -> None:
    assert hash_extents([]) == Digest.of_bytes(b"")


def test_what_the_caller_raises_stops_the_readers(tmp_path: Path) -> None:
    path = written(tmp_path / "blob")
    files = {f"f{number}": (Extent(path, 0, len(DATA)),) for number in range(500)}
    taken = []

    def take(name: str, outcome: Outcome) -> None:
        taken.append(name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_all(files, take, workers=2)
    assert len(taken) == 1


def test_a_defect_in_a_reader_reaches_the_caller(tmp_path: Path) -> None:
    path = written(tmp_path / "blob")
    with pytest.raises(OverflowError):
        hash_all({"x": (Extent(path, 2**70, 1),)}, lambda name, outcome: None)


def test_the_largest_files_are_read_first(tmp_path: Path) -> None:
    files = {}
    for number in (3, 1, 2):
        path = written(tmp_path / f"f{number}", b"x" * number)
        files[path.name] = (Extent(path, 0, number),)
    taken: list[str] = []
    hash_all(files, lambda name, outcome: taken.append(name), workers=1)
    assert taken == ["f3", "f2", "f1"]
