"""The same archive is the same image, and no flipped byte of it becomes another one."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.local_images import saved_files, tar_of

from perimeter_bundle.imagesource.content import SavedContent, read_saved
from perimeter_bundle.imagesource.store import TarStore
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.reference import ImageReference

REFERENCE = ImageReference.parse("quay.io/team/train:1.4")
layers_strategy = st.lists(st.binary(min_size=9, max_size=3000), min_size=1, max_size=4)


def read(path: Path) -> SavedContent:
    content = read_saved(TarStore.read(path, "x.tar"), "", REFERENCE, lambda: None)
    assert isinstance(content, SavedContent)
    return content


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=layers_strategy, seed=st.integers(0, 1000))
def test_the_same_images_in_any_order_of_files_have_the_same_digest(
    tmp_path: Path, layers: list[bytes], seed: int
) -> None:
    files = list(saved_files(layers, ["train:1.4"]).items())
    (tmp_path / "one.tar").write_bytes(tar_of(dict(files)))
    random.Random(seed).shuffle(files)
    (tmp_path / "two.tar").write_bytes(tar_of(dict(files)))
    one, two = read(tmp_path / "one.tar"), read(tmp_path / "two.tar")
    assert (one.top, one.made) == (two.top, two.made)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=layers_strategy, data=st.data())
def test_a_flipped_byte_is_refused_or_changes_nothing_of_the_image(
    tmp_path: Path, layers: list[bytes], data: st.DataObject
) -> None:
    whole = tar_of(saved_files(layers, ["train:1.4"]))
    (tmp_path / "x.tar").write_bytes(whole)
    expected = read(tmp_path / "x.tar").top
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x.tar").write_bytes(damaged)
    try:
        found = read(tmp_path / "x.tar").top
    except PerimeterError:
        return
    assert found == expected


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=layers_strategy, data=st.data())
def test_an_archive_cut_anywhere_is_refused_or_whole(
    tmp_path: Path, layers: list[bytes], data: st.DataObject
) -> None:
    whole = tar_of(saved_files(layers, ["train:1.4"]))
    (tmp_path / "x.tar").write_bytes(whole)
    expected = read(tmp_path / "x.tar").top
    (tmp_path / "x.tar").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = read(tmp_path / "x.tar").top
    except PerimeterError:
        return
    assert found == expected
