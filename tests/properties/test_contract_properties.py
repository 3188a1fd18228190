"""What holds for every value and every bundle, not only for the examples."""

from __future__ import annotations

import dataclasses
import string
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.bundles import SmallBundle, make_bundle

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.format.manifest import (
    BundleComponent,
    BundleItem,
    BundleManifest,
    ItemKind,
    Room,
)
from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor, ImageManifest, OciIndex
from perimeter_bundle.format.strict_json import dump_object, parse_object
from perimeter_bundle.format.sums import Sums, write_sums
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.lock import FileKind, Lock, LockedChart, LockedFile, LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

lower = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
digests = st.binary(max_size=4).map(Digest.of_bytes)
sizes = st.integers(0, 2**53 - 1)
line = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=12)  # printable
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
full_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
platforms = st.builds(Platform, lower, lower, st.one_of(st.just(""), lower))
references = st.builds(
    lambda host, repository, tag: ImageReference(f"{host}.io", f"a/{repository}", tag),
    *(lower, lower, lower),
)

images = st.builds(
    LockedImage,
    reference=references,
    digest=st.one_of(st.none(), digests),
    media_type=text,
    manifests=st.dictionaries(platforms, digests, min_size=1, max_size=3),
    size_bytes=sizes,
    components=st.lists(text, max_size=3).map(tuple),
    why=st.lists(text, max_size=3).map(tuple),
)
charts = st.builds(
    LockedChart,
    *(lower, lower, lower, full_text, text),
    st.one_of(st.none(), digests),
    sizes,
)
files = st.builds(
    LockedFile,
    *(lower, lower, lower, st.sampled_from(FileKind), st.one_of(st.none(), platforms)),
    full_text,
    st.one_of(st.none(), digests),
    sizes,
)


def by_reference(one: LockedImage | LockedChart | LockedFile) -> str:
    return str(one.reference)


locks = st.builds(
    Lock,
    full_text,
    sizes,
    st.lists(platforms, min_size=1, max_size=3).map(tuple),
    st.lists(images, max_size=3, unique_by=by_reference).map(tuple),
    st.lists(charts, max_size=3, unique_by=by_reference).map(tuple),
    st.lists(files, max_size=3, unique_by=by_reference).map(tuple),
)

components = st.builds(BundleComponent, *([full_text] * 5))
items = st.builds(
    BundleItem,
    kind=st.sampled_from([kind for kind in ItemKind if kind.in_index]),
    name=references.map(str),
    digest=digests,
    payload=digests,
    size_bytes=sizes,
    platforms=st.lists(platforms.map(str), max_size=2).map(tuple),
    source=text,
    licence=text,
    component=st.just(""),
    why=st.lists(text, max_size=2).map(tuple),
    version=text,
)
manifests = st.builds(
    BundleManifest,
    line.filter(bool),
    sizes,
    full_text,
    st.lists(components, max_size=3, unique_by=lambda one: one.name).map(tuple),
    st.lists(items, max_size=4, unique_by=lambda one: one.name).map(tuple),
    st.builds(Room, sizes, sizes, sizes),
)

descriptors = st.builds(
    Descriptor,
    full_text,
    digests,
    sizes,
    st.one_of(st.none(), platforms),
    st.dictionaries(text, text, max_size=2),
    text,
)
paths = st.lists(lower, min_size=1, max_size=3).map("/".join)


@given(locks)
def test_a_lock_comes_back(lock: Lock) -> None:
    assert Lock.parse(lock.to_bytes()) == lock


@given(locks, st.randoms())
def test_the_order_of_entries_does_not_change_a_lock(lock: Lock, random: Random) -> None:
    shuffled = list(lock.images)
    random.shuffle(shuffled)
    assert dataclasses.replace(lock, images=tuple(shuffled)).to_bytes() == lock.to_bytes()


@given(manifests)
def test_a_bundle_manifest_comes_back(manifest: BundleManifest) -> None:
    assert BundleManifest.parse(manifest.to_bytes()) == manifest


@given(descriptors, st.lists(descriptors, max_size=3), st.dictionaries(text, text, max_size=2))
def test_oci_documents_come_back(
    config: Descriptor, layers: list[Descriptor], annotations: dict[str, str]
) -> None:
    manifest = ImageManifest(config, tuple(layers), OCI_MANIFEST, annotations, "a/b")
    assert ImageManifest.parse(manifest.to_bytes()) == manifest
    index = OciIndex(tuple(layers), annotations=annotations)
    assert OciIndex.parse(index.to_bytes()) == index


@given(st.dictionaries(paths, digests, min_size=1, max_size=8))
def test_sums_come_back(found: dict[str, Digest]) -> None:
    sums = Sums(found)
    assert Sums.parse(sums.to_bytes()) == sums
    assert Sums.parse(sums.to_bytes()).to_bytes() == sums.to_bytes()


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_never_worse(data: bytes) -> None:
    for parse in (
        Lock.parse,
        BundleManifest.parse,
        OciIndex.parse,
        ImageManifest.parse,
        Sums.parse,
        lambda data: parse_object(data, "it", max_bytes=100),
    ):
        try:
            parse(data)
        except PerimeterError as error:
            assert error.code


@given(st.text(max_size=20))
def test_an_allowed_path_never_leaves_its_folder(path: str) -> None:
    if path_problem(path) is None:
        root = Path("/bundle")
        target = Path(*(root / path).parts)
        assert target.is_relative_to(root)
        assert target != root
        assert ".." not in target.parts


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(text, json_values, max_size=4))
def test_strict_json_comes_back(document: dict[str, object]) -> None:
    data = dump_object(document)
    assert parse_object(data, "it", max_bytes=100_000) == document
    assert dump_object(parse_object(data, "it", max_bytes=100_000)) == data


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(lower, st.binary(max_size=30), min_size=1, max_size=6))
def test_the_same_tree_has_the_same_sums(content: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        for name, data in content.items():
            (Path(one) / name).write_bytes(data)
        for name in sorted(content, reverse=True):
            (Path(two) / name).write_bytes(content[name])
        assert write_sums(Path(one)) == write_sums(Path(two))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    return make_bundle(tmp_path_factory.mktemp("flip"))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_anywhere_is_refused(bundle: SmallBundle, data: st.DataObject) -> None:
    everything = sorted(path for path in bundle.root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(everything))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(before)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    try:
        with pytest.raises(PerimeterError):
            open_bundle(bundle.root, bundle.trust)
    finally:
        path.write_bytes(before)
    open_bundle(bundle.root, bundle.trust)
