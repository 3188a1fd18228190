"""Charts, files and sources as OCI artifacts: one layer, the bytes as they are locked.

A chart is written as Helm itself writes it, so `helm pull oci://…` reads it from a site's registry.
https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.charts.fetch import CHART_CONFIG_TYPE, CHART_LAYER_TYPE
from perimeter_bundle.format.oci import (
    EMPTY_CONFIG,
    EMPTY_CONFIG_TYPE,
    OCI_MANIFEST,
    Descriptor,
    ImageManifest,
)
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import LockedChart, LockedFile, LockedSource

FILE_TYPE = "application/vnd.perimeter.file.v1"
MANIFEST_FILE_TYPE = "application/vnd.perimeter.manifest.v1"
SOURCE_TYPE = "application/vnd.perimeter.source.v1"
_LAYER_TYPE = "application/octet-stream"
_TAR_TYPE = "application/x-tar"
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class Artifact:
    """The two small blobs that make an artifact of a payload."""

    manifest: bytes
    config: bytes
    payload: Descriptor

    @property
    def descriptor(self) -> Descriptor:
        """What names the artifact in an index."""
        return Descriptor(OCI_MANIFEST, Digest.of_bytes(self.manifest), len(self.manifest))

    @property
    def size_bytes(self) -> int:
        """All its blobs."""
        return len(self.manifest) + len(self.config) + self.payload.size_bytes


def chart_artifact(chart: LockedChart, payload: Digest, metadata: Mapping[str, object]) -> Artifact:
    """The artifact of a chart archive; ``metadata`` is what its Chart.yaml says."""
    config = dump_object(metadata)
    layer = Descriptor(CHART_LAYER_TYPE, payload, chart.size_bytes)
    described = Descriptor(CHART_CONFIG_TYPE, Digest.of_bytes(config), len(config))
    return Artifact(ImageManifest(described, (layer,)).to_bytes(), config, layer)


def file_artifact(file: LockedFile, payload: Digest) -> Artifact:
    """The artifact of a downloaded file."""
    file_name = file.url.rpartition("/")[2]
    layer = Descriptor(_LAYER_TYPE, payload, file.size_bytes, annotations={_TITLE: file_name})
    config = Descriptor(EMPTY_CONFIG_TYPE, Digest.of_bytes(EMPTY_CONFIG), len(EMPTY_CONFIG))
    kind = FILE_TYPE if file.kind.value == "file" else MANIFEST_FILE_TYPE
    manifest = ImageManifest(config, (layer,), artifact_type=kind).to_bytes()
    return Artifact(manifest, EMPTY_CONFIG, layer)


def source_artifact(source: LockedSource, payload: Digest) -> Artifact:
    """The artifact of a source's archive."""
    title = {_TITLE: f"{source.name}-{source.version}.tar"}
    layer = Descriptor(_TAR_TYPE, payload, source.size_bytes, annotations=title)
    config = Descriptor(EMPTY_CONFIG_TYPE, Digest.of_bytes(EMPTY_CONFIG), len(EMPTY_CONFIG))
    manifest = ImageManifest(config, (layer,), artifact_type=SOURCE_TYPE).to_bytes()
    return Artifact(manifest, EMPTY_CONFIG, layer)
