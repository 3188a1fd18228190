"""What will be collected for a release and how much room it takes, before a byte is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.charts import MAX_INDEX_BYTES, find_chart, index_url
from perimeter_bundle.collect.coherence import judge_images
from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.reading import find_oci_chart
from perimeter_bundle.collect.room import RoomNeeded, room_needed, room_of_lock
from perimeter_bundle.collect.sourcing import Sourcing, find_image, sourcing_of
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import (
    WantedChart,
    WantedFile,
    WantedImage,
    wanted_builds,
    wanted_charts,
    wanted_files,
    wanted_images,
)
from perimeter_bundle.model.lock import WORKLOADS, FileKind, ImageOrigin, Lock, LockedImage
from perimeter_bundle.model.phases import is_installed
from perimeter_bundle.review.coherence.judge import Judgement

Sizes = Mapping[str, int]  # bytes by full reference


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing that will be collected; ``size_bytes`` is None where nobody said it yet."""

    kind: str  # image, chart, file, manifest, source
    name: str
    component: str
    source: str
    size_bytes: int | None

    def to_dict(self) -> dict[str, object]:
        """As ``plan --json`` prints it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "component": self.component,
            "source": self.source,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything ``plan`` shows; sizes are upper bounds, since images share layers."""

    release: str
    number: int
    locked: bool
    items: tuple[PlanItem, ...]
    room: RoomNeeded
    unknown: tuple[str, ...]  # what can only be known after locking
    carried: tuple[str, ...]  # components that the installer beside this program does not install
    judgement: Judgement  # of the images' names; objects are looked at by lock and build

    def to_dict(self) -> dict[str, object]:
        """As ``plan --json`` prints it."""
        return {
            "release": self.release,
            "number": self.number,
            "locked": self.locked,
            "items": [item.to_dict() for item in self.items],
            "room": self.room.to_dict(),
            "unknown": list(self.unknown),
            "carried": list(self.carried),
            "coherence": self.judgement.to_list(),
        }


def plan_release(release: Release, lock: Lock | None, sizes: Sizes) -> Plan:
    """The plan from a lock, which knows everything, or from sizes that were asked for.

    ``sizes`` is looked at only without a lock. Raises InputError[lock-mismatch] when the lock is
    not of this release.
    """
    carried = tuple(
        f"{one.name} {one.version} (phase {one.phase.value})"
        for one in release.components
        if not is_installed(one.name, one.phase.value)
    )
    if lock is not None:
        check_lock(lock, release)
        items, room = _items_of(lock, {}, release), room_of_lock(lock)
        judgement = judge_images(release, lock)
        return Plan(release.name, release.number, True, items, room, (), carried, judgement)
    bare = unresolved_lock(release)
    items = _items_of(bare, sizes, release)
    unknown = [
        f"the images {component.kubeadm_file} {component.version} asks for: "
        "it must be fetched to be asked"
        for component in release.components
        if component.kubeadm_file
    ]
    unknown += [
        f"the images of {tag.image}, where it is switched on: their tags depend on the hosts of a"
        " site, so lock them with --site-facts"
        for component in release.components
        for tag in component.site_tags
    ]
    unknown += [f"the size of {item.name}" for item in items if item.size_bytes is None]
    return Plan(
        release=release.name,
        number=release.number,
        locked=False,
        items=items,
        room=room_needed(
            images_bytes=_total(items, "image"),
            files_bytes=_total(items, "file") + _total(items, "manifest"),
            charts_bytes=_total(items, "chart") + _total(items, "source"),
        ),
        unknown=tuple(unknown),
        carried=carried,
        judgement=judge_images(release, bare),
    )


def ask_sizes(release: Release, upstream: Upstream) -> Sizes:
    """Size of each image, chart and file, by manifests, indexes and HEAD alone."""
    images = {
        str(wanted.reference): partial(_image_size, wanted, release, upstream)
        for wanted in wanted_images(release)
    }
    charts = {
        str(wanted.locked().reference): partial(_chart_size, wanted, upstream)
        for wanted in wanted_charts(release)
    }
    files = {
        str(wanted.locked().reference): partial(_file_size, wanted, upstream)
        for wanted in wanted_files(release)
    }
    jobs = images | charts | files
    return dict(zip(jobs, run_all(jobs, upstream, "sizes"), strict=True))


def _image_size(wanted: WantedImage, release: Release, upstream: Upstream) -> int:
    sourcing = sourcing_of(release).get(wanted.reference, Sourcing())
    found = find_image(wanted.reference, sourcing, release.platforms, upstream)
    return found.resolved.size_bytes


def _chart_size(wanted: WantedChart, upstream: Upstream) -> int:
    spec = wanted.spec
    if spec.repository.startswith("oci://"):
        return find_oci_chart(upstream, spec)[1].size_bytes
    index = upstream.files.fetch_small(
        index_url(spec.repository), MAX_INDEX_BYTES, page_is_fine=True
    )
    location = find_chart(index, spec.repository, spec.name, spec.version)
    return upstream.files.size_of(location.url)


def _file_size(wanted: WantedFile, upstream: Upstream) -> int:
    return upstream.files.size_of(wanted.url)


def _items_of(lock: Lock, sizes: Sizes, release: Release) -> tuple[PlanItem, ...]:
    """The entries of a lock; where it has no digest the size comes from ``sizes``."""
    compiled = {
        wanted.spec.reference: f"{wanted.spec.go.module}@{wanted.spec.go.version}, compiled here"
        for wanted in wanted_builds(release)
    }
    items = [
        PlanItem(
            "image",
            str(image.reference),
            ", ".join(image.components),
            compiled.get(image.reference) or _source_of(image),
            image.size_bytes if image.manifests else sizes.get(str(image.reference)),
        )
        for image in lock.images
    ]
    for chart in lock.charts:
        size = chart.size_bytes if chart.digest else sizes.get(str(chart.reference))
        items.append(PlanItem("chart", str(chart.reference), chart.component, chart.source, size))
    for file in lock.files:
        size = file.size_bytes if file.digest else sizes.get(str(file.reference))
        kind = "file" if file.kind is FileKind.FILE else "manifest"
        items.append(PlanItem(kind, str(file.reference), file.component, file.url, size))
    for package in lock.packages:
        source = package.url or "pip"
        known = package.size_bytes if package.digest else None
        items.append(PlanItem("package", package.label, WORKLOADS, source, known))
    for tree in lock.sources:
        size = tree.size_bytes if tree.digest else sizes.get(str(tree.reference))
        items.append(PlanItem("source", str(tree.reference), "", tree.url, size))
    return tuple(items)


def _source_of(image: LockedImage) -> str:
    is_remote = image.origin is ImageOrigin.REGISTRY
    return image.place.host if is_remote else image.origin.value


def _total(items: tuple[PlanItem, ...], kind: str) -> int:
    return sum(item.size_bytes or 0 for item in items if item.kind == kind)
