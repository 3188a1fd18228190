"""Layouts other tools can read, the same bytes each time."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor, ImageManifest, OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.registry.layout import (
    FILE_ARTIFACT_TYPE,
    HELM_CHART_TYPE,
    HELM_CONFIG_TYPE,
    LayoutWriter,
    Payload,
)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    writer = LayoutWriter(tmp_path / "layout")
    writer.prepare()
    return writer


def payload(layout: LayoutWriter, data: bytes, title: str) -> Payload:
    return Payload(layout.put_blob(data), len(data), title)


def files(layout: LayoutWriter) -> set[str]:
    return {str(path.relative_to(layout.root)) for path in layout.root.rglob("*") if path.is_file()}


def test_an_empty_layout_says_which_version_it_has(layout: LayoutWriter) -> None:
    layout.write_index({})
    assert json.loads((layout.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((layout.root / "index.json").read_bytes())["manifests"] == []


def test_the_index_is_sorted_and_does_not_depend_on_the_order_of_work(tmp_path: Path) -> None:
    entries = {
        f"quay.io/x/{name}:1": Descriptor(OCI_MANIFEST, Digest.of_bytes(name.encode()), 1)
        for name in ("c", "a", "b")
    }
    written = []
    for number, order in enumerate([sorted(entries), sorted(entries, reverse=True)]):
        writer = LayoutWriter(tmp_path / str(number))
        writer.prepare()
        writer.write_index({name: entries[name] for name in order})
        written.append((writer.root / "index.json").read_bytes())
    assert written[0] == written[1]
    names = [entry.reference for entry in OciIndex.parse(written[0]).manifests]
    assert names == sorted(entries)


def test_index_entries_keep_platform_and_annotations(layout: LayoutWriter) -> None:
    entry = Descriptor(
        OCI_MANIFEST, Digest.of_bytes(b"x"), 1, LINUX_AMD64, annotations={"org.example": "kept"}
    )
    layout.write_index({"quay.io/x/y:1": entry})
    found = OciIndex.parse((layout.root / "index.json").read_bytes()).find("quay.io/x/y:1")
    assert found is not None
    assert (found.platform, found.annotations["org.example"]) == (LINUX_AMD64, "kept")


def test_a_blob_is_stored_once_and_not_touched_again(layout: LayoutWriter) -> None:
    digest = layout.put_blob(b"data")
    before = layout.blob_path(digest).stat()
    assert layout.put_blob(b"data") == digest
    assert layout.blob_path(digest).stat().st_mtime_ns == before.st_mtime_ns
    assert before.st_mode & 0o777 == 0o644
    assert layout.has(digest)
    assert not layout.has(Digest.of_bytes(b"other"))


def test_a_damaged_blob_is_mended(layout: LayoutWriter) -> None:
    digest = layout.put_blob(b"data")
    layout.blob_path(digest).write_bytes(b"dama")
    layout.put_blob(b"data")
    assert layout.blob_path(digest).read_bytes() == b"data"


def test_bytes_get_no_name_that_is_not_theirs(layout: LayoutWriter) -> None:
    with pytest.raises(InputError, match="these bytes are not sha256:") as caught:
        layout.put_named_blob(b"data", Digest.of_bytes(b"other"))
    assert caught.value.code == "digest-mismatch"


def test_a_chart_is_stored_as_helm_push_stores_it(layout: LayoutWriter) -> None:
    described = layout.make_chart(payload(layout, b"tgz", "minio-5.4.0.tgz"), b'{"name":"minio"}')
    raw = layout.blob_path(described.digest).read_bytes()
    assert (described.size_bytes, described.media_type) == (len(raw), OCI_MANIFEST)
    manifest = ImageManifest.parse(raw)
    assert manifest.config.media_type == HELM_CONFIG_TYPE
    assert layout.blob_path(manifest.config.digest).read_bytes() == b'{"name":"minio"}'
    (layer,) = manifest.layers
    assert (layer.media_type, layer.size_bytes) == (HELM_CHART_TYPE, 3)
    assert layer.annotations == {"org.opencontainers.image.title": "minio-5.4.0.tgz"}


def test_a_file_is_an_artifact_with_the_empty_configuration(layout: LayoutWriter) -> None:
    first = layout.make_file(payload(layout, b"ELF", "kubeadm"))
    manifest = ImageManifest.parse(layout.blob_path(first.digest).read_bytes())
    assert manifest.artifact_type == first.artifact_type == FILE_ARTIFACT_TYPE
    assert manifest.config.media_type == "application/vnd.oci.empty.v1+json"
    assert layout.blob_path(manifest.config.digest).read_bytes() == b"{}"
    assert layout.make_file(payload(layout, b"ELF", "kubeadm")) == first


def test_half_done_and_foreign_blobs_can_be_removed(layout: LayoutWriter) -> None:
    kept, other = layout.put_blob(b"kept"), layout.put_blob(b"other")
    part = layout.blob_path(kept).with_name(f"{'0' * 64}.part")
    part.write_bytes(b"half")
    assert layout.remove_parts() == 1
    assert layout.remove_others([kept]) == 1
    assert not layout.has(other)
    assert files(layout) == {"oci-layout", f"blobs/sha256/{kept.hex}"}


def test_a_full_disc_leaves_nothing_half_written(layout: LayoutWriter) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(HostError, match="cannot write") as caught:
            layout.put_blob(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "no-room"
    assert files(layout) == {"oci-layout"}
