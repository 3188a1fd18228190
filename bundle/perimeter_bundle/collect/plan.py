"""What will be collected for a release and how much room it takes, before it is collected.

Without a lock the objects are rendered, as for a lock: what they name belongs to the plan, and what
nothing explains ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.coherence import (
    facts_of_catalog,
    gather_facts,
    judge_images,
    judge_release,
)
from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.complete import check_complete, found_images
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.reading import fetch_objects, object_files
from perimeter_bundle.collect.room import RoomNeeded, room_needed, room_of_lock
from perimeter_bundle.collect.site_choice import NO_SITE_CHOICE, plain_references
from perimeter_bundle.collect.site_lock import with_site_images
from perimeter_bundle.collect.sourcing import Sourcing, find_image, sourcing_of
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import (
    WantedFile,
    WantedImage,
    wanted_builds,
    wanted_files,
    wanted_images,
)
from perimeter_bundle.model.lock import (
    WORKLOADS,
    FileKind,
    ImageOrigin,
    Lock,
    LockedChart,
    LockedImage,
)
from perimeter_bundle.model.phases import is_installed
from perimeter_bundle.review.coherence.facts import Facts
from perimeter_bundle.review.coherence.judge import Judgement

Sizes = Mapping[str, int]  # bytes by full reference


@dataclass(frozen=True, slots=True)
class Asked:
    """What upstream said: the images there are, the sizes of all, and facts about the objects."""

    images: tuple[WantedImage, ...]
    sizes: Sizes
    facts: Facts
    charts: tuple[LockedChart, ...] = ()  # with what was put into them


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing that will be collected; ``size_bytes`` is None where nobody said it yet."""

    kind: str  # image, chart, dependency (of a chart), file, manifest, source
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
    judgement: Judgement  # with a lock, of the images' names alone

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


def plan_release(release: Release, lock: Lock | None, asked: Asked | None = None) -> Plan:
    """The plan from a lock, which knows everything, or from what upstream was asked.

    With neither it is of the names in the catalog. Raises InputError[lock-mismatch] when the lock
    is not of this release.
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
    bare = unresolved_lock(release, asked.images if asked else None)
    if asked:
        bare = replace(bare, charts=asked.charts)
    items = _items_of(bare, asked.sizes if asked else {}, release)
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
        # not the lock: its rules look at what only a resolved one has
        judgement=judge_release(
            release, asked.facts if asked else facts_of_catalog(release), bare.images
        ),
    )


def ask_upstream(release: Release, upstream: Upstream, work: Path) -> Asked:
    """Everything a plan needs; neither an image nor a file that is carried unread is fetched.

    ``work`` is a folder for the few things that must be fetched; it must allow programs to run.
    Raises what ``fetch_objects`` raises, and InputError[unclassified].
    """
    fetched = fetch_objects(release, object_files(release), upstream, work)
    found = check_complete(fetched.rendered)
    wanted = with_site_images(
        wanted_images(release, found=found_images(found)),
        NO_SITE_CHOICE,
        plain_references(release),
    )
    sizes = {str(one.reference): one.size_bytes for one in fetched.charts}
    sizes |= {str(one.reference): one.size_bytes for one in fetched.sources}
    sizes |= {str(one.reference): one.size_bytes for one in fetched.files}
    images = {str(one.reference): partial(_image_size, one, release, upstream) for one in wanted}
    files = {
        str(one.locked().reference): partial(_file_size, one, upstream)
        for one in wanted_files(release)
        if str(one.locked().reference) not in sizes
    }
    jobs = images | files
    sizes |= zip(jobs, run_all(jobs, upstream, "sizes"), strict=True)
    return Asked(wanted, sizes, gather_facts(release, fetched.rendered, found), fetched.charts)


def _image_size(wanted: WantedImage, release: Release, upstream: Upstream) -> int:
    sourcing = sourcing_of(release).get(wanted.reference, Sourcing())
    found = find_image(wanted.reference, sourcing, release.platforms, upstream)
    return found.resolved.size_bytes


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
        for one in {one.place: one for one in chart.dependencies}.values():
            # its size is in that of the chart
            name = f"{one.name} {one.version} in {chart.name}/{one.place}"
            items.append(PlanItem("dependency", name, chart.component, one.url, 0))
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
