"""A recipe → a made image, or the one that was kept.

1. What was kept for the recipe is taken when it is whole.
2. The module is fetched and checked, the program compiled for each platform.
3. Layer, configuration, manifest, index; materials from each program, provenance over all, and
   the module's archive: whoever gets the program gets its source.
4. Everything moves to its place, and Go's caches go.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.built import made_files
from perimeter_bundle.gobuild.buildinfo import BuildInfo, parse_build_info
from perimeter_bundle.gobuild.compiling import (
    Workshop,
    build_info,
    compile_program,
    fetch_module,
    refuse_without_room,
)
from perimeter_bundle.gobuild.kept import Kept, MadeFile, MadeImage, file_digest
from perimeter_bundle.gobuild.packing import PackedImage, diff_ids, pack, pack_index, write_layer
from perimeter_bundle.gobuild.papers import materials, provenance
from perimeter_bundle.gobuild.recipe import BaseImage, Recipe
from perimeter_bundle.gobuild.toolchain import Toolchain
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.platform import Platform

Bases = Mapping[Platform, BaseImage]  # empty: an image on nothing


@dataclass(frozen=True, slots=True)
class GoSettings:
    """Where results are kept, and where modules come from."""

    kept: Kept
    environment: Mapping[str, str] = field(repr=False)  # the user's; may hold passwords
    ca_file: Path | None = None
    packages: Path | None = None  # Go's cache of compiled packages; default: gone with the work


def make_image(
    recipe: Recipe,
    toolchain: Toolchain,
    bases: Bases,
    settings: GoSettings,
    on_event: OnEvent,
) -> MadeImage:
    """Compiles the image, whatever is kept, and keeps it.

    Raises InputError, NetworkError, IntegrityError, HostError; what was fetched and compiled
    until then stays for the next run.
    """
    kept, key = settings.kept, recipe.key
    with kept.held(key):
        work = kept.work_folder(key)
        workshop = Workshop(
            work,
            settings.packages or work / "packages",
            toolchain,
            settings.environment,
            settings.ca_file,
            on_event,
        )
        refuse_without_room(workshop)
        made = kept.keep(key, _make(recipe, bases, workshop))
        workshop.clear()
        return made


def kept_image(recipe: Recipe, settings: GoSettings, on_event: OnEvent) -> MadeImage | None:
    """What was made for the recipe before, hashed again."""
    made = settings.kept.find(recipe.key)
    if made is not None:
        task = f"compiling {recipe.spec.go.module}"
        message = f"made before, in {settings.kept.folder}"
        on_event(Event(EventKind.SKIP, task, message))
    return made


def _make(recipe: Recipe, bases: Bases, workshop: Workshop) -> MadeImage:
    spec, go = recipe.spec, recipe.spec.go
    for base in bases.values():
        diff_ids(base)  # refused now, not after minutes of compiling
    source_name, sbom_name, provenance_name = made_files(spec.short_name)
    store = _Store(workshop.folder / "blobs")
    module = fetch_module(go, workshop)
    files = [store.file(source_name, None, store.copy(module.archive))]
    images: list[PackedImage] = []
    infos: dict[Platform, BuildInfo] = {}
    for platform in sorted(recipe.platforms):
        program = compile_program(go, module, platform, workshop)
        info = infos[platform] = parse_build_info(build_info(program, workshop))
        layer_path = workshop.folder / "layer.tar"
        layer = write_layer(recipe, program, layer_path)
        store.copy(layer_path)
        image = pack(recipe, platform, layer, bases.get(platform))
        images.append(image)
        store.bytes(image.config)
        store.bytes(image.manifest)
        sbom = materials(recipe, platform, info, file_digest(program))
        files.append(store.file(sbom_name, platform, store.bytes(sbom)))
    index = store.bytes(pack_index(recipe, images))
    statement = provenance(recipe, index, infos)
    files.append(store.file(provenance_name, None, store.bytes(statement)))
    return MadeImage(index, store.blobs, tuple(files))


class _Store:
    """Blobs of an image that is being made."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self.blobs: dict[Digest, Path] = {}

    def bytes(self, data: bytes) -> Digest:
        digest = Digest.of_bytes(data)
        self.blobs[digest] = self._folder / digest.hex
        self.blobs[digest].write_bytes(data)
        return digest

    def copy(self, path: Path) -> Digest:
        digest = file_digest(path)
        self.blobs[digest] = self._folder / digest.hex
        shutil.copyfile(path, self.blobs[digest])
        return digest

    def file(self, name: str, platform: Platform | None, digest: Digest) -> MadeFile:
        return MadeFile(name, platform, digest, self.blobs[digest].stat().st_size)
