"""Images as they lie on a builder: OCI layouts, their tars, and what docker save writes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from perimeter_bundle.format.oci import OCI_MANIFEST
from perimeter_bundle.model.digest import Digest
from tests.support.images import TestImage, descriptor, json_bytes

TAG_ANNOTATION = "org.opencontainers.image.ref.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def layer_tar(text: str) -> bytes:
    """An uncompressed layer with one file."""
    return tar_of({"hello.txt": text.encode()})


def tar_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar as Go writes one: no clock, no owner."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return raw.getvalue()


def docker_config(layers: Sequence[bytes], architecture: str = "amd64") -> bytes:
    """An image configuration as dockerd keeps it."""
    diffs = [str(Digest.of_bytes(layer)) for layer in layers]
    return json_bytes(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/train"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
    )


def saved_files(
    layers: Sequence[bytes], names: Sequence[str], architecture: str = "amd64"
) -> dict[str, bytes]:
    """The files of docker save before version 25; the second of two same layers is a link there."""
    config = docker_config(layers, architecture)
    config_name = f"{Digest.of_bytes(config).hex}.json"
    files = {f"layer{number}/layer.tar": layer for number, layer in enumerate(layers)}
    entry = {"Config": config_name, "RepoTags": list(names), "Layers": list(files)}
    return {**files, config_name: config, "manifest.json": json_bytes([entry])}


def layout_files(image: TestImage, names: Sequence[str] = ("1.4",)) -> dict[str, bytes]:
    """The files of an OCI layout that has one image under these names."""
    entries = [
        descriptor(image.top, image.media_type, annotations={TAG_ANNOTATION: name})
        for name in names
    ] or [descriptor(image.top, image.media_type)]
    files = {
        f"blobs/sha256/{digest.hex}": data
        for digest, data in {**image.manifests, **image.blobs}.items()
    }
    return {
        **files,
        "oci-layout": LAYOUT,
        "index.json": json_bytes({"schemaVersion": 2, "manifests": entries}),
    }


def docker_layout_files(layers: Sequence[bytes], names: Sequence[str]) -> dict[str, bytes]:
    """The files of docker save since version 25: a layout and manifest.json around the same."""
    config = docker_config(layers)
    manifest = json_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [
                descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers
            ],
        }
    )
    blobs = (config, manifest, *layers)
    paths = {f"blobs/sha256/{Digest.of_bytes(data).hex}": data for data in blobs}
    entries = []
    for name in names:
        tag = {TAG_ANNOTATION: name.rpartition(":")[2], "io.containerd.image.name": name}
        entries.append(descriptor(manifest, OCI_MANIFEST, annotations=tag))
    saved = {
        "Config": f"blobs/sha256/{Digest.of_bytes(config).hex}",
        "RepoTags": list(names),
        "Layers": [f"blobs/sha256/{Digest.of_bytes(layer).hex}" for layer in layers],
    }
    return {
        **paths,
        "oci-layout": LAYOUT,
        "index.json": json_bytes({"schemaVersion": 2, "manifests": entries}),
        "manifest.json": json.dumps([saved]).encode(),
    }


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files below ``folder``."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
