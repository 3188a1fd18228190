"""Locks compared: with the release they were written for, and with the lock before. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workload_values import NO_WORKLOADS
from perimeter_bundle.collect.python_packages import package_problems
from perimeter_bundle.collect.sourcing import sourcing_of, sourcing_problems
from perimeter_bundle.collect.wanted import (
    made_files_of,
    wanted_builds,
    wanted_charts,
    wanted_files,
    wanted_images,
    wanted_sources,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import (
    WORKLOADS,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
)
from perimeter_bundle.model.locked_dependency import LockedDependency


@dataclass(frozen=True, slots=True)
class Moved:
    """A name that stands for other bytes than in the lock before."""

    name: str
    before: Digest
    now: Digest


@dataclass(frozen=True, slots=True)
class LockDifference:
    """What changes from one lock to the next, by full reference, sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    resolved: tuple[str, ...]  # had no digest before
    moved: tuple[Moved, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What differs and is there now."""
        return (*self.added, *self.resolved, *(one.name for one in self.moved))

    @property
    def is_empty(self) -> bool:
        """Whether every name stands for the same bytes as before."""
        return not (self.added or self.removed or self.resolved or self.moved)


def diff_locks(before: Lock | None, now: Lock) -> LockDifference:
    """What ``now`` changes; without a lock before, everything is added."""
    old, new = (_digests(before) if before else {}), _digests(now)
    both = sorted(old.keys() & new.keys())
    moved = []
    for name in both:
        old_digest, new_digest = old[name], new[name]
        if old_digest and new_digest and old_digest != new_digest:
            moved.append(Moved(name, old_digest, new_digest))
    return LockDifference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        resolved=tuple(name for name in both if old[name] is None and new[name] is not None),
        moved=tuple(moved),
    )


def check_lock(lock: Lock, release: Release) -> None:
    """Raises InputError[lock-unresolved] or [lock-mismatch] unless ``lock`` pins ``release``.

    Images that kubeadm asks for are in no catalog: an image of a component that has
    ``images_from`` is allowed here and compared with kubeadm's own list while building.
    """
    more = "" if release.workloads == NO_WORKLOADS else " --workloads FILE"
    again = f"perimeter-bundle lock {release.name}{more}"
    unresolved = lock.unresolved()
    if unresolved:
        raise InputError(
            "lock-unresolved",
            f"the lock has {len(unresolved)} entries without a digest",
            problems=unresolved[:20],
            hint=f"run {again}",
        )
    problems = []
    for what, in_lock, wanted in (
        ("release", lock.release, release.name),
        ("number", lock.number, release.number),
        ("platforms", _texts(lock.platforms), _texts(release.platforms)),
    ):
        if in_lock != wanted:
            problems.append(f"{what}: the lock says {in_lock}, the release {wanted}")
    problems += _names_problems(lock, release)
    foreign = workload_problems(lock, release)
    if foreign and not problems:
        raise _other_workloads(foreign, again, release)
    problems += foreign
    if problems:
        raise InputError(
            "lock-mismatch",
            f"the lock was not written for release {release.name} of this catalog",
            problems=problems,
            hint=f"run {again} and review the difference",
        )


def _names_problems(lock: Lock, release: Release) -> list[str]:
    open_components = {
        c.name
        for c in release.components
        if c.kubeadm_file or c.charts or c.manifests or c.kustomizations
    }
    builds = wanted_builds(release)
    built = {str(wanted.spec.reference) for wanted in builds}
    images = {
        str(image.reference)
        for image in wanted_images(release)
        if image.components != (WORKLOADS,)  # compared by workload_problems
    }
    images |= built
    locked_images = {
        str(image.reference)
        for image in lock.images
        if str(image.reference) in images
        or not open_components.union({WORKLOADS}).intersection(image.components)
    }
    locked_images -= {str(image) for image in lock.site.images} if lock.site else set()
    charts = {str(w.locked().reference): w.spec.origin for w in wanted_charts(release)}
    files = {str(wanted.locked().reference): wanted.url for wanted in wanted_files(release)}
    files |= {
        str(file.reference): file.url
        for wanted in builds
        for file in made_files_of(wanted, release)
    }
    problems = _both_ways(images, locked_images)
    problems += _both_ways(set(charts), {str(chart.reference) for chart in lock.charts})
    packages = lock.site.packages if lock.site else frozenset()
    locked_files = {str(f.reference) for f in lock.files if f.reference not in packages}
    problems += _both_ways(set(files), locked_files)
    sources = {
        str(w.locked().reference): f"{w.spec.git}@{w.spec.commit}" for w in wanted_sources(release)
    }
    problems += _both_ways(set(sources), {str(one.reference) for one in lock.sources})
    for one in lock.sources:
        problems += _other_source(str(one.reference), f"{one.url}@{one.commit}", sources)
    for chart in lock.charts:
        problems += _other_source(str(chart.reference), chart.source, charts)
    for file in lock.files:
        problems += _other_source(str(file.reference), file.url, files)
    problems += _site_problems(lock, release)
    sourcing = sourcing_of(release)
    for image in lock.images:
        if (str(image.reference) in built) != (image.built is not None):
            how = ("from upstream", "compiled")[:: 1 if str(image.reference) in built else -1]
            problems.append(f"{image.reference}: the lock has it {how[0]}, the catalog {how[1]}")
        problems += sourcing_problems(image, sourcing)
        missing = [p for p in release.platforms if p not in image.manifests]
        problems += [f"{image.reference} is not locked for {platform}" for platform in missing]
    return problems


def workload_problems(lock: Lock, release: Release) -> list[str]:
    """Where the lock and the site's workloads.yaml ask for different things."""
    wanted = {str(image.reference): image.origin for image in release.workloads.images}
    locked = {
        str(image.reference): image.origin for image in lock.images if WORKLOADS in image.components
    }
    problems = [
        f"{name} is in workloads.yaml, not in the lock" for name in wanted if name not in locked
    ]
    problems += [
        f"{name} is in the lock, not in workloads.yaml" for name in locked if name not in wanted
    ]
    problems += [
        f"{name}: the lock has it from {locked[name].value}, workloads.yaml from {origin.value}"
        for name, origin in wanted.items()
        if locked.get(name, origin) is not origin
    ]
    return sorted(problems) + package_problems(lock, release)


def _other_workloads(problems: list[str], again: str, release: Release) -> InputError:
    if release.workloads == NO_WORKLOADS:
        message = "the lock was written with a workloads.yaml"
        hint = "give the same file with --workloads FILE"
    else:
        message = "the lock was not written with this workloads.yaml"
        hint = f"run {again} and review the difference"
    return InputError("lock-mismatch", message, problems=problems, hint=hint)


def _site_problems(lock: Lock, release: Release) -> list[str]:
    """An image that is there for a site alone must be one that the catalog lets depend on it."""
    allowed = {component.name: component.site_tags for component in release.components}
    problems = []
    for one in lock.site.components if lock.site else ():
        if one.name not in allowed:
            problems.append(f"{one.name} has values for a site, and is not in the release")
        problems += [
            f"{image} was locked for a site, but site_tags of {one.name} do not make it"
            for image in one.images
            if not any(
                tag.image == image.name and tag.could_make(image.tag)
                for tag in allowed.get(one.name, ())
            )
        ]
    return problems


def _both_ways(wanted: set[str], locked: set[str]) -> list[str]:
    problems = [f"{name} is in the catalog, not in the lock" for name in sorted(wanted - locked)]
    return problems + [
        f"{name} is in the lock, not in the catalog" for name in sorted(locked - wanted)
    ]


def _other_source(name: str, source: str, wanted: Mapping[str, str]) -> list[str]:
    if wanted.get(name, source) == source:
        return []
    return [f"{name}: the lock has it from {source}, the catalog from {wanted[name]}"]


def _digests(lock: Lock) -> dict[str, Digest | None]:
    entries: Sequence[LockedImage | LockedChart | LockedFile | LockedSource] = (
        *lock.images,
        *lock.charts,
        *lock.files,
        *lock.sources,
    )
    digests = {str(entry.reference): entry.digest for entry in entries}
    digests |= {
        dependency_label(chart, one): one.digest
        for chart in lock.charts
        for one in chart.dependencies
    }
    return digests | {package.label: package.digest for package in lock.packages}


def dependency_label(chart: LockedChart, one: LockedDependency) -> str:
    """The name of a dependency where locks are compared; not that of a reference."""
    return f"{chart.component}/{chart.name}: {one.place}"


def _texts(values: Sequence[object]) -> str:
    return ", ".join(sorted(str(value) for value in values))
