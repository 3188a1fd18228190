"""Parity volumes: any N of the volumes may be lost or damaged."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.support.bundles import SmallBundle, make_bundle
from tests.support.killing import kill_at_moments

from perimeter_bundle.format.volumes.copying import Progress
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.format.volumes.parity import (
    CELL_BYTES,
    ParityList,
    check_parity,
    open_parity,
    reserve_bytes,
    write_parity,
)
from perimeter_bundle.format.volumes.read import open_volume
from perimeter_bundle.format.volumes.repair import repair
from perimeter_bundle.format.volumes.stripes import Stripes
from perimeter_bundle.format.volumes.unpack import unpack
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, ignore_events

CELL = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallBundle, Path]:
    """Five volumes of the small bundle, with two parity volumes of small cells."""
    folder = tmp_path_factory.mktemp("parity")
    bundle = make_bundle(folder)
    report = pack(PackRequest(bundle.root, folder / "volumes", 28_000))
    volumes = [open_volume(packed.path) for packed in report.volumes]
    progress = Progress(ignore_events, "parity", 0)
    write_parity(volumes, folder / "volumes", 2, progress, cell_bytes=CELL)
    return bundle, folder / "volumes"


@pytest.fixture
def folder(made: tuple[SmallBundle, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "volumes"))


def tree(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def spoil(path: Path, offset: int, length: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(length)
        file.seek(offset)
        file.write(bytes(byte ^ 0x55 for byte in data))


def test_any_lost_volumes_up_to_the_parity_are_rebuilt_byte_for_byte(
    made: tuple[SmallBundle, Path], folder: Path
) -> None:
    good = tree(made[1])
    names = sorted(good)
    assert len(names) == 7
    pairs = [pair for pair in itertools.combinations(names, 2) if any(".v" in n for n in pair)]
    for lost in [*pairs, *itertools.combinations(names, 1)]:
        for name in lost:
            (folder / name).unlink()
        report = repair(folder)
        volumes = [name for name in lost if ".v" in name]
        assert [path.name for path in report.rebuilt] == volumes
        for name in volumes:
            assert (folder / name).read_bytes() == good[name]
        for name in set(lost) - set(volumes):
            (folder / name).write_bytes(good[name])


def test_scratches_in_every_volume_are_mended_when_no_stripe_has_too_many(
    made: tuple[SmallBundle, Path], folder: Path
) -> None:
    good = tree(made[1])
    for number in range(1, 6):
        path = folder / f"2026.11.v{number:03d}.tar"
        spoil(path, number * CELL - 4000, 50)
    spoil(folder / "2026.11.p001.tar", 9 * CELL)
    report = repair(folder)
    assert len(report.rebuilt) == 5
    names = [name for name in good if ".v" in name]
    assert {name: (folder / name).read_bytes() for name in names} == {n: good[n] for n in names}


def test_a_truncated_and_a_lengthened_volume_are_mended(
    made: tuple[SmallBundle, Path], folder: Path
) -> None:
    good = tree(made[1])
    os.truncate(folder / "2026.11.v002.tar", 9000)
    with (folder / "2026.11.v003.tar").open("ab") as file:
        file.write(b"x")
    assert len(repair(folder).rebuilt) == 2
    assert tree(folder) == good


def test_what_is_right_is_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    report = repair(folder)
    assert report.rebuilt == ()
    assert "all 5 volumes are right" in report.to_text()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_too_much_damage_is_named_and_nothing_is_written(folder: Path) -> None:
    (folder / "2026.11.v001.tar").unlink()
    (folder / "2026.11.p002.tar").unlink()
    spoil(folder / "2026.11.v004.tar", 2 * CELL)
    before = tree(folder)
    with pytest.raises(IntegrityError) as caught:
        repair(folder)
    assert caught.value.code == "beyond-repair"
    assert caught.value.problems == (
        "stripe 2: 2026.11.v001.tar, 2026.11.v004.tar; 1 parity cells are good",
    )
    assert "pack --only" in str(caught.value.hint)
    assert tree(folder) == before


def test_rebuilt_volumes_go_to_another_folder_when_asked(
    made: tuple[SmallBundle, Path], folder: Path, tmp_path: Path
) -> None:
    (folder / "2026.11.v002.tar").unlink()
    report = repair(folder, out=tmp_path / "rebuilt")
    assert [path.name for path in report.rebuilt] == ["2026.11.v002.tar"]
    bundle = made[0]
    paths = [folder, tmp_path / "rebuilt"]
    assert unpack(paths, tmp_path / "out", bundle.trust).complete


def test_a_damaged_parity_volume_is_left_out_and_said(folder: Path) -> None:
    os.truncate(folder / "2026.11.p001.tar", 700)
    (folder / "2026.11.v002.tar").unlink()
    events: list[Event] = []
    assert len(repair(folder, on_event=events.append).rebuilt) == 1
    said = [event.message for event in events if event.kind is EventKind.WARNING]
    assert len(said) == 1
    assert "left out:" in said[0]
    assert "2026.11.p001.tar" in said[0]


def test_any_flipped_byte_of_a_parity_volume_is_found(folder: Path) -> None:
    path = folder / "2026.11.p002.tar"
    assert "parity volume 2 of 2 over 5 volumes of 2026.11" in check_parity(path).to_text()
    good = path.read_bytes()
    _, cells, end = open_parity(path).listing.offsets()
    assert end == len(good)
    for offset in Random(5).sample(range(end - 1024), 60):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 4]) + good[offset + 1 :])
        listing_padding = offset < cells and good[offset] == 0
        if listing_padding:
            continue  # zeros between headers: no byte of it is ever used
        with pytest.raises(IntegrityError):
            check_parity(path)


def test_parity_of_other_volumes_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "other")
    report = pack(PackRequest(bundle.root, tmp_path / "o", 26_000))
    volumes = [open_volume(packed.path) for packed in report.volumes]
    write_parity(volumes, tmp_path / "o", 1, Progress(ignore_events, "", 0), cell_bytes=CELL)
    shutil.copy(tmp_path / "o/2026.11.p001.tar", folder / "2026.11.p003.tar")
    with pytest.raises(IntegrityError) as caught:
        repair(folder)
    assert caught.value.code == "other-set"


def test_a_folder_without_parity_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError) as caught:
            repair(path)
        assert caught.value.code == "no-parity"


def test_lists_that_cannot_be_are_refused(folder: Path) -> None:
    listing = open_parity(folder / "2026.11.p001.tar").listing
    for odd in (
        replace(listing, number=3),
        replace(listing, number=0),
        replace(listing, total=2**40),
        replace(listing, cell_bytes=0),
        replace(listing, cell_bytes=2**40),
        replace(listing, cell_bytes=1000),
        replace(listing, sizes=(1,) * 40),
        replace(listing, release="../x"),
    ):
        with pytest.raises(IntegrityError):
            ParityList.parse(odd.to_bytes(), "odd.tar")
    for data in (
        listing.to_bytes() + b" ",
        listing.to_bytes().replace(b'"sizes": [', b'"sizes": [-'),
    ):
        with pytest.raises(IntegrityError):
            ParityList.parse(data, "odd.tar")


def test_pack_makes_volumes_and_parity_that_all_fit(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for _ in range(30):
        data = os.urandom(100_000)
        bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
    bundle.reseal()
    request = PackRequest(bundle.root, tmp_path / "v", 1_500_000, parity=2)
    report = pack(request)
    assert len(report.parity) == 2
    files = tree(tmp_path / "v")
    assert len(files) == report.total + 2
    assert max(map(len, files.values())) <= 1_500_000
    again = pack(request)
    assert not any(packed.written for packed in again.volumes)
    assert tree(tmp_path / "v") == files
    first = report.volumes[0]
    first.path.unlink()
    command = first.listing.cut_again().split()
    size = int(command[command.index("--volume-size") + 1])
    pack(PackRequest(bundle.root, tmp_path / "v", size, only=(1,)))
    assert tree(tmp_path / "v") == files
    first.path.unlink()
    alone = pack(replace(request, only=(1,)))  # the same, with the words it was first cut with
    assert [packed.written for packed in alone.volumes] == [True]
    assert tree(tmp_path / "v") == files
    one = pack(replace(request, only=(1,), out=tmp_path / "stick"))
    assert (list(tree(tmp_path / "stick")), one.parity) == ([first.listing.name], ())
    for packed in report.volumes[-2:]:
        packed.path.unlink()
    assert len(repair(tmp_path / "v").rebuilt) == 2
    assert tree(tmp_path / "v") == files


@pytest.mark.parametrize("volume_bytes", [700 * 10**6, 4 * 10**9, 25 * 10**9])
def test_a_parity_volume_of_full_volumes_fits_the_medium(volume_bytes: int) -> None:
    none = Digest.of_bytes(b"")
    largest = volume_bytes - reserve_bytes(volume_bytes)
    sizes = (largest,) * 31
    listing = ParityList("2026.11", none, none, 1, 1, CELL_BYTES, sizes, none)
    assert listing.offsets()[2] <= volume_bytes


def test_refuses_parity_over_too_many_volumes_before_the_first_byte(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for only in ((), (1,)):
        with pytest.raises(InputError) as caught:
            pack(PackRequest(bundle.root, tmp_path / "v", 10**6, only=only, parity=32))
        assert (caught.value.code, caught.value.context["at most"]) == ("parity", "32 of both")
        assert not (tmp_path / "v").exists()


def test_parity_is_the_same_in_every_release_of_perimeter() -> None:
    random, size = Random(7), 40 * 1024 + 512
    cells = [random.randbytes(size) for _ in range(6)]
    found = [Digest.of_bytes(cell).hex for cell in Stripes(6, 2, size).encode(cells)]
    assert found == [
        "45548df024fe7b1e477b5090b48339c09327213e25cd878abd38156c9beb9943",
        "535c42ace659b7a7abaa21b5bd41eb7817903ab8c8688514bda1d940ff5df00b",
    ]


@pytest.mark.parametrize(("data", "parity"), [(1, 1), (5, 3), (16, 16), (25, 2), (31, 1)])
def test_any_so_many_cells_give_the_others(data: int, parity: int) -> None:
    random = Random(data)
    code = Stripes(data, parity, CELL)
    cells = [random.randbytes(CELL) for _ in range(data)]
    everything = dict(enumerate([*cells, *code.encode(cells)]))
    for _ in range(20):
        lost = sorted(random.sample(range(data), min(data, random.randint(1, parity))))
        spare = random.sample(range(data, data + parity), len(lost))
        known = {p: c for p, c in everything.items() if p not in lost and (p < data or p in spare)}
        assert code.rebuild(known, lost) == [everything[place] for place in lost]


def test_two_repairs_of_one_folder_are_refused(folder: Path) -> None:
    (folder / "2026.11.v002.tar").unlink()
    refused = []

    def meanwhile(event: Event) -> None:
        if (event.task, event.kind) == ("rebuild", EventKind.START) and not refused:
            refused.append(True)
            with pytest.raises(HostError) as caught:
                repair(folder)
            assert caught.value.code == "busy"

    assert repair(folder, on_event=meanwhile).rebuilt
    assert refused


@pytest.mark.parametrize("changed", ["2026.11.v001.tar", "2026.11.v004.tar"])
def test_a_volume_that_changes_while_others_are_rebuilt_of_it_spoils_none(
    changed: str, made: tuple[SmallBundle, Path], folder: Path
) -> None:
    good = tree(made[1])
    (folder / "2026.11.v002.tar").unlink()

    def meanwhile(event: Event) -> None:
        if (event.task, event.kind) == ("rebuild", EventKind.START):
            spoil(folder / changed, 2 * CELL + 5)

    with pytest.raises(IntegrityError) as caught:
        repair(folder, on_event=meanwhile)
    assert caught.value.code == "beyond-repair"
    assert not (folder / "2026.11.v002.tar").exists()
    rebuilt = {path.name for path in repair(folder).rebuilt}
    assert rebuilt == {"2026.11.v002.tar", changed}
    assert {name: data for name, data in tree(folder).items() if name in good} == good


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disc")
def test_a_full_disc_while_repairing_is_named_and_the_rest_is_done_after_room_is_made(
    made: tuple[SmallBundle, Path], folder: Path, tmp_path: Path
) -> None:
    good, lost = tree(made[1]), "2026.11.v002.tar"
    (folder / lost).unlink()
    disc = tmp_path / "disc"
    disc.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(disc)], check=True)
    out, filler = disc / "out", disc / "filler"

    def fill(event: Event) -> None:
        """Takes the room away after it was found to be there."""
        if (event.task, event.kind) == ("rebuild", EventKind.START):
            filler.write_bytes(bytes(shutil.disk_usage(disc).free - 8_192))

    try:
        with pytest.raises(HostError) as caught:
            repair(folder, out=out)
        assert caught.value.code == "no-room" and "needed" in caught.value.context
        subprocess.run(["mount", "-o", "remount,size=100k", str(disc)], check=True)
        with pytest.raises(HostError) as caught:
            repair(folder, out=out, on_event=fill)
        assert "no room left in" in caught.value.message
        assert not list(out.glob("*.tar"))  # no half of a volume bears its name
        filler.unlink()
        # what was begun is no reason to refuse for want of room
        (out / f".{lost}.part").write_bytes(bytes(80_000))
        assert shutil.disk_usage(disc).free < len(good[lost])
        assert [path.name for path in repair(folder, out=out).rebuilt] == [lost]
        assert tree(out) == {lost: good[lost]}
    finally:
        subprocess.run(["umount", "-l", str(disc)], check=True)


def test_a_repair_that_was_killed_leaves_nothing_wrong_and_the_next_one_ends_it(
    tmp_path: Path,
) -> None:
    bundle = make_bundle(tmp_path)
    for number in range(40):
        data = Random(number).randbytes(400_000)
        bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
    bundle.reseal()
    folder = tmp_path / "volumes"
    pack(PackRequest(bundle.root, folder, 4_000_000, parity=2))
    good = tree(folder)
    program = (
        "import sys; from pathlib import Path\n"
        "from perimeter_bundle.format.volumes.repair import repair\n"
        "print('ready', flush=True)\n"
        "repair(Path(sys.argv[1]))\n"
    )
    for name in ("2026.11.v001.tar", "2026.11.v003.tar"):
        (folder / name).unlink()

    def look() -> None:
        there = {name: data for name, data in tree(folder).items() if name in good}
        assert all(good[name] == data for name, data in there.items())

    assert kill_at_moments(program, [str(folder)], (5, 20, 40, 60), look) > 0
    assert tree(folder) == good
