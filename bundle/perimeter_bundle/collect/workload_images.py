"""Upstream with the images a site brings from the builder itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from perimeter_bundle.catalog.workload_values import WorkloadImage, Workloads
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.imagesource.content import Content, read_layout, read_saved
from perimeter_bundle.imagesource.local import LocalImage
from perimeter_bundle.imagesource.routed import RoutedImages
from perimeter_bundle.imagesource.store import FolderStore, Store, TarStore
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.resolve import ImageSource
from perimeter_bundle.registry.stop import Stop


@contextmanager
def workload_upstream(upstream: Upstream, workloads: Workloads) -> Iterator[Upstream]:
    """``upstream`` until the block ends, with the workload images that no registry has.

    Nothing is read until it is asked for.
    """
    local: dict[ImageReference, ImageSource] = {}
    for image in workloads.images:
        if image.origin is not ImageOrigin.REGISTRY:
            local[image.reference] = LocalImage(
                image.shown,
                partial(open_content, image, upstream.stop),
                upstream.stop,
                upstream.files.on_event,
            )
    yield replace(upstream, images=RoutedImages(upstream.images, local)) if local else upstream


def open_content(image: WorkloadImage, stop: Stop) -> Content:
    """The image that workloads.yaml means; raises InputError, IntegrityError."""
    if image.path is None:
        raise AssertionError("workloads.yaml names a path for this origin")
    store = _store(image, image.path)
    if image.origin is ImageOrigin.OCI_LAYOUT:
        return read_layout(store, image.name, image.reference)
    return read_saved(store, image.name, image.reference, stop.check)


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
