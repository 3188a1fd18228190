"""Strict JSON, bundle.json, OCI manifests and indexes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from perimeter_bundle.format.layout import REF_NAME_ANNOTATION
from perimeter_bundle.format.manifest import (
    BundleComponent,
    BundleItem,
    BundleManifest,
    ItemKind,
    Room,
)
from perimeter_bundle.format.oci import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_CONFIG_TYPE,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageManifest,
    OciIndex,
    closure,
    parse_manifest,
)
from perimeter_bundle.format.strict_json import MAX_DEPTH, dump_object, parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.platform import LINUX_AMD64, Platform

D = Digest.of_bytes(b"x")
COMPONENT = BundleComponent("minio", "5.4.0", "AGPL-3.0-only", "https://min.io", "platform")
ITEM = BundleItem(
    kind=ItemKind.IMAGE,
    name="quay.io/minio/minio:X",
    digest=D,
    payload=D,
    size_bytes=3,
    platforms=("linux/amd64",),
    source="quay.io/minio/minio:X",
    licence="AGPL-3.0-only",
    component="minio",
    why=("StatefulSet/minio",),
    version="X",
)
WHEEL = dataclasses.replace(
    ITEM, kind=ItemKind.WHEEL, name="content/wheelhouse/x.whl", component="", platforms=()
)
MANIFEST = BundleManifest("2026.11", 1, "0.1.0", (COMPONENT,), (WHEEL, ITEM), Room(1, 2, 3))


def refused(parse: Callable[[bytes], object], data: bytes, code: str) -> str:
    with pytest.raises(IntegrityError) as caught:
        parse(data)
    assert caught.value.code == code
    return str(caught.value)


def as_object(data: bytes) -> object:
    return parse_object(data, "it", max_bytes=10_000)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "key 'a' stands there twice"),
        (b'{"a":{"b":1,"b":2}}', "key 'b' stands there twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":"\\ud800"}', "surrogates not allowed"),
        (b'{"\\ud800":1}', "surrogates not allowed"),
        (b'{"a":' + b"9" * 5000 + b"}", "not strict JSON"),
        (b'{"a":1} {"a":2}', "Extra data"),
        (b'{"a":1,}', "not strict JSON"),
        (b"\xef\xbb\xbf{}", "not strict JSON"),
        (b'{"a":"\xff"}', "not strict JSON"),
        (b'{"a":"\n"}', "not strict JSON"),
        (b"", "not strict JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "larger than any honest one"),
        (b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}", "nested too deep"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH + b"}", "nested deeper"),
    ],
)
def test_refuses_json_that_two_readers_could_read_differently(data: bytes, reason: str) -> None:
    assert reason in refused(as_object, data, "bad-json")


def test_reads_and_writes_plain_json() -> None:
    document = {"b": [1, 2.5, None, True], "a": {"x": "ü"}}
    assert as_object(dump_object(document)) == document
    assert dump_object({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'.encode()


def test_a_bundle_manifest_comes_back_as_it_was_written() -> None:
    assert BundleManifest.parse(MANIFEST.to_bytes()) == MANIFEST
    assert MANIFEST.items == (ITEM, WHEEL)


def test_items_are_found_by_name_and_kind() -> None:
    assert MANIFEST.find("quay.io/minio/minio:X") is MANIFEST.items_of(ItemKind.IMAGE)[0]
    assert str(ITEM.reference) == ITEM.name
    with pytest.raises(InputError, match="is not in this bundle") as caught:
        MANIFEST.find("quay.io/x/y:1")
    assert caught.value.code == "not-in-bundle"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"number": 1', '"number": -1', "number must be a number from 0 up"),
        ('"number": 1', '"number": "1"', "number must be a number from 0 up"),
        ('"number": 1', '"number": 1, "x": 1', "unknown key 'x'"),
        ('"release": "2026.11"', '"release": "a\\nb"', "characters that do not belong"),
        ('"release": "2026.11"', '"release": " a"', "characters that do not belong"),
        ('"release": "2026.11"', '"release": ""', "release must be a string with text"),
        ('"items": [', '"itemz": [', "items is missing"),
        ('"items": [', '"items": 3, "itemz": [', "must be an array of tables"),
        ('"components": [', '"components": [3, ', "must be an array of tables"),
        ('"phase": "platform"', '"phase": "platform", "x": 1', "unknown key 'x'"),
        ('"room": {', '"room": 3, "rooms": {', "room must be a table"),
        ('"room": {', '"room": {"x": 1,', "room: unknown key 'x'"),
        ('"kind": "image"', '"kind": "script"', "'script' is not a valid"),
        ('"kind": "image"', '"kind": "image", "run": 1', "unknown key 'run'"),
        ('"name": "quay.io/minio/minio:X"', '"name": "minio"', "not a complete reference"),
        ('"name": "quay.io/minio/minio:X"', '"name": "a b"', "not an image reference"),
        ('"name": "content/wheelhouse/x.whl"', '"name": "x\\u0007"', "do not belong there"),
        ('"component": "minio"', '"component": "ghost"', "which is not a component"),
        (f'"digest": "{D}"', '"digest": ""', "digest must be a string with text"),
        (f'"payload": "{D}"', '"payload": "sha256:0"', "not a digest"),
        ('"linux/amd64"', '"amd64"', "not a platform"),
        ('"why": [', '"why": [3, ', "why must be a list of strings"),
        ('"source": "quay.io/minio/minio:X"', '"source": 3', "source must be a string"),
    ],
)
def test_refuses_a_bundle_manifest_with(old: str, new: str, problem: str) -> None:
    text = MANIFEST.to_bytes().decode()
    assert old in text
    message = refused(BundleManifest.parse, text.replace(old, new, 1).encode(), "bad-manifest")
    assert problem in message


def test_refuses_names_that_stand_there_twice() -> None:
    twice = dataclasses.replace(
        MANIFEST, items=(ITEM, ITEM, WHEEL), components=(COMPONENT, COMPONENT)
    )
    message = refused(BundleManifest.parse, twice.to_bytes(), "bad-manifest")
    assert "item quay.io/minio/minio:X stands there twice" in message
    assert "component minio stands there twice" in message


def test_a_format_from_the_future_is_named_as_such() -> None:
    data = MANIFEST.to_bytes().replace(b"perimeter-bundle/1", b"perimeter-bundle/2")
    message = refused(BundleManifest.parse, data, "unknown-format")
    assert "perimeter-bundle/2" in message
    assert "bootstrap.sh" in message


CONFIG = Descriptor(EMPTY_CONFIG_TYPE, D, 2)
LAYER = Descriptor("application/octet-stream", Digest.of_bytes(b"y"), 1, None, {"title": "a"})
IMAGE = ImageManifest(CONFIG, (LAYER,), annotations={"a": "b"}, artifact_type="application/x")
AMD64 = Descriptor(OCI_MANIFEST, D, 5, LINUX_AMD64, {REF_NAME_ANNOTATION: "a/b:1"}, "app/x")
ARM64 = Descriptor(DOCKER_MANIFEST, D, 5, Platform("linux", "arm64", "v8"))
INDEX = OciIndex((ARM64, AMD64), DOCKER_LIST, {"k": "v"}, "application/y")


def test_manifests_and_indexes_come_back_as_they_were_written() -> None:
    assert ImageManifest.parse(IMAGE.to_bytes()) == IMAGE
    assert OciIndex.parse(INDEX.to_bytes()) == INDEX
    assert closure(IMAGE.to_bytes()) == (CONFIG, LAYER)
    assert closure(INDEX.to_bytes()) == (ARM64, AMD64)


def test_entries_are_found_by_name_and_platform() -> None:
    assert INDEX.find("a/b:1") == AMD64
    assert INDEX.find("a/b:2") is None
    assert INDEX.for_platform(LINUX_AMD64) == AMD64
    assert INDEX.for_platform(Platform("linux", "arm64")) == ARM64
    assert INDEX.for_platform(Platform("linux", "s390x")) is None
    assert OciIndex((CONFIG,)).for_platform(LINUX_AMD64) is None
    assert (AMD64.is_manifest, AMD64.is_index) == (True, False)
    assert Descriptor(OCI_INDEX, D, 1).is_index
    assert (AMD64.reference, ARM64.reference) == ("a/b:1", "")


def test_documents_without_a_media_type_are_told_apart_by_their_fields() -> None:
    index = json.loads(OciIndex((AMD64,)).to_bytes())
    del index["mediaType"]
    index["subject"] = None
    parsed = parse_manifest(json.dumps(index).encode())
    assert isinstance(parsed, OciIndex)
    assert parsed.media_type == OCI_INDEX


def test_fields_that_are_null_are_fields_that_are_absent() -> None:
    document = json.loads(OciIndex((AMD64,)).to_bytes())
    document["manifests"][0].update(annotations=None, platform=None, artifactType=None)
    document["annotations"] = None
    (entry,) = OciIndex.parse(json.dumps(document).encode()).manifests
    assert entry == Descriptor(OCI_MANIFEST, D, 5)


def test_an_empty_platform_is_none() -> None:
    document = json.loads(OciIndex((AMD64,)).to_bytes())
    document["manifests"][0]["platform"] = {"os": "", "architecture": ""}
    assert OciIndex.parse(json.dumps(document).encode()).manifests[0].platform is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schemaVersion": 1}, "schemaVersion is 1, not 2"),
        ({"mediaType": OCI_INDEX}, f"mediaType '{OCI_INDEX}' is not among"),
        ({"mediaType": 3}, "mediaType 3 is not among"),
        ({"manifests": []}, "both an index and a manifest"),
        ({"config": 3}, "config must be a table"),
        ({"layers": [3]}, "must be an array of tables"),
        ({"layers": [{"mediaType": "x", "digest": str(D), "size": -1}]}, "size must be a number"),
        ({"layers": [{"mediaType": "x", "digest": "x", "size": 1}]}, "not a digest"),
        ({"annotations": {"a": 1}}, "annotations must be strings"),
        ({"annotations": []}, "annotations must be a table"),
        ({"artifactType": 3}, "artifactType must be a string"),
    ],
)
def test_refuses_a_manifest_with(change: dict[str, object], problem: str) -> None:
    data = json.dumps({**json.loads(IMAGE.to_bytes()), **change}).encode()
    assert problem in refused(parse_manifest, data, "bad-oci")


@pytest.mark.parametrize(
    ("platform", "problem"),
    [
        ({"os": "Linux!", "architecture": "amd64"}, "not a platform"),
        ({"os": "linux"}, "not a platform"),
        ({"os": 3, "architecture": "amd64"}, "os must be a string"),
        ([], "platform must be a table"),
    ],
)
def test_refuses_an_index_with_a_platform_that_is_none(platform: object, problem: str) -> None:
    document = json.loads(OciIndex((AMD64,)).to_bytes())
    document["manifests"][0]["platform"] = platform
    assert problem in refused(parse_manifest, json.dumps(document).encode(), "bad-oci")


def test_refuses_what_is_neither_an_index_nor_a_manifest() -> None:
    message = refused(parse_manifest, b'{"schemaVersion":2}', "bad-oci")
    assert "neither an index nor a manifest" in message


def test_refuses_a_manifest_without_layers() -> None:
    document = json.loads(IMAGE.to_bytes())
    del document["layers"]
    assert "layers is missing" in refused(parse_manifest, json.dumps(document).encode(), "bad-oci")


def test_refuses_one_kind_where_the_other_is_asked_for() -> None:
    assert "found an index" in refused(ImageManifest.parse, INDEX.to_bytes(), "bad-oci")
    assert "found an image manifest" in refused(OciIndex.parse, IMAGE.to_bytes(), "bad-oci")


def test_refuses_a_manifest_larger_than_a_registry_takes() -> None:
    data = b" " * (MAX_MANIFEST_BYTES + 1)
    assert "larger than any honest one" in refused(parse_manifest, data, "bad-json")
