"""Small images made in memory: layers, configurations, manifests, indexes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.format.oci import OCI_INDEX, OCI_MANIFEST
from perimeter_bundle.model.digest import Digest

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class TestImage:
    """``manifests`` and ``blobs`` by digest; ``top`` is what a tag names."""

    __test__ = False

    top: bytes
    media_type: str
    manifests: Mapping[Digest, bytes]
    blobs: Mapping[Digest, bytes]

    @property
    def digest(self) -> Digest:
        """What the tag resolves to."""
        return Digest.of_bytes(self.top)


def json_bytes(document: object) -> bytes:
    """JSON as another tool might write it: not perimeter's own form."""
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor(data: bytes, media_type: str, **more: object) -> dict[str, object]:
    """The descriptor of ``data`` as JSON."""
    return {
        "mediaType": media_type,
        "digest": str(Digest.of_bytes(data)),
        "size": len(data),
        **more,
    }


def single_image(
    platform: str = "linux/amd64", layers: Sequence[bytes] = (b"layer one", b"layer two")
) -> TestImage:
    """An image without an index."""
    os, architecture, *variant = platform.split("/")
    diff_ids = [str(Digest.of_bytes(layer)) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    table = {"os": os, "architecture": architecture, "rootfs": rootfs}
    if variant:
        table["variant"] = variant[0]
    config = json_bytes(table)
    manifest = json_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, CONFIG_TYPE),
            "layers": [descriptor(layer, LAYER_TYPE) for layer in layers],
        }
    )
    blobs = {Digest.of_bytes(data): data for data in (config, *layers)}
    return TestImage(manifest, OCI_MANIFEST, {Digest.of_bytes(manifest): manifest}, blobs)


def index_image(
    platforms: Sequence[str] = ("linux/amd64", "linux/arm64"), *, attestation: bool = True
) -> TestImage:
    """An image for several platforms that share one layer; buildx-like with an attestation."""
    entries: list[dict[str, object]] = []
    manifests: dict[Digest, bytes] = {}
    blobs: dict[Digest, bytes] = {}
    for platform in platforms:
        image = single_image(platform, (b"shared layer", f"layer for {platform}".encode()))
        os, architecture, *variant = platform.split("/")
        described = {"os": os, "architecture": architecture}
        if variant:
            described["variant"] = variant[0]
        entries.append(descriptor(image.top, OCI_MANIFEST, platform=described))
        manifests.update(image.manifests)
        blobs.update(image.blobs)
    if attestation:
        unknown = {"os": "unknown", "architecture": "unknown"}
        entries.append(descriptor(b"attestation", OCI_MANIFEST, platform=unknown))
    index = json_bytes({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    return TestImage(index, OCI_INDEX, {**manifests, Digest.of_bytes(index): index}, blobs)
