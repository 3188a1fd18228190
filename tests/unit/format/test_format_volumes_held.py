"""A bundle of which a part lies in volumes is the same bundle, read without unpacking."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle

from perimeter_bundle.format import layout
from perimeter_bundle.format.verify import BlobBytes, VerifiedBundle, open_bundle, verify_report
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.format.volumes.read import open_volume
from perimeter_bundle.format.volumes.tar import member_header
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError

SIZE = 20_000  # nine volumes, verify.sh in pieces


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    """The small bundle with one blob in pieces, cut; its root is what tar makes of volume 1."""
    made = make_bundle(tmp_path / "made")
    blob = bytes(range(256)) * 150
    made.file(f"blobs/sha256/{Digest.of_bytes(blob).hex}").write_bytes(blob)
    made.reseal()
    pack(PackRequest(made.root, tmp_path / "volumes", SIZE))
    subprocess.run(["tar", "xf", "volumes/2026.11.v001.tar"], cwd=tmp_path, check=True)
    return made


def opened(
    bundle: SmallBundle, tmp_path: Path, *volumes: Path, **options: BlobBytes
) -> VerifiedBundle:
    given = volumes or (tmp_path / "volumes",)
    return open_bundle(tmp_path / "2026.11", bundle.trust, volumes=given, **options)  # type: ignore[arg-type]


def test_a_bundle_of_which_most_lies_in_volumes_holds_the_same(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    whole = open_bundle(bundle.root, bundle.trust)
    parts = opened(bundle, tmp_path)
    assert (parts.manifest, parts.lock, parts.index) == (whole.manifest, whole.lock, whole.index)
    assert {path: parts.sizes[path] for path in parts.sums.digests} == {
        path: whole.sizes[path] for path in whole.sums.digests
    }
    lengths = set()
    for path, digest in whole.sums.digests.items():
        assert parts.read(path) == whole.read(path)
        if path.startswith(f"{layout.BLOBS}/"):
            extents = parts.extents(digest)
            lengths.add(len(extents))
            data = b"".join(e.path.read_bytes()[e.offset :][: e.size_bytes] for e in extents)
            assert data == bundle.file(path).read_bytes()
    assert min(lengths) == 1
    assert max(lengths) > 1  # blobs in pieces


def test_the_folder_alone_is_incomplete_and_so_are_too_few_volumes(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError) as caught:
        open_bundle(tmp_path / "2026.11", bundle.trust)
    assert caught.value.code == "missing-file"
    for number in range(2, 10):
        path = tmp_path / f"volumes/2026.11.v{number:03d}.tar"
        path.rename(tmp_path / "gone.tar")
        with pytest.raises(IntegrityError) as caught:
            opened(bundle, tmp_path)
        assert caught.value.code == "missing-file"
        assert caught.value.context == {"volumes that are not here": str(number)}
        assert "perimeter-install repair" in (caught.value.hint or "")
        (tmp_path / "gone.tar").rename(path)


@pytest.mark.parametrize("blobs", list(BlobBytes))
def test_a_changed_byte_in_a_volume_is_found_before_it_is_used(
    blobs: BlobBytes, bundle: SmallBundle, tmp_path: Path
) -> None:
    parts = opened(bundle, tmp_path)
    for path, digest in parts.sums.digests.items():
        if not path.startswith(f"{layout.BLOBS}/") or path not in parts.held.runs:
            continue
        extent = parts.extents(digest)[-1]
        with extent.path.open("r+b") as file:
            file.seek(extent.offset)
            byte = file.read(1)
            file.seek(extent.offset)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(IntegrityError) as caught:
            opened(bundle, tmp_path, blobs=blobs).read(path)
        assert caught.value.code in ("digest-mismatch", "incomplete")
        assert "not the bytes that were signed" in str(caught.value)
        with extent.path.open("r+b") as file:
            file.seek(extent.offset)
            file.write(byte)


def test_verify_counts_what_lies_in_volumes(bundle: SmallBundle, tmp_path: Path) -> None:
    volumes = [tmp_path / "volumes"]
    report = verify_report(tmp_path / "2026.11", bundle.trust, volumes=volumes)
    assert report.error is None
    assert "of them in volumes, none missing, none added" in report.to_text()


def test_volumes_of_another_bundle_are_refused(bundle: SmallBundle, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other")
    other.file("content/playbooks/site.yml").write_text("---\n- other\n")
    other.reseal()
    pack(PackRequest(other.root, tmp_path / "others", SIZE))
    with pytest.raises(IntegrityError) as caught:
        opened(bundle, tmp_path, tmp_path / "others")
    assert caught.value.code == "other-release"
    with pytest.raises(IntegrityError):
        opened(bundle, tmp_path, tmp_path / "volumes", tmp_path / "others/2026.11.v003.tar")


def test_a_truncated_volume_and_one_with_a_changed_list_are_refused(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    path = tmp_path / "volumes/2026.11.v004.tar"
    good = path.read_bytes()
    path.write_bytes(good[:-2000])
    with pytest.raises(IntegrityError, match="is truncated"):
        opened(bundle, tmp_path)
    path.write_bytes(good)
    volume = open_volume(path)
    inside = {m: good[e.offset :][: e.size_bytes] for m, e in volume.extents}
    last = volume.listing.members[-1]
    members = (*volume.listing.members[:-1], replace(last, path="content/new", piece=0, pieces=0,
               offset=0, whole_bytes=0))  # fmt: skip
    listing = replace(volume.listing, members=members)
    with path.open("wb") as file:
        file.truncate(listing.size_bytes)
        text = listing.to_bytes()
        file.write(member_header("volume.json", len(text)) + text)
        for (_, header, offset), data in zip(listing.headers(), inside.values(), strict=True):
            file.seek(offset - len(header))
            file.write(header + data)
    with pytest.raises(IntegrityError) as caught:
        opened(bundle, tmp_path)
    assert caught.value.code == "damaged-volume"
    assert caught.value.problems == ("content/new is not listed in SHA256SUMS",)


def test_a_file_that_is_added_to_the_folder_is_refused_with_volumes_too(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    (tmp_path / "2026.11/content/extra").write_text("x")
    with pytest.raises(IntegrityError) as caught:
        opened(bundle, tmp_path)
    assert caught.value.code == "unlisted-file"


def test_what_playbooks_need_as_a_file_is_asked_for_by_name(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    parts = opened(bundle, tmp_path)
    path = next(path for path in parts.held.runs if path.startswith(f"{layout.BLOBS}/"))
    for ask in (lambda: parts.path(path), lambda: parts.check_blobs([parts.sums.digests[path]])):
        with pytest.raises(InputError) as caught:
            ask()
        assert caught.value.code == "not-unpacked"
        assert "perimeter-install unpack" in str(caught.value.hint)


def test_volume_1_holds_what_playbooks_need_as_files_before_other_blobs(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for number in range(8):
        data = bytes([number]) * 30_000
        bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
    bundle.reseal()
    report = pack(PackRequest(bundle.root, tmp_path / "volumes", 100_000))
    assert report.total > 2
    first = {member.path for member in report.volumes[0].listing.members}
    payloads = {
        item.payload for item in bundle.manifest.items if item.kind.value in ("file", "chart")
    }
    assert payloads
    assert {layout.blob_path(payload) for payload in payloads} <= first


def test_what_is_in_both_is_taken_from_the_folder(bundle: SmallBundle, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "2026.11")
    shutil.copytree(bundle.root, tmp_path / "2026.11")
    assert opened(bundle, tmp_path).held.runs == {}
