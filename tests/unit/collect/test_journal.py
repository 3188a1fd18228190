"""What a build that was cut off may believe without hashing it again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perimeter_bundle.collect.journal import Journal
from perimeter_bundle.format.disc import flush_disc
from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.model.digest import Digest

DATA = b"a layer"
DIGEST = Digest.of_bytes(DATA)
NAME = blob_path(DIGEST)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return path


def opened(root: Path, boot: str = "monday") -> Journal:
    return Journal(root, root / "journal", boot)


def test_a_killed_run_is_believed_in_the_same_boot(tmp_path: Path, blob: Path) -> None:
    opened(tmp_path).add(blob)
    again = opened(tmp_path)
    assert blob in again
    assert again.proven() == {NAME: DIGEST}


def test_what_was_not_flushed_before_a_power_cut_is_hashed(tmp_path: Path, blob: Path) -> None:
    opened(tmp_path).add(blob)
    later = opened(tmp_path, "tuesday")
    assert blob not in later
    assert later.proven() == {}
    # and opening it in the new boot does not make the old lines true
    assert blob not in opened(tmp_path, "tuesday")
    assert blob not in opened(tmp_path, "monday")


def test_what_was_flushed_is_believed_after_a_power_cut(tmp_path: Path, blob: Path) -> None:
    journal = opened(tmp_path)
    journal.add(blob)
    journal.flush()
    assert blob in opened(tmp_path, "tuesday")
    assert blob in opened(tmp_path, "wednesday")


def test_a_flush_of_a_later_boot_does_not_vouch_for_an_earlier_one(
    tmp_path: Path, blob: Path
) -> None:
    opened(tmp_path).add(blob)
    opened(tmp_path, "tuesday").flush()
    assert blob not in opened(tmp_path, "wednesday")


@pytest.mark.parametrize("change", ["bytes", "size", "replaced", "gone", "time put back"])
def test_a_blob_that_was_touched_is_not_believed(tmp_path: Path, blob: Path, change: str) -> None:
    journal = opened(tmp_path)
    journal.add(blob)
    before = blob.stat()
    if change == "bytes":
        os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "size":
        blob.write_bytes(DATA + b"!")
    elif change == "replaced":
        (tmp_path / "other").write_bytes(DATA)
        (tmp_path / "other").replace(blob)
    elif change == "gone":
        blob.unlink()
    else:  # mtime as before: ctime tells
        ctime = before.st_ctime_ns
        while blob.stat().st_ctime_ns == ctime:  # the clock of the file system has a tick
            blob.write_bytes(DATA.swapcase())
            os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert blob not in journal
    assert blob not in opened(tmp_path)
    assert opened(tmp_path).proven() == {}


@pytest.mark.parametrize("length", range(1, 40))
def test_a_journal_cut_anywhere_proves_only_what_it_says_whole(
    tmp_path: Path, blob: Path, length: int
) -> None:
    opened(tmp_path).add(blob)
    journal = tmp_path / "journal"
    data = journal.read_bytes()
    journal.write_bytes(data[:-length])
    again = opened(tmp_path)
    assert blob not in again
    again.add(blob)
    assert blob in opened(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "blob ../../etc/passwd 1 1 1 1",
        f"blob blobs/sha256/{'A' * 64} 1 1 1 1",
        f"blob blobs/md5/{'a' * 32} 1 1 1 1",
        f"blob {NAME} 1 1 1",
        f"blob {NAME} -7 1 1 1",
        f"blob {NAME} 7 1 1 ١",
        "\x00\x00\x00",
    ],
)
def test_a_line_that_no_build_wrote_proves_nothing(tmp_path: Path, blob: Path, line: str) -> None:
    (tmp_path / "journal").write_text(f"boot monday\n{line}\nflushed\n", "utf-8")
    assert opened(tmp_path).proven() == {}
    assert blob not in opened(tmp_path)


def test_only_sha256_blobs_go_into_the_sums_unread(tmp_path: Path) -> None:
    path = tmp_path / "blobs/sha512" / ("a" * 128)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    journal = opened(tmp_path)
    journal.add(path)
    assert path in journal
    assert journal.proven() == {}


def test_flushing_what_is_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        flush_disc(tmp_path / "gone")


def test_what_a_disc_did_not_take_is_not_believed_even_in_the_same_boot(
    tmp_path: Path, blob: Path
) -> None:
    journal = Journal(tmp_path, tmp_path / "journal", "one")
    journal.add(blob)
    assert blob in journal
    with (tmp_path / "journal").open("a") as file:
        file.write("doubted\n")
    assert blob not in Journal(tmp_path, tmp_path / "journal", "one")
