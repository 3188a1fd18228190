"""What holds for volumes of any bundle, any size, in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.bundles import make_bundle

from perimeter_bundle.format.volumes.listing import VolumeList
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.format.volumes.unpack import unpack
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    blobs=st.lists(st.integers(0, 120_000), max_size=6),
    size=st.integers(20_000, 300_000),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 99),
)
def test_any_bundle_in_volumes_of_any_size_is_the_same_bundle_again_in_any_order(
    blobs: list[int], size: int, order: Random, seed: int
) -> None:
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # every volume is flushed
    with tempfile.TemporaryDirectory(dir=in_memory) as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        for number, length in enumerate(blobs):
            data = Random(f"{seed}/{number}").randbytes(length)
            bundle.file(f"blobs/sha256/{Digest.of_bytes(data).hex}").write_bytes(data)
        bundle.reseal()
        volumes = [p.path for p in pack(PackRequest(bundle.root, folder / "v", size)).volumes]
        assert all(path.stat().st_size <= size for path in volumes)
        order.shuffle(volumes)
        while volumes:
            count = order.randint(1, len(volumes))
            some, volumes = volumes[:count], volumes[count:]
            report = unpack(some, folder / "out", bundle.trust)
            assert report.complete is not bool(volumes)
        assert tree(folder / "out") == tree(bundle.root)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def volume_list(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("list")
    bundle = make_bundle(folder)
    report = pack(PackRequest(bundle.root, folder / "v", 20_000, only=(5,)))
    return report.volumes[0].listing.to_bytes()


@settings(max_examples=50, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_list_is_refused(volume_list: bytes, place: float, bit: int) -> None:
    data = bytearray(volume_list)
    data[int(place * len(data))] ^= 1 << bit
    with pytest.raises(IntegrityError):
        VolumeList.parse(bytes(data), "x")
