"""A program and a few files → layer, configuration, manifest and index, the same bytes each time.

The layer is a plain tar: what gzip makes of it depends on the version of zlib, and a digest must
not. https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor, ImageManifest, OciIndex
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.gobuild.kept import file_digest
from perimeter_bundle.gobuild.recipe import BaseImage, Recipe
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.platform import Platform

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
EPOCH = "1970-01-01T00:00:00Z"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Docker's names of what OCI has, too: a manifest must not mix them
_OCI_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TYPE,
}


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image for one platform; ``manifest`` and ``config`` are bytes, the layer is a file."""

    platform: Platform
    manifest: bytes
    config: bytes
    layer: Descriptor

    @property
    def descriptor(self) -> Descriptor:
        """What names it in an index."""
        digest = Digest.of_bytes(self.manifest)
        return Descriptor(OCI_MANIFEST, digest, len(self.manifest), self.platform)


def write_layer(recipe: Recipe, program: Path, target: Path) -> Descriptor:
    """Writes the one layer that is ours to ``target``; gives back its descriptor.

    No folders are written: those of the base keep their owners and links.
    """
    files: dict[str, bytes | Path] = dict(recipe.spec.file_contents())
    files |= dict.fromkeys(recipe.spec.paths, program)
    with (
        target.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files):
            content = files[path]
            entry = tarfile.TarInfo(path.removeprefix("/"))
            if isinstance(content, Path):
                entry.size, entry.mode = content.stat().st_size, 0o755
                with content.open("rb") as source:
                    tar.addfile(entry, source)
            else:
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith(b"#!") else 0o644
                tar.addfile(entry, io.BytesIO(content))
    return Descriptor(LAYER_TYPE, file_digest(target), target.stat().st_size)


def pack(
    recipe: Recipe, platform: Platform, layer: Descriptor, base: BaseImage | None
) -> PackedImage:
    """The image for ``platform``; raises IntegrityError[bad-base]."""
    beneath = base.layers if base else ()
    config = dump_object(_config(recipe, platform, layer, base))
    described = Descriptor(CONFIG_TYPE, Digest.of_bytes(config), len(config))
    layers = tuple(
        Descriptor(_OCI_TYPES.get(one.media_type, one.media_type), one.digest, one.size_bytes)
        for one in beneath
    )
    manifest = ImageManifest(described, (*layers, layer), annotations=_annotations(recipe))
    return PackedImage(platform, manifest.to_bytes(), config, layer)


def pack_index(recipe: Recipe, images: Sequence[PackedImage]) -> bytes:
    """The index over all platforms: what the tag names."""
    ordered = sorted(images, key=lambda image: image.platform)
    entries = tuple(image.descriptor for image in ordered)
    return OciIndex(entries, annotations=_annotations(recipe)).to_bytes()


def _config(
    recipe: Recipe, platform: Platform, layer: Descriptor, base: BaseImage | None
) -> dict[str, object]:
    spec = recipe.spec
    inherited = _table(base.config if base else {}, "config")
    settings = {
        # what starts the base's program is not what starts ours
        key: inherited[key]
        for key in ("Env", "WorkingDir", "ExposedPorts", "Volumes")
        if inherited.get(key)
    }
    settings.setdefault("Env", [f"PATH={PATH}"])
    settings.setdefault("WorkingDir", "/")
    settings["User"] = spec.user
    settings["Entrypoint"] = list(spec.entrypoint)
    if spec.command:
        settings["Cmd"] = list(spec.command)
    settings["Labels"] = _annotations(recipe)
    table: dict[str, object] = {
        "created": EPOCH,
        "os": platform.os,
        "architecture": platform.architecture,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids(base), str(layer.digest)]},
        "history": [
            {"created": EPOCH, "created_by": f"layer of {recipe.base}"} for _ in diff_ids(base)
        ]
        + [{"created": EPOCH, "created_by": f"go build {spec.go.module}@{spec.go.version}"}],
    }
    if platform.variant:
        table["variant"] = platform.variant
    return table


def _annotations(recipe: Recipe) -> dict[str, str]:
    spec = recipe.spec
    pairs = {
        "org.opencontainers.image.title": spec.reference.name,
        "org.opencontainers.image.version": spec.reference.tag,
        "org.opencontainers.image.licenses": spec.licence,
        "org.opencontainers.image.source": f"https://{spec.go.module}",
        "org.opencontainers.image.revision": f"{spec.go.module}@{spec.go.version}",
        "internal.perimeter.recipe": str(recipe.key),
    }
    if recipe.base:
        pairs["org.opencontainers.image.base.name"] = str(recipe.base.without_digest())
        pairs["org.opencontainers.image.base.digest"] = str(recipe.base.digest)
    return pairs


def diff_ids(base: BaseImage | None) -> list[str]:
    """Digests of the unpacked layers of a base; raises IntegrityError[bad-base]."""
    if base is None:
        return []
    found = _table(base.config, "rootfs").get("diff_ids")
    if not isinstance(found, list) or len(found) != len(base.layers):
        raise IntegrityError(
            "bad-base",
            "the base image cannot be built on: its configuration and layers do not agree",
            context={"layers": len(base.layers)},
        )
    return [str(Digest.parse(str(text))) for text in found]


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
