"""Tars from anywhere: read without unpacking, as if somebody meant harm."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from tests.support.local_images import tar_of

from perimeter_bundle.imagesource import store as store_module
from perimeter_bundle.imagesource.store import FolderStore, TarStore, read_all
from perimeter_bundle.model.errors import InputError, IntegrityError


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    return path


def refused(tmp_path: Path, data: bytes) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        TarStore.read(written(tmp_path, data), "x.tar")
    assert caught.value.code == "bad-archive"
    return caught.value


def with_entry(entry: tarfile.TarInfo, data: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(data) if data else None)
    return raw.getvalue()


def test_files_of_a_tar_are_read_by_name(tmp_path: Path) -> None:
    store = TarStore.read(written(tmp_path, tar_of({"a/b": b"one", "c": b"two"})), "x.tar")
    assert (store.size_of("a/b"), store.size_of("a")) == (3, None)
    assert (read_all(store, "a/b", 3), read_all(store, "c", 3)) == (b"one", b"two")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "a\nb"])
def test_refuses_a_name_that_climbs_or_lies(tmp_path: Path, name: str) -> None:
    error = refused(tmp_path, tar_of({"good": b"1", name: b"2"}))
    assert repr(name) in error.problems[0]


def test_refuses_a_file_that_stands_there_twice(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for data in (b"one", b"two"):
            entry = tarfile.TarInfo("manifest.json")
            entry.size = 3
            tar.addfile(entry, io.BytesIO(data))
    assert refused(tmp_path, raw.getvalue()).problems == ("manifest.json stands there twice",)


def test_a_link_to_another_layer_is_followed_as_docker_makes_it(tmp_path: Path) -> None:
    data = tar_of({"one/layer.tar": b"layer"}, {"two/layer.tar": "../one/layer.tar"})
    store = TarStore.read(written(tmp_path, data), "x.tar")
    assert read_all(store, "two/layer.tar", 10) == b"layer"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "nothing", "b"])
def test_refuses_a_link_that_leads_to_no_file_of_the_archive(tmp_path: Path, target: str) -> None:
    error = refused(tmp_path, tar_of({"one": b"1"}, {"a": target, "b": "a"}))
    assert "which is no file of the archive" in error.problems[0]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_refuses_what_is_no_file(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("device")
    entry.type = kind
    assert refused(tmp_path, with_entry(entry)).problems == ("device: neither a file nor a folder",)


def test_refuses_a_size_that_the_archive_does_not_have(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("layer.tar")
    entry.size = 8 * 1024**4
    data = entry.tobuf() + b"little"
    assert "layer.tar" in " ".join(refused(tmp_path, data).problems) or "end of data" in str(
        refused(tmp_path, data)
    )


def test_refuses_an_archive_that_was_cut_off_inside_a_file(tmp_path: Path) -> None:
    whole = tar_of({"a": b"x" * 5000, "b": b"y" * 5000})
    refused(tmp_path, whole[:2000])


def test_refuses_a_header_that_claims_to_be_huge(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1024**4
    error = refused(tmp_path, header.tobuf(format=tarfile.GNU_FORMAT) + b"\0" * 10_000)
    assert "larger than any honest one" in error.problems[0]


def test_refuses_more_files_than_any_image_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_MEMBERS", 2)
    data = tar_of({"a": b"", "b": b"", "c": b""})
    assert refused(tmp_path, data).problems == ("it holds more than 2 files",)


def test_a_compressed_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        TarStore.read(written(tmp_path, gzip.compress(tar_of({"a": b"1"}))), "x.tar")
    assert caught.value.code == "compressed-archive"
    assert "gunzip" in str(caught.value.hint)


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\0" * 512])
def test_what_is_no_tar_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    try:
        store = TarStore.read(written(tmp_path, data), "x.tar")
    except IntegrityError as error:
        assert error.code == "bad-archive"
    else:
        assert store.parts == {}


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    store = TarStore.read(written(tmp_path, tar_of({"a": b"12345"})), "x.tar")
    with pytest.raises(IntegrityError) as caught:
        read_all(store, "a", 4)
    assert caught.value.code == "oversize"


def test_a_link_in_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "index.json").symlink_to(tmp_path / "secret")
    store = FolderStore(folder, "layout")
    assert store.size_of("index.json") is None
    with pytest.raises(IntegrityError) as caught:
        store.open("index.json")
    assert caught.value.code == "missing-blob"
