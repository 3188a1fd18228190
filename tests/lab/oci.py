"""Write an OCI image layout whose bytes depend on nothing but its content.

Layers are sorted, owned by root, dated 1970 and compressed with the clock left out, so that the
same programs give the same digests. A layer used by several images is written once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

Json = dict[str, Any]
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """The names one family of registries uses for the same four things."""

    index: str
    manifest: str
    config: str
    layer: str


OCI = MediaTypes(
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
# What registry.k8s.io really answers with for images pushed by older tools.
DOCKER = MediaTypes(
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a layer; `content` is bytes, a file to read, or a link's target."""

    kind: Literal["file", "folder", "link"]
    content: bytes | Path | str = b""
    mode: int = 0o755


Entries = Mapping[str, Entry]  # path without a leading slash → entry


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    size_bytes: int
    diff_id: str


@dataclass(slots=True)
class Layout:
    """An OCI layout being written to an empty folder; `finish` makes it whole."""

    folder: Path
    manifests: list[Json] = field(default_factory=list)

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs/sha256"

    def put(self, data: bytes) -> tuple[str, int]:
        """Store a blob; its digest and size."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(data).hexdigest()
        (self.blobs / name).write_bytes(data)
        return f"sha256:{name}", len(data)

    def put_json(self, value: Json) -> tuple[str, int]:
        return self.put(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    def put_layer(self, entries: Entries) -> Layer:
        """Pack the entries into a compressed layer, adding the folders they lie in."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        temporary = self.blobs / ".layer"
        with temporary.open("wb") as raw:
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
                hashed = _Hashing(cast(BinaryIO, packed))
                write_tar(hashed, entries)
            size = raw.tell()
        with temporary.open("rb") as stream:
            name = hashlib.file_digest(stream, "sha256").hexdigest()
        temporary.replace(self.blobs / name)
        return Layer(f"sha256:{name}", size, f"sha256:{hashed.sha256.hexdigest()}")

    def put_manifest(
        self, layers: Sequence[Layer], architecture: str, config: Json, types: MediaTypes
    ) -> Json:
        """Store an image of one platform; its descriptor."""
        digest, size = self.put_json(
            {
                "architecture": architecture,
                "os": "linux",
                "created": CREATED,
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                "history": [{"created": CREATED, "created_by": "perimeter lab"} for _ in layers],
            }
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": {"mediaType": types.config, "digest": digest, "size": size},
            "layers": [
                {"mediaType": types.layer, "digest": layer.digest, "size": layer.size_bytes}
                for layer in layers
            ],
        }
        digest, size = self.put_json(manifest)
        platform = {"os": "linux", "architecture": architecture}
        return {
            "mediaType": types.manifest,
            "digest": digest,
            "size": size,
            "platform": platform,
        }

    def put_attestation(self, subject: Json) -> Json:
        """What image builders add to an index: a document for no platform, not to be run."""
        algorithm, _, value = str(subject["digest"]).partition(":")
        document = {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "perimeter-lab", "digest": {algorithm: value}}],
            "predicate": {},
        }
        blob, blob_size = self.put_json(document)
        rootfs = {"type": "layers", "diff_ids": [blob]}
        unknown = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs}
        config, config_size = self.put_json(unknown)
        digest, size = self.put_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI.manifest,
                "config": {"mediaType": OCI.config, "digest": config, "size": config_size},
                "layers": [
                    {"mediaType": "application/vnd.in-toto+json", "digest": blob, "size": blob_size}
                ],
            }
        )
        return {
            "mediaType": OCI.manifest,
            "digest": digest,
            "size": size,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.digest": subject["digest"],
                "vnd.docker.reference.type": "attestation-manifest",
            },
        }

    def tag(self, reference: str, manifests: list[Json], types: MediaTypes) -> None:
        """Store an index over the manifests and give it a full reference."""
        index = {"schemaVersion": 2, "mediaType": types.index, "manifests": manifests}
        digest, size = self.put_json(index)
        descriptor = {"mediaType": types.index, "digest": digest, "size": size}
        self.manifests.append(descriptor | {"annotations": {REF_NAME: reference}})

    def finish(self) -> None:
        ordered = sorted(self.manifests, key=lambda m: str(m["annotations"][REF_NAME]))
        index = {"schemaVersion": 2, "mediaType": OCI.index, "manifests": ordered}
        (self.folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}\n')


class _Hashing(io.RawIOBase):
    """Passes on what is written, and hashes it: the layer's diff_id."""

    def __init__(self, target: BinaryIO) -> None:
        self.target = target
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.target.write(data)


def write_tar(stream: Any, entries: Entries, *, prefix: str = "", parents: bool = True) -> None:
    """A sorted tar of the entries, owned by root and dated 1970, written to the stream."""
    everything = dict(entries)
    for path in entries if parents else ():
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                everything.setdefault(str(parent), Entry("folder"))
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(everything.items()):
            info = tarfile.TarInfo(prefix + path)
            info.mode = entry.mode
            info.uname = info.gname = "root"
            if entry.kind == "folder":
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif entry.kind == "link":
                info.type, info.mode = tarfile.SYMTYPE, 0o777
                info.linkname = str(entry.content)
                tar.addfile(info)
            elif isinstance(entry.content, Path):
                info.size = entry.content.stat().st_size
                with entry.content.open("rb") as source:
                    tar.addfile(info, source)
            else:
                data = entry.content if isinstance(entry.content, bytes) else b""
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def entries_of_tar(archive: Path, wanted: Iterable[str] | None = None) -> dict[str, Entry]:
    """The files, folders and links of a tar; hard links become files of their own."""
    chosen = None if wanted is None else set(wanted)
    found: dict[str, Entry] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            if not path or path == "." or (chosen is not None and path not in chosen):
                continue
            if member.isdir():
                found[path] = Entry("folder", mode=member.mode)
            elif member.issym():
                found[path] = Entry("link", member.linkname)
            elif member.isfile() or member.islnk():
                source = tar.extractfile(member)
                if source is not None:
                    found[path] = Entry("file", source.read(), member.mode)
    return found
