"""Images in OCI layouts and docker save archives: what they are, and every way they can lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.support.images import TestImage, descriptor, index_image, json_bytes, single_image
from tests.support.local_images import (
    TAG_ANNOTATION,
    docker_config,
    docker_layout_files,
    layer_tar,
    layout_files,
    saved_files,
    tar_of,
    write_folder,
)

from perimeter_bundle.catalog.workload_values import WorkloadImage
from perimeter_bundle.collect.workload_images import Opener
from perimeter_bundle.format.oci import Descriptor, ImageManifest
from perimeter_bundle.imagesource.local import LocalImage
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.resolve import Resolved
from perimeter_bundle.registry.stop import Stop

REFERENCE = ImageReference.parse("registry.example.org/team/train:1.4")
LAYERS = (layer_tar("one"), layer_tar("two"))


def local(path: Path, origin: ImageOrigin, name: str = "") -> LocalImage:
    image = WorkloadImage(REFERENCE, "why", "MIT", origin, path, name)
    stop = Stop()
    opener = Opener(stop, ignore_events, path.parent, {})
    return LocalImage(image.shown, lambda: opener.open(image), stop, ignore_events)


def layout(folder: Path, files: Mapping[str, bytes], name: str = "") -> LocalImage:
    return local(write_folder(folder / "layout", files), ImageOrigin.OCI_LAYOUT, name)


def archive(folder: Path, files: Mapping[str, bytes], name: str = "") -> LocalImage:
    path = folder / "train.tar"
    path.write_bytes(tar_of(files))
    return local(path, ImageOrigin.DOCKER_ARCHIVE, name)


def resolved(image: LocalImage, platforms: Sequence[Platform] = (LINUX_AMD64,)) -> Resolved:
    return image.resolve(REFERENCE, platforms)


def refused(image: LocalImage, code: str) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        found = resolved(image)
        for blob in found.descriptors:
            image.fetch_small_blob(REFERENCE, blob, 1_000_000)
    assert caught.value.code == code
    return caught.value


# --- what they are ---------------------------------------------------------------------------


@pytest.mark.parametrize("made", [single_image(), index_image()], ids=["manifest", "index"])
def test_an_image_of_a_layout_keeps_its_digest(tmp_path: Path, made: TestImage) -> None:
    found = resolved(layout(tmp_path, layout_files(made)))
    assert (found.digest, found.raw) == (made.digest, made.top)
    assert len(found.manifests) == 1


def test_a_tar_of_a_layout_is_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "layout.tar"
    path.write_bytes(tar_of(layout_files(index_image())))
    assert resolved(local(path, ImageOrigin.OCI_LAYOUT)).digest == index_image().digest


def test_of_an_index_only_the_platform_asked_for_must_be_there(tmp_path: Path) -> None:
    files = layout_files(index_image())
    arm = single_image("linux/arm64", (b"shared layer", b"layer for linux/arm64"))
    del files[f"blobs/sha256/{arm.digest.hex}"]
    image = layout(tmp_path, files)
    assert len(resolved(image).descriptors) == 3
    with pytest.raises(IntegrityError) as caught:
        resolved(image, (Platform("linux", "arm64"),))
    assert caught.value.code == "missing-blob"


def test_a_platform_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolved(layout(tmp_path, layout_files(index_image())), (Platform("linux", "s390x"),))
    assert caught.value.code == "platform-missing"
    assert caught.value.context == {"there is": "linux/amd64, linux/arm64"}
    (tmp_path / "other").mkdir()
    arm = archive(tmp_path / "other", saved_files(LAYERS, ["train:1.4"], "arm64"))
    assert refused(arm, "platform-missing").context == {"there is": "linux/arm64"}


@pytest.mark.parametrize("name", ["1.4", "registry.example.org/team/train:1.4", ""])
def test_the_image_of_a_name_is_taken_among_several(tmp_path: Path, name: str) -> None:
    wanted, other = single_image(layers=(b"wanted",)), single_image(layers=(b"other",))
    in_index = name or "1.4"
    files = layout_files(wanted) | layout_files(other)
    entries = [
        descriptor(image.top, image.media_type, annotations={TAG_ANNOTATION: tag})
        for image, tag in ((other, "1.3"), (wanted, in_index))
    ]
    files["index.json"] = json_bytes({"schemaVersion": 2, "manifests": entries})
    assert resolved(layout(tmp_path, files, name)).digest == wanted.digest


def test_the_only_image_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    assert resolved(layout(tmp_path, layout_files(single_image(), ["mine"])))
    assert resolved(archive(tmp_path, saved_files(LAYERS, [])))


def test_a_docker_archive_becomes_an_image_of_its_own_layers(tmp_path: Path) -> None:
    image = archive(tmp_path, saved_files(LAYERS, ["registry.example.org/team/train:1.4"]))
    found = resolved(image)
    assert [blob.digest for blob in found.descriptors] == [
        Digest.of_bytes(docker_config(LAYERS)),
        *(Digest.of_bytes(layer) for layer in LAYERS),
    ]
    target = tmp_path / "blob"
    size = image.fetch_blob(REFERENCE, found.descriptors[1], target)
    assert (size, target.read_bytes()) == (len(LAYERS[0]), LAYERS[0])
    # a digest that changes here changes for every site: the manifest is a contract
    assert str(found.digest) == EXPECTED_DIGEST


EXPECTED_DIGEST = "sha256:7a994eeeb26f7012025daab1755cc835dfbe1ce4493353c4be2f4c9e16cc2967"


def test_old_and_new_docker_save_have_the_same_layers(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = resolved(archive(tmp_path / "old", saved_files(LAYERS, ["docker.io/team/train:1.4"])))
    new = resolved(archive(tmp_path, docker_layout_files(LAYERS, ["docker.io/team/train:1.4"])))
    assert old.descriptors == new.descriptors
    assert new.raw != old.raw  # the engine's own manifest, by whose digest people know it


def test_a_layer_under_two_names_is_one_blob(tmp_path: Path) -> None:
    layers = (LAYERS[0], LAYERS[0])
    files = saved_files(layers, ["train:1.4"])
    del files["layer1/layer.tar"]
    path = tmp_path / "train.tar"
    path.write_bytes(tar_of(files, {"layer1/layer.tar": "../layer0/layer.tar"}))
    assert len(resolved(local(path, ImageOrigin.DOCKER_ARCHIVE)).descriptors) == 2


# --- what is refused -------------------------------------------------------------------------


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    image = archive(tmp_path, saved_files(LAYERS, ["team/train:1.3"]), "team/train:1.4")
    error = refused(image, "no-such-image")
    assert error.context == {"there is": "docker.io/team/train:1.3"}
    assert "docker-archive:./train.tar:team/train:1.4" in str(error.hint)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = single_image(layers=(b"1",)), single_image(layers=(b"2",))
    files = layout_files(one) | layout_files(two)
    entries = [
        descriptor(image.top, image.media_type, annotations={TAG_ANNOTATION: "1.4"})
        for image in (one, two)
    ]
    files["index.json"] = json_bytes({"schemaVersion": 2, "manifests": entries})
    refused(layout(tmp_path, files, "1.4"), "two-images")


def test_two_saved_images_of_one_name_are_refused(tmp_path: Path) -> None:
    files = saved_files(LAYERS, ["team/train:1.4"])
    files["manifest.json"] = json_bytes(json.loads(files["manifest.json"]) * 2)
    refused(archive(tmp_path, files, "team/train:1.4"), "two-images")


@pytest.mark.parametrize("lost", ["oci-layout", "index.json"])
def test_a_folder_that_is_no_layout_is_a_clear_error(tmp_path: Path, lost: str) -> None:
    files = layout_files(single_image())
    del files[lost]
    assert refused(layout(tmp_path, files), "not-a-layout").context == {"missing": lost}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", b"{}"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        ("index.json", b"[]"),
        ("index.json", b'{"schemaVersion":2,"manifests":[{}]}'),
        ("index.json", b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}'),
    ],
)
def test_a_layout_with_other_files_than_the_specification_is_refused(
    tmp_path: Path, name: str, data: bytes
) -> None:
    refused(layout(tmp_path, {**layout_files(single_image()), name: data}), "bad-layout")


def test_a_blob_with_other_bytes_is_refused(tmp_path: Path) -> None:
    made = single_image()
    files = layout_files(made)
    blob = Digest.of_bytes(b"layer one")
    files[f"blobs/sha256/{blob.hex}"] = b"layer 1!!"
    error = refused(layout(tmp_path, files), "digest-mismatch")
    assert error.context["expected"] == str(blob)


def test_a_blob_of_another_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    files = layout_files(single_image())
    files[f"blobs/sha256/{Digest.of_bytes(b'layer one').hex}"] = b"layer one and more"
    refused(layout(tmp_path, files), "size-mismatch")


def test_a_manifest_with_other_bytes_is_refused(tmp_path: Path) -> None:
    made = single_image()
    files = layout_files(made)
    files[f"blobs/sha256/{made.digest.hex}"] = made.top + b" "
    refused(layout(tmp_path, files), "digest-mismatch")


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    raw = b'{"schemaVersion":2}'
    rubbish = TestImage(raw, "application/vnd.oci.image.manifest.v1+json", {}, {})
    files = layout_files(rubbish) | {f"blobs/sha256/{rubbish.digest.hex}": raw}
    refused(layout(tmp_path, files), "bad-manifest")


def test_a_size_that_no_honest_blob_has_is_refused(tmp_path: Path) -> None:
    made = single_image()
    manifest = json.loads(made.top)
    manifest["layers"][0]["size"] = 2**52
    raw = json_bytes(manifest)
    bomb = TestImage(raw, made.media_type, {Digest.of_bytes(raw): raw}, made.blobs)
    refused(layout(tmp_path, layout_files(bomb)), "size-mismatch")


def test_a_copy_that_meets_other_bytes_leaves_nothing_behind(tmp_path: Path) -> None:
    files = layout_files(single_image())
    blob = Digest.of_bytes(b"layer one")
    files[f"blobs/sha256/{blob.hex}"] = b"layer 1!!"
    image = layout(tmp_path, files)
    target = tmp_path / "out" / blob.hex
    with pytest.raises(IntegrityError) as caught:
        image.fetch_blob(REFERENCE, Descriptor("", blob, 9), target)
    assert caught.value.code == "digest-mismatch"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_copy_does_not_go_on_from_a_half_file_of_somebody_else(tmp_path: Path) -> None:
    image = layout(tmp_path, layout_files(single_image()))
    blob = Digest.of_bytes(b"layer one")
    target = tmp_path / "out" / blob.hex
    target.parent.mkdir()
    (tmp_path / "out" / f"{blob.hex}.part").write_bytes(b"half")
    image.fetch_blob(REFERENCE, Descriptor("", blob, 9), target)
    assert target.read_bytes() == b"layer one"
    assert image.fetch_blob(REFERENCE, Descriptor("", blob, 9), target) == 9


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"manifest.json": b"{}"}, "bad-archive"),
        ({"manifest.json": b"[{}]"}, "bad-archive"),
        ({"manifest.json": b"[]} , {"}, "bad-json"),
        ({"manifest.json": b'[], "more": []'}, "bad-archive"),
        ({"layer0/layer.tar": layer_tar("evil")}, "digest-mismatch"),
        ({"layer0/layer.tar": b""}, "digest-mismatch"),
    ],
)
def test_an_archive_that_does_not_agree_with_itself_is_refused(
    tmp_path: Path, change: Mapping[str, bytes], code: str
) -> None:
    refused(archive(tmp_path, {**saved_files(LAYERS, ["train:1.4"]), **change}), code)


@pytest.mark.parametrize("lost", ["layer1/layer.tar", "manifest.json"])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, lost: str) -> None:
    files = saved_files(LAYERS, ["train:1.4"])
    del files[lost]
    refused(archive(tmp_path, files), "missing-blob" if "layer" in lost else "not-an-archive")


def test_a_configuration_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    files = saved_files(LAYERS, ["train:1.4"])
    name = next(name for name in files if len(name) > 60)
    files[name] = docker_config(LAYERS, "arm64")
    assert "configuration" in refused(archive(tmp_path, files), "digest-mismatch").message


@pytest.mark.parametrize("layers", [1, 3])
def test_other_layers_than_the_configuration_names_are_refused(tmp_path: Path, layers: int) -> None:
    files = saved_files(LAYERS, ["train:1.4"])
    entry = json.loads(files["manifest.json"])
    entry[0]["Layers"] = ["layer0/layer.tar"] * layers
    files["manifest.json"] = json_bytes(entry)
    assert f"{layers} layers" in refused(archive(tmp_path, files), "bad-archive").message


@pytest.mark.parametrize("rootfs", [None, {}, {"diff_ids": [1]}, {"diff_ids": ["sha256:short"]}])
def test_a_configuration_without_layers_is_refused(tmp_path: Path, rootfs: object) -> None:
    config = json_bytes({"os": "linux", "architecture": "amd64", "rootfs": rootfs})
    entry = {"Config": "c.json", "RepoTags": None, "Layers": ["l"]}
    files = {"c.json": config, "manifest.json": json_bytes([entry]), "l": LAYERS[0]}
    refused(archive(tmp_path, files), "bad-archive")


def test_what_was_locked_and_is_no_more_there_is_called_moved(tmp_path: Path) -> None:
    image = archive(tmp_path, saved_files(LAYERS, ["train:1.4"]))
    locked = Digest.of_bytes(b"another")
    with pytest.raises(IntegrityError) as caught:
        image.fetch_manifest(REFERENCE, locked)
    assert caught.value.code == "moved"
    assert caught.value.context["locked"] == str(locked)
    assert "--accept-moved" in str(caught.value.hint)


def test_a_path_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    error = refused(local(tmp_path / "gone.tar", ImageOrigin.DOCKER_ARCHIVE), "no-image-source")
    assert "registry.example.org/team/train:1.4" in error.message
    refused(local(tmp_path, ImageOrigin.DOCKER_ARCHIVE), "no-image-source")


def test_a_made_manifest_is_one_that_perimeter_reads(tmp_path: Path) -> None:
    found = resolved(archive(tmp_path, saved_files(LAYERS, ["train:1.4"])))
    parsed = ImageManifest.parse(found.raw)
    assert [one.media_type for one in parsed.layers] == [
        "application/vnd.oci.image.layer.v1.tar"
    ] * 2
