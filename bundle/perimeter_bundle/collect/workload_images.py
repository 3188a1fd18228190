"""Upstream with the images a site brings from the builder itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from perimeter_bundle.catalog.workload_values import WorkloadImage, Workloads
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.imagesource.content import Content, read_layout, read_saved
from perimeter_bundle.imagesource.engine import save_from_engine
from perimeter_bundle.imagesource.local import LocalImage
from perimeter_bundle.imagesource.routed import RoutedImages
from perimeter_bundle.imagesource.store import FolderStore, Store, TarStore
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.resolve import ImageSource
from perimeter_bundle.registry.stop import Stop


@contextmanager
def workload_upstream(
    upstream: Upstream, workloads: Workloads, environment: Mapping[str, str]
) -> Iterator[Upstream]:
    """``upstream`` until the block ends, with the workload images that no registry has.

    Nothing is read until it is asked for. ``environment`` says which Docker engine is meant; what
    comes from it lies in a temporary folder meanwhile.
    """
    images = [one for one in workloads.images if one.origin is not ImageOrigin.REGISTRY]
    if not images:
        yield upstream
        return
    with tempfile.TemporaryDirectory(prefix="perimeter-engine-") as spool:
        opener = Opener(upstream.stop, upstream.files.on_event, Path(spool), environment)
        local: dict[ImageReference, ImageSource] = {
            image.reference: LocalImage(
                image.shown, partial(opener.open, image), upstream.stop, upstream.files.on_event
            )
            for image in images
        }
        yield replace(upstream, images=RoutedImages(upstream.images, local))


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what workloads.yaml names; ``spool`` is for what an engine gives."""

    stop: Stop
    on_event: OnEvent
    spool: Path
    environment: Mapping[str, str] = field(repr=False)

    def open(self, image: WorkloadImage) -> Content:
        """The image that is meant; raises InputError, IntegrityError, HostError, NetworkError."""
        if image.origin is ImageOrigin.DOCKER_ENGINE:
            return self._from_engine(image)
        if image.path is None:
            raise AssertionError("workloads.yaml names a path for this origin")
        store = _store(image, image.path)
        if image.origin is ImageOrigin.OCI_LAYOUT:
            return read_layout(store, image.name, image.reference)
        return read_saved(store, image.name, image.reference, self.stop.check)

    def _from_engine(self, image: WorkloadImage) -> Content:
        name = image.name or str(image.reference)
        target = self.spool / f"{Digest.of_bytes(name.encode()).hex}.tar"
        save_from_engine(name, target, self.environment, self.stop.check, self.on_event)
        # it was asked for one image, and one is all that is there
        return read_saved(TarStore.read(target, image.shown), "", image.reference, self.stop.check)


def _store(image: WorkloadImage, path: Path) -> Store:
    if path.is_dir() and image.origin is ImageOrigin.OCI_LAYOUT:
        return FolderStore(path, image.shown)
    if path.is_file():
        return TarStore.read(path, image.shown)
    raise InputError(
        "no-image-source",
        f"workloads.yaml: {image.reference} is to come from {image.shown}, which is not there",
        context={"looked for": path},
        hint="paths are beside workloads.yaml; a layout may be a folder or a tar of it",
    )
