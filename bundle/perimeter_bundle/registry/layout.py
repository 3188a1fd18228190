"""Writes an OCI image layout: blobs under their digests, and an index that names them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
Charts become what ``helm push`` makes of them, files OCI 1.1 artifacts, so every OCI tool can
carry them. Everything written here is deterministic: no clock, sorted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from perimeter_bundle.format.layout import BLOBS, INDEX, OCI_LAYOUT, REF_NAME_ANNOTATION, blob_path
from perimeter_bundle.format.oci import (
    EMPTY_CONFIG,
    EMPTY_CONFIG_TYPE,
    LAYOUT_VERSION,
    Descriptor,
    ImageManifest,
    OciIndex,
)
from perimeter_bundle.model.digest import Algorithm, Digest
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.registry.transfer import NO_ROOM, PART_SUFFIX, sync_folder

# https://helm.sh/docs/topics/registries/ and https://github.com/helm/community/blob/main/hips/hip-0006.md
HELM_CONFIG_TYPE: Final = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART_TYPE: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
FILE_ARTIFACT_TYPE: Final = "application/vnd.perimeter.file.v1"
FILE_LAYER_TYPE: Final = "application/octet-stream"
TITLE_ANNOTATION: Final = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class Payload:
    """A blob that an artifact wraps; it must lie in the layout already."""

    digest: Digest
    size_bytes: int
    title: str  # the file name under which a client unpacks it


@dataclass(frozen=True, slots=True)
class LayoutWriter:
    """A layout under ``root``; any number of threads may put different blobs."""

    root: Path

    def prepare(self) -> None:
        """Makes the folders and the file that says this is a layout."""
        (self.root / BLOBS / Algorithm.SHA256.value).mkdir(parents=True, exist_ok=True)
        self._write(self.root / OCI_LAYOUT, LAYOUT_VERSION)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob lies, or would lie."""
        return self.root / blob_path(digest)

    def has(self, digest: Digest) -> bool:
        """Whether there is a file under this name; its bytes are not looked at."""
        return self.blob_path(digest).is_file()

    def put_blob(self, data: bytes) -> Digest:
        """Stores bytes under their SHA-256; writes only what is not there with the same bytes."""
        digest = Digest.of_bytes(data)
        self._write(self.blob_path(digest), data)
        return digest

    def put_named_blob(self, data: bytes, expected: Digest) -> None:
        """Stores bytes under the digest they came with; raises InputError when they differ."""
        hasher = expected.new_hasher()
        hasher.update(data)
        if Digest.of_hasher(hasher) != expected:
            raise InputError("digest-mismatch", f"these bytes are not {expected}")
        self._write(self.blob_path(expected), data)

    def make_chart(self, payload: Payload, chart_metadata: bytes) -> Descriptor:
        """A chart as ``helm push`` stores it; ``chart_metadata`` is Chart.yaml as JSON."""
        config = Descriptor(
            HELM_CONFIG_TYPE, self.put_blob(chart_metadata), size_bytes=len(chart_metadata)
        )
        return self._make_artifact(payload, config, HELM_CHART_TYPE, artifact_type="")

    def make_file(
        self,
        payload: Payload,
        *,
        artifact_type: str = FILE_ARTIFACT_TYPE,
        layer_media_type: str = FILE_LAYER_TYPE,
    ) -> Descriptor:
        """A file as an OCI 1.1 artifact with the empty configuration."""
        config = Descriptor(
            EMPTY_CONFIG_TYPE, self.put_blob(EMPTY_CONFIG), size_bytes=len(EMPTY_CONFIG)
        )
        return self._make_artifact(payload, config, layer_media_type, artifact_type=artifact_type)

    def write_index(self, entries: Mapping[str, Descriptor]) -> None:
        """Writes index.json; ``entries`` maps each full reference to its manifest or index.

        Other annotations of the descriptors are kept, and so are their platforms.
        """
        named = [
            replace(
                descriptor,
                annotations={**descriptor.annotations, REF_NAME_ANNOTATION: reference},
            )
            for reference, descriptor in sorted(entries.items())
        ]
        self._write(self.root / INDEX, OciIndex(tuple(named)).to_bytes())

    def remove_parts(self) -> int:
        """Removes what half-done transfers left; gives back how many files that were."""
        parts = [path for path in self._blob_files() if path.name.endswith(PART_SUFFIX)]
        for path in parts:
            path.unlink(missing_ok=True)
        return len(parts)

    def remove_others(self, keep: Iterable[Digest]) -> int:
        """Removes every blob that is not in ``keep`` (an older build's); gives back how many."""
        wanted = {self.blob_path(digest) for digest in keep}
        others = [path for path in self._blob_files() if path not in wanted]
        for path in others:
            path.unlink(missing_ok=True)
        return len(others)

    def _blob_files(self) -> list[Path]:
        folders = [self.root / BLOBS / algorithm.value for algorithm in Algorithm]
        return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())

    def _make_artifact(
        self, payload: Payload, config: Descriptor, layer_media_type: str, *, artifact_type: str
    ) -> Descriptor:
        layer = Descriptor(
            layer_media_type,
            payload.digest,
            payload.size_bytes,
            annotations={TITLE_ANNOTATION: payload.title},
        )
        manifest = ImageManifest(config, (layer,), artifact_type=artifact_type)
        data = manifest.to_bytes()
        return Descriptor(
            manifest.media_type, self.put_blob(data), len(data), artifact_type=artifact_type
        )

    def _write(self, path: Path, data: bytes) -> None:
        """Writes whole or not at all; a file with the same bytes is left alone."""
        try:
            if path.is_file() and path.read_bytes() == data:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(
                dir=path.parent, prefix=f"{path.name}.", suffix=PART_SUFFIX
            )
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fchmod(stream.fileno(), 0o644)
                    os.fsync(stream.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            sync_folder(path.parent)
        except OSError as error:
            code = "no-room" if error.errno in NO_ROOM else "cannot-write"
            raise HostError(
                code,
                f"cannot write {path.name} ({len(data)} bytes) to {path.parent}",
                context={"found": error.strerror or type(error).__name__},
                hint="make room or mend the folder, and run the same command again",
            ) from error
