"""Volumes: cutting, checking alone, putting together; and what must never pass as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle, make_key
from tests.support.killing import kill_at_moments

from perimeter_bundle.cli.pack_command import parse_size
from perimeter_bundle.format import layout
from perimeter_bundle.format.signature import public_key_path, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.format.volumes.check import check_volume
from perimeter_bundle.format.volumes.listing import PENDING, Member, VolumeList
from perimeter_bundle.format.volumes.pack import PackReport, PackRequest, pack
from perimeter_bundle.format.volumes.plan import Contents, plan_volumes
from perimeter_bundle.format.volumes.read import open_volume
from perimeter_bundle.format.volumes.tar import member_header, padding_bytes
from perimeter_bundle.format.volumes.unpack import UnpackReport, unpack
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, TrustError
from perimeter_bundle.model.events import Event, EventKind

SIZE = 20_000  # bytes: nine volumes of the small bundle, with verify.sh in pieces
GiB = 2**30


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    return make_bundle(tmp_path)


def cut(bundle: SmallBundle, out: Path, size: int = SIZE, *only: int) -> PackReport:
    return pack(PackRequest(bundle.root, out, size, only))


def put_together(bundle: SmallBundle, out: Path, *paths: Path) -> UnpackReport:
    return unpack(paths, out, bundle.trust)


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_volumes_put_together_are_the_bundle_byte_for_byte(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    report = cut(bundle, tmp_path / "volumes")
    assert report.total == 9
    assert all(packed.path.stat().st_size <= SIZE for packed in report.volumes)
    done = put_together(bundle, tmp_path / "out", tmp_path / "volumes")
    assert done.complete
    assert tree(tmp_path / "out") == tree(bundle.root)
    open_bundle(tmp_path / "out", bundle.trust)


def test_the_same_bundle_and_size_give_the_same_bytes_and_one_alone_is_cut_again(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "one")
    for number in (7, 2):
        report = cut(bundle, tmp_path / "two", SIZE, number)
        assert [packed.path.name for packed in report.volumes] == [f"2026.11.v{number:03d}.tar"]
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert len(two) == 2
    assert all(one[name] == data for name, data in two.items())


def test_what_is_there_is_not_cut_again_and_what_is_truncated_is(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    out = tmp_path / "volumes"
    cut(bundle, out)
    before = tree(out)
    os.truncate(out / "2026.11.v003.tar", 1000)
    (out / "2026.11.v005.tar").unlink()
    report = cut(bundle, out)
    assert [p.listing.number for p in report.volumes if p.written] == [3, 5]
    assert tree(out) == before
    flip(out / "2026.11.v004.tar", open_volume(out / "2026.11.v004.tar").extents[-1][1].offset)
    assert not any(packed.written for packed in cut(bundle, out).volumes)
    deep = pack(PackRequest(bundle.root, out, SIZE, deep=True))
    assert [p.listing.number for p in deep.volumes if p.written] == [4]
    assert tree(out) == before


def test_any_tar_lists_and_unpacks_a_volume(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes", 10**6)
    (path,) = (tmp_path / "volumes").iterdir()
    (tmp_path / "plain").mkdir()
    done = subprocess.run(
        ["tar", "xf", str(path), "-C", str(tmp_path / "plain")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert tree(tmp_path / "plain/2026.11") == tree(bundle.root)
    with tarfile.open(path) as archive:
        assert archive.getnames()[0] == "volume.json"
        for member, extent in open_volume(path).extents:
            name = member.name("2026.11")
            assert archive.getmember(name).offset_data == extent.offset


def test_plain_tar_and_cat_give_a_file_that_was_cut(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    script = (
        'for v in volumes/*.tar; do tar xf "$v" || exit 1; done; cat 2026.11.pieces/verify.sh/*'
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == bundle.file("verify.sh").read_bytes()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("2026.11/verify.sh", 12),
        ("2026.11/content/" + "a" * 99, 0),
        ("2026.11/content/größe", 8**11 - 1),
        ("2026.11.pieces/blobs/sha256/" + "b" * 64 + "/0001", 25 * GiB),
        ("x" * 86, 8**11),
    ],
)
def test_other_readers_of_tar_understand_every_header(name: str, size: int, tmp_path: Path) -> None:
    (tmp_path / "one.tar").write_bytes(member_header(name, size))
    with tarfile.open(tmp_path / "one.tar") as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.mtime) == (name, size, 315532800)
    with (tmp_path / "one.tar").open("r+b") as file:
        file.truncate(len(member_header(name, size)) + size + padding_bytes(size) + 1024)
    listed = subprocess.run(
        ["tar", "tvf", str(tmp_path / "one.tar"), "--quoting-style=literal"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    assert name in listed.stdout
    assert f" {size} " in listed.stdout


def test_each_volume_is_checked_alone_and_says_which_it_is(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    report = cut(bundle, tmp_path / "volumes")
    for packed in report.volumes:
        text = check_volume(packed.path, bundle.trust).to_text()
        assert f"volume {packed.listing.number} of 9 of 2026.11" in text
        assert "signed by builder.pub" in text


def test_volume_1_holds_what_a_site_starts_from(bundle: SmallBundle, tmp_path: Path) -> None:
    report = cut(bundle, tmp_path / "volumes", 80_000)
    assert report.total == 2
    first = {member.path for member in report.volumes[0].listing.members}
    assert {path for path in tree(bundle.root) if not path.startswith("blobs/")} <= first


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_any_flipped_byte_of_a_volume_is_found(bundle: SmallBundle, tmp_path: Path) -> None:
    path = cut(bundle, tmp_path / "volumes", SIZE, 5).volumes[0].path
    good = path.read_bytes()
    for offset in range(0, len(good), 41):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 4]) + good[offset + 1 :])
        with pytest.raises((IntegrityError, TrustError)):
            check_volume(path, bundle.trust)


def test_a_damaged_volume_is_named_with_the_command_that_cuts_it_again(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    out = tmp_path / "volumes"
    cut(bundle, out)
    volume = open_volume(out / "2026.11.v002.tar")
    member, extent = volume.extents[-1]
    flip(volume.path, extent.offset)
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", out)
    assert caught.value.code == "damaged-volume"
    assert f"(volume 2 of 9 of 2026.11): {member.path}: expected" in caught.value.problems[0]
    command = "perimeter-bundle pack BUNDLE --out DIR --volume-size 20000 --only 2"
    assert command in str(caught.value.hint)
    assert not (tmp_path / "out" / member.path).exists()
    assert not (tmp_path / "out" / layout.SUMS).exists()
    volume.path.unlink()
    cut(bundle, out, SIZE, 2)
    done = put_together(bundle, tmp_path / "out", volume.path)
    assert done.complete
    assert tree(tmp_path / "out") == tree(bundle.root)


def test_a_damaged_piece_is_found_and_the_rest_is_kept(bundle: SmallBundle, tmp_path: Path) -> None:
    out = tmp_path / "volumes"
    cut(bundle, out)
    volume = open_volume(out / "2026.11.v006.tar")
    piece, extent = next((m, e) for m, e in volume.extents if m.piece)
    good = volume.path.read_bytes()
    flip(volume.path, extent.offset)
    with pytest.raises(IntegrityError, match="not everything could be taken") as caught:
        put_together(bundle, tmp_path / "out", out)
    assert f"{piece.path}, piece {piece.piece} of {piece.pieces}" in caught.value.problems[0]
    volume.path.write_bytes(good)
    assert put_together(bundle, tmp_path / "out", volume.path).complete
    assert tree(tmp_path / "out") == tree(bundle.root)


def test_a_truncated_volume_is_refused_and_the_others_are_taken(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    out = tmp_path / "volumes"
    cut(bundle, out)
    os.truncate(out / "2026.11.v009.tar", 5000)
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", out)
    assert "2026.11.v009.tar is truncated" in caught.value.problems[0]
    assert "--only 9" in str(caught.value.hint)
    (out / "2026.11.v009.tar").unlink()
    waiting = put_together(bundle, tmp_path / "out", out)
    assert waiting.missing_volumes == (9,)
    with pytest.raises(IntegrityError) as caught:
        os.truncate(out / "2026.11.v001.tar", 300)
        open_volume(out / "2026.11.v001.tar")
    assert caught.value.code == "bad-volume"


def test_a_volume_of_another_bundle_is_refused(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    bundle.file("content/playbooks/site.yml").write_text("---\n- other\n")
    bundle.reseal()
    cut(bundle, tmp_path / "others")
    shutil.copy(tmp_path / "others/2026.11.v004.tar", tmp_path / "odd.tar")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", tmp_path / "volumes", tmp_path / "odd.tar")
    assert caught.value.code == "other-release"
    assert "odd.tar is a volume of another bundle" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_volume_of_another_bundle_is_refused_on_the_next_disc_too(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "volumes")
    put_together(bundle, tmp_path / "out", tmp_path / "volumes/2026.11.v001.tar")
    before = tree(tmp_path / "out")
    cut(bundle, tmp_path / "larger", 30_000)
    with pytest.raises(InputError) as caught:
        put_together(bundle, tmp_path / "out", tmp_path / "larger/2026.11.v002.tar")
    assert caught.value.code == "out-not-ours"
    assert tree(tmp_path / "out") == before


def test_volumes_of_two_sizes_do_not_go_together(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    cut(bundle, tmp_path / "larger", 30_000)
    with pytest.raises(IntegrityError) as caught:
        put_together(
            bundle, tmp_path / "out", tmp_path / "volumes", tmp_path / "larger/2026.11.v002.tar"
        )
    assert caught.value.code == "other-set"
    assert "--volume-size 20000" in str(caught.value.hint)


def test_the_same_volume_twice_is_used_once_and_said(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    shutil.copy(tmp_path / "volumes/2026.11.v002.tar", tmp_path / "copy.tar")
    events: list[Event] = []
    done = unpack(
        [tmp_path / "copy.tar", tmp_path / "volumes"],
        tmp_path / "out",
        bundle.trust,
        on_event=events.append,
    )
    assert done.complete
    notes = [event.message for event in events if event.kind is EventKind.NOTE]
    assert len(notes) == 1
    assert "is volume 2 of 9 of 2026.11, as" in notes[0]


def rewrite(path: Path, listing: VolumeList, data: dict[str, bytes]) -> None:
    """Writes a volume that lies: with that list, and these bytes for its members."""
    text = listing.to_bytes()
    with path.open("wb") as file:
        file.truncate(listing.size_bytes)
        file.write(member_header("volume.json", len(text)) + text)
        for member, header, offset in listing.headers():
            file.seek(offset - len(header))
            file.write(header + data[member.path])


def held(path: Path) -> dict[str, bytes]:
    volume = open_volume(path)
    return {
        member.path: volume.path.read_bytes()[e.offset :][: e.size_bytes]
        for member, e in volume.extents
    }


def forge(path: Path, member: Member, data: bytes, **changes: object) -> None:
    """Puts another member at the end of a volume."""
    listing, inside = open_volume(path).listing, held(path)
    listing = replace(listing, members=(*listing.members[:-1], member), **changes)  # type: ignore[arg-type]
    rewrite(path, listing, inside | {member.path: data})


def test_two_different_files_that_claim_one_number_are_refused(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "volumes")
    odd = tmp_path / "odd.tar"
    shutil.copy(tmp_path / "volumes/2026.11.v002.tar", odd)
    forge(odd, Member("content/new", 3, Digest.of_bytes(b"new")), b"new")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", tmp_path / "volumes", odd)
    assert caught.value.code == "volume-conflict"
    assert "two different files are volume 2 of 9" in caught.value.message


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/outside", "content/../../outside", "a\\b", ".", "content//x", "a\nb"],
)
def test_a_member_that_climbs_out_is_refused(
    path: str, bundle: SmallBundle, tmp_path: Path
) -> None:
    odd = cut(bundle, tmp_path / "volumes", SIZE, 2).volumes[0].path
    forge(odd, Member(path, 3, Digest.of_bytes(b"new")), b"new")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", odd)
    assert caught.value.code in ("bad-volume", "bad-json")
    assert list(tmp_path.glob("**/outside")) == []


def test_a_file_that_is_not_signed_never_gets_a_name(bundle: SmallBundle, tmp_path: Path) -> None:
    odd = cut(bundle, tmp_path / "volumes", SIZE, 2).volumes[0].path
    forge(odd, Member("content/new", 3, Digest.of_bytes(b"new")), b"new")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", odd)
    assert "content/new is not listed in SHA256SUMS" in caught.value.problems[0]
    with pytest.raises(IntegrityError, match="does not hold what was packed"):
        check_volume(odd, bundle.trust)
    forge(odd, Member("verify.sh", 3, Digest.of_bytes(b"new")), b"new")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", odd)
    assert "verify.sh: its list names other bytes than the signed ones" in caught.value.problems[0]
    assert tree(tmp_path / "out").keys() == {f"{layout.UNPACK_FOLDER}/state.json"}


@pytest.mark.parametrize(
    "piece",
    [
        Member("verify.sh", 3, PENDING, 4, 3, 0, 9),
        Member("verify.sh", 3, PENDING, 1, 3, 7, 9),
        Member("verify.sh", 0, PENDING, 1, 3, 0, 9),
        Member("verify.sh", 3, PENDING, 1, 2, 0, 2**52),
        Member("verify.sh", 3, PENDING, 1, 10_000, 0, 9),
        Member("SHA256SUMS", 3, PENDING, 1, 2, 0, 9),
    ],
)
def test_a_piece_that_cannot_be_is_refused(
    piece: Member, bundle: SmallBundle, tmp_path: Path
) -> None:
    odd = cut(bundle, tmp_path / "volumes", SIZE, 2).volumes[0].path
    forge(odd, replace(piece, digest=Digest.of_bytes(b"new")), b"new")
    with pytest.raises(IntegrityError) as caught:
        open_volume(odd)
    assert caught.value.code in ("bad-volume", "digest-mismatch")


@pytest.mark.parametrize("offset", [0, 5000])
def test_pieces_that_overlap_or_leave_a_gap_never_become_a_file(
    offset: int, bundle: SmallBundle, tmp_path: Path
) -> None:
    out = tmp_path / "volumes"
    cut(bundle, out)
    odd = out / "2026.11.v006.tar"
    volume = open_volume(odd)
    inside = held(odd)
    members = tuple(
        replace(m, offset=offset) if m.path == "verify.sh" else m for m in volume.listing.members
    )
    rewrite(odd, replace(volume.listing, members=members), inside)
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, tmp_path / "out", out)
    assert "pieces do not make up the signed file" in str(caught.value)
    assert not (tmp_path / "out/verify.sh").exists()
    odd.unlink()
    cut(bundle, out)
    assert put_together(bundle, tmp_path / "out", out).complete


def test_refuses_links_and_other_tars_as_volumes(bundle: SmallBundle, tmp_path: Path) -> None:
    good = cut(bundle, tmp_path / "volumes", SIZE, 2).volumes[0].path
    (tmp_path / "link.tar").symlink_to(good)
    with pytest.raises(IntegrityError):
        open_volume(tmp_path / "link.tar")
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        archive.add(bundle.file("verify.sh"), "volume.json")
        link = tarfile.TarInfo("2026.11/verify.sh")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(IntegrityError, match="does not begin with volume"):
        open_volume(tmp_path / "odd.tar")
    with good.open("ab") as file:
        file.write(member_header("2026.11/extra", 0) + bytes(1024))
    with pytest.raises(IntegrityError, match="is too long"):
        open_volume(good)
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(IntegrityError, match="does not begin with"):
        open_volume(tmp_path / "empty.tar")


def test_a_changed_list_is_refused(bundle: SmallBundle, tmp_path: Path) -> None:
    good = cut(bundle, tmp_path / "volumes", SIZE, 2).volumes[0].path
    listing = open_volume(good).listing
    changed = [
        replace(listing, number=10),
        replace(listing, number=0),
        replace(listing, total=2**40),
        replace(listing, identity=Digest.of_bytes(b"other")),
        replace(listing, release="../out"),
        replace(listing, members=listing.members * 2),
        replace(listing, members=listing.members[1:]),
        replace(listing, members=()),
        replace(listing, bundle_bytes=1),
    ]
    for odd in changed:
        with pytest.raises(IntegrityError) as caught:
            VolumeList.parse(odd.to_bytes(), "odd.tar")
        assert caught.value.code == "bad-volume"
    for data in (listing.to_bytes() + b"\n", listing.to_bytes().replace(b": 2,", b": 2.0,", 1)):
        with pytest.raises(IntegrityError):
            VolumeList.parse(data, "odd.tar")


def test_volumes_that_nobody_trusted_signed_are_refused(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "volumes")
    other = public_key_path(make_key(tmp_path / "keys", "other"))
    with pytest.raises(TrustError) as caught:
        unpack([tmp_path / "volumes"], tmp_path / "out", Trust.load(other))
    assert caught.value.code == "not-trusted"
    assert not (tmp_path / "out").exists()


def test_one_disc_after_the_other(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    out = tmp_path / "out"
    order = [6, 9, 1, 3, 8, 2, 4, 7]
    for number in order:
        report = put_together(bundle, out, tmp_path / f"volumes/2026.11.v{number:03d}.tar")
        assert not report.complete
        assert not (out / layout.SUMS).exists()
    assert report.missing_volumes == (5,)
    assert report.incomplete == ("verify.sh: piece 2 is there so far",)
    assert put_together(bundle, out, tmp_path / "volumes/2026.11.v005.tar").complete
    assert tree(out) == tree(bundle.root)
    assert put_together(bundle, out, tmp_path / "volumes/2026.11.v005.tar").complete


def test_a_file_that_was_changed_since_it_was_taken_is_taken_again(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "volumes", 10**6)
    put_together(bundle, tmp_path / "out", tmp_path / "volumes")
    (tmp_path / "out/verify.sh").write_text("echo ha\n")
    assert put_together(bundle, tmp_path / "out", tmp_path / "volumes").complete
    assert tree(tmp_path / "out") == tree(bundle.root)


def test_what_tar_unpacked_of_volume_1_is_used(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes", 80_000)
    subprocess.run(["tar", "xf", "volumes/2026.11.v001.tar"], cwd=tmp_path, check=True)
    assert put_together(bundle, tmp_path / "2026.11", tmp_path / "volumes").complete
    assert tree(tmp_path / "2026.11") == tree(bundle.root)


def test_refuses_to_unpack_into_somebodys_folder(bundle: SmallBundle, tmp_path: Path) -> None:
    cut(bundle, tmp_path / "volumes")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("dear")
    with pytest.raises(InputError, match="not of this bundle"):
        put_together(bundle, tmp_path / "home", tmp_path / "volumes")
    begun = tmp_path / "begun"
    put_together(bundle, begun, tmp_path / "volumes/2026.11.v001.tar")
    (begun / "content").rename(tmp_path / "elsewhere")
    (begun / "content").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError) as caught:
        put_together(bundle, begun, tmp_path / "volumes")
    assert caught.value.code == "odd-file"


def test_refuses_a_bundle_whose_bytes_are_wrong(bundle: SmallBundle, tmp_path: Path) -> None:
    flip(bundle.file("index.json"), 9)
    with pytest.raises(IntegrityError) as caught:
        cut(bundle, tmp_path / "volumes")
    assert caught.value.code == "digest-mismatch"
    assert "index.json: not the bytes that the bundle lists" in caught.value.message
    flip(bundle.file("index.json"), 9)
    flip(bundle.file("verify.sh"), 9)
    with pytest.raises(IntegrityError, match=r"verify\.sh: not the bytes"):
        cut(bundle, tmp_path / "volumes")
    assert [
        p.name for p in (tmp_path / "volumes").glob("*.tar") if b"pieces" in p.read_bytes()
    ] == []


def test_refuses_a_bundle_with_other_files_or_without_a_signature(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    bundle.file("content/extra").write_text("x")
    with pytest.raises(IntegrityError) as caught:
        cut(bundle, tmp_path / "volumes")
    assert caught.value.code == "unlisted-file"
    bundle.file("content/extra").unlink()
    shutil.rmtree(bundle.file(layout.SIGNATURES))
    with pytest.raises(InputError) as refused:
        cut(bundle, tmp_path / "volumes")
    assert refused.value.code == "not-signed"


def test_refuses_a_folder_with_volumes_that_were_cut_in_another_way(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    cut(bundle, tmp_path / "volumes")
    before = tree(tmp_path / "volumes")
    with pytest.raises(InputError) as caught:
        cut(bundle, tmp_path / "volumes", 30_000)
    assert caught.value.code == "out-not-ours"
    sign_bundle(bundle.root, make_key(tmp_path / "keys", "second"))
    with pytest.raises(InputError):
        cut(bundle, tmp_path / "volumes")
    assert tree(tmp_path / "volumes") == before


def test_refuses_absurd_sizes_and_numbers(bundle: SmallBundle, tmp_path: Path) -> None:
    for size in (0, 1, 5000):
        with pytest.raises(InputError) as caught:
            cut(bundle, tmp_path / "volumes", size)
        assert caught.value.code == "volume-size"
    with pytest.raises(InputError) as caught:
        cut(bundle, tmp_path / "volumes", SIZE, 10)
    assert caught.value.code == "no-such-volume"
    assert "--volume-size" in str(caught.value.hint)


def test_a_hundred_gigabytes_are_planned_in_a_moment_and_fit() -> None:
    files = {
        f"blobs/sha256/{number:064x}": (size, Digest.of_bytes(str(number).encode()))
        for number, size in enumerate([30 * GiB, 9 * GiB, *(i * 9973 for i in range(4000))])
    }
    sums = Digest.of_bytes(b"sums")
    contents = Contents("2026.11", sums, files, (Member("SHA256SUMS", 400_000, sums),))
    for size in (4 * 10**9, 25 * 10**9):
        lists = plan_volumes(contents, size)
        assert all(each.size_bytes <= size for each in lists)
        full = sum(each.size_bytes for each in lists)
        assert full < 1.001 * sum(size for size, _ in files.values()) + len(lists) * 10**6
        placed = [m for each in lists for m in each.members if not m.is_common()]
        assert {m.path for m in placed} == set(files)
        assert sum(m.size_bytes for m in placed) == lists[0].bundle_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("700M", 700 * 10**6), ("4.7G", 4_700_000_000), ("4G", 4 * 10**9), ("25GB", 25 * 10**9)],
        *[("1MiB", 2**20), ("4GiB", 2**32 - 1), ("4294967296", 2**32 - 1), ("8gib", 2**33)],
    ],
)
def test_sizes_are_read_as_discs_are_labelled(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-4G", "4X", "1e9", "4 000", "0", "1000", "101T", "٤G"])
def test_sizes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_size(text)
    assert caught.value.code == "volume-size"


def test_two_at_once_in_one_folder_are_refused(bundle: SmallBundle, tmp_path: Path) -> None:
    def meanwhile(event: Event) -> None:
        if event.task in ("pack", "unpack") and event.kind is EventKind.START:
            with pytest.raises(HostError) as caught:
                again()
            assert caught.value.code == "busy"
            refused.append(event.task)

    def again() -> object:
        if not refused:
            return cut(bundle, tmp_path / "volumes")
        return put_together(bundle, tmp_path / "out", tmp_path / "volumes")

    refused: list[str] = []
    pack(PackRequest(bundle.root, tmp_path / "volumes", SIZE), meanwhile)
    unpack([tmp_path / "volumes"], tmp_path / "out", bundle.trust, on_event=meanwhile)
    assert refused == ["pack", "unpack"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disc")
def test_a_full_disc_is_named_and_the_rest_is_done_after_room_is_made(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    disc = tmp_path / "disc"
    disc.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disc)], check=True)
    filler = disc / "filler"

    def fill(event: Event) -> None:
        """Takes the room away after it was found to be there."""
        if event.task in ("pack", "unpack") and event.kind is EventKind.START:
            filler.write_bytes(bytes(max(0, shutil.disk_usage(disc).free - 30_000)))

    def resize(size: str) -> None:
        filler.unlink(missing_ok=True)
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disc)], check=True)

    try:
        with pytest.raises(HostError) as caught:
            pack(PackRequest(bundle.root, disc / "volumes", SIZE))
        assert caught.value.code == "no-room"
        assert "needed" in caught.value.context
        resize("1m")
        with pytest.raises(HostError) as caught:
            pack(PackRequest(bundle.root, disc / "volumes", SIZE), fill)
        assert "no room left in" in caught.value.message
        resize("1m")
        # what was begun is no reason to refuse for want of room
        part = disc / "volumes/.2026.11.v009.tar.part"
        part.write_bytes(bytes(400_000))
        filler.write_bytes(bytes(shutil.disk_usage(disc).free - 30_000))
        report = pack(PackRequest(bundle.root, disc / "volumes", SIZE))
        filler.unlink()
        assert not part.exists()
        assert 0 < sum(packed.written for packed in report.volumes) <= 9
        with pytest.raises(HostError) as caught:
            unpack([disc / "volumes"], disc / "out", bundle.trust, on_event=fill)
        assert "no room left in" in caught.value.message
        resize("1m")
        assert unpack([disc / "volumes"], disc / "out", bundle.trust).complete
        assert tree(disc / "out") == tree(bundle.root)
    finally:
        subprocess.run(["umount", "-l", str(disc)], check=True)


def test_killed_at_any_moment_both_go_on(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for _ in range(40):
        data = os.urandom(400_000)
        bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
    bundle.reseal()
    volumes, out, size = tmp_path / "volumes", tmp_path / "out", 1_000_000
    program = (
        "import sys; from pathlib import Path\n"
        "from perimeter_bundle.format.trust import Trust\n"
        "from perimeter_bundle.format.volumes.pack import PackRequest, pack\n"
        "from perimeter_bundle.format.volumes.unpack import unpack\n"
        "what, source, out, trust = sys.argv[1], *map(Path, sys.argv[2:])\n"
        "print('ready', flush=True)\n"
        f"pack(PackRequest(source, out, {size})) if what == 'pack' else "
        "unpack([source], out, Trust.load(trust))\n"
    )
    for what, source, target in (("pack", bundle.root, volumes), ("unpack", volumes, out)):
        finished: dict[str, int] = {}

        def look(target: Path = target, finished: dict[str, int] = finished) -> None:
            done = [*target.glob("2026.11.v*.tar"), *target.glob("blobs/sha256/*")]
            there = {path.name: path.stat().st_ino for path in done}
            assert finished.items() <= there.items()  # what bears its name is not made again
            finished.update(there)

        words = [what, str(source), str(target), str(bundle.public_key)]
        assert kill_at_moments(program, words, (3, 10, 20, 30, 40, 50, 60, 80), look) > 0
    pack(PackRequest(bundle.root, tmp_path / "again", size))
    assert tree(tmp_path / "again") == tree(volumes)
    assert tree(out) == tree(bundle.root)
