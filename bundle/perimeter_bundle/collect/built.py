"""Images that are compiled here: locked by making them once, taken into a bundle by the lock.

A made image is believed for what it is: ``build`` takes a kept one whose digest is locked, and
otherwise compiles it again, which must give the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.go_toolchain import GoSource
from perimeter_bundle.collect.pull import PulledImage
from perimeter_bundle.collect.sourcing import Sourcing, find_image
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.collect.wanted import (
    WantedBuild,
    made_files_of,
    unresolved_image,
    wanted_builds,
)
from perimeter_bundle.collect.workspace import Workspace
from perimeter_bundle.format.files import read_file
from perimeter_bundle.format.oci import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    Descriptor,
    ImageManifest,
)
from perimeter_bundle.format.strict_json import parse_object
from perimeter_bundle.gobuild.kept import MadeImage
from perimeter_bundle.gobuild.made import Bases, GoSettings, kept_image, make_image
from perimeter_bundle.gobuild.recipe import BaseImage, Recipe
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import GoBuild, ImageOrigin, Lock, LockedFile, LockedImage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

SourcingOf = Mapping[ImageReference, Sourcing]


@dataclass(frozen=True, slots=True)
class LockedBuild:
    """An image that was compiled, and the files that came with it, as a lock has them."""

    image: LockedImage
    files: tuple[LockedFile, ...]


def lock_build(
    wanted: WantedBuild,
    release: Release,
    upstream: Upstream,
    sourcing: SourcingOf,
    settings: GoSettings,
    go: GoSource,
) -> LockedBuild:
    """Makes the image, or takes the one that was kept, and pins it.

    Raises InputError, NetworkError, IntegrityError, HostError.
    """
    spec, on_event = wanted.spec, upstream.files.on_event
    version = go.version_for(spec.go)
    base, bases = _bases(spec.base, release, upstream, sourcing)
    recipe = Recipe(spec, version, base, release.platforms)
    made = kept_image(recipe, settings, on_event)
    if made is None:
        toolchain = go.toolchain(spec.go, version)
        made = make_image(recipe, toolchain, bases, settings, on_event)
    return LockedBuild(
        _locked(wanted, made, recipe.go_build),
        tuple(
            replace(file, digest=one.digest, size_bytes=one.size_bytes)
            for file in made_files_of(wanted, release)
            if (one := made.file(file.name, file.platform)) is not None
        ),
    )


def take_builds(
    lock: Lock, release: Release, upstream: Upstream, workspace: Workspace, settings: GoSettings
) -> tuple[PulledImage, ...]:
    """Every compiled image of the lock, its own blobs and files written to the workspace.

    Raises InputError[lock-mismatch], IntegrityError[built-differs], and what making raises.
    """
    taken = []
    go = GoSource(lock.files, upstream.files, settings.environment, workspace.work, workspace.blob)
    for wanted in wanted_builds(release):
        locked = next(i for i in lock.images if i.reference == wanted.spec.reference)
        made = _made_as_locked(wanted, locked, lock, release, upstream, settings, go)
        for digest, path in made.blobs.items():
            _copy(path, workspace.blob(digest))
        taken.append(_pulled(locked, made))
    return tuple(taken)


def _made_as_locked(
    wanted: WantedBuild,
    locked: LockedImage,
    lock: Lock,
    release: Release,
    upstream: Upstream,
    settings: GoSettings,
    go: GoSource,
) -> MadeImage:
    spec, on_event = wanted.spec, upstream.files.on_event
    pinned = locked.built
    if pinned is None:
        raise AssertionError("check_lock refuses a lock that has it from upstream")
    recipe = Recipe(spec, pinned.toolchain, pinned.base, release.platforms)
    if recipe.key != pinned.recipe:
        raise InputError(
            "lock-mismatch",
            f"{spec.reference} is built from another recipe than the locked one",
            context={"locked": pinned.recipe, "catalog": recipe.key},
            hint=f"run perimeter-bundle lock {release.name} and review the difference",
        )
    made = kept_image(recipe, settings, on_event)
    if made is not None:
        if not _differences(made, locked, lock, wanted, release):
            return made
        text = f"what was kept for {spec.reference} is not what the lock pins; compiling it again"
        on_event(Event(EventKind.WARNING, str(spec.reference), text))
    toolchain = go.toolchain(spec.go, pinned.toolchain)
    _, bases = _bases(pinned.base, release, upstream, {})
    made = make_image(recipe, toolchain, bases, settings, on_event)
    problems = _differences(made, locked, lock, wanted, release)
    if problems:
        settings.kept.forget(recipe.key)
        raise IntegrityError(
            "built-differs",
            f"{spec.reference} was compiled from the locked recipe to other bytes",
            problems=problems,
            hint="the lock was changed, or this go is not the one it was locked with "
            f"(both say {pinned.toolchain}; a distribution may have changed its own)",
        )
    return made


def _differences(
    made: MadeImage, locked: LockedImage, lock: Lock, wanted: WantedBuild, release: Release
) -> list[str]:
    problems = []
    if made.index != locked.digest:
        problems.append(f"{locked.reference}: locked {locked.digest}, made {made.index}")
    pinned = {file.reference: file.digest for file in lock.files}
    for file in made_files_of(wanted, release):
        one = made.file(file.name, file.platform)
        found = one.digest if one else None
        if pinned.get(file.reference) != found:
            expected = pinned.get(file.reference)
            problems.append(f"{file.reference}: locked {expected}, made {found}")
    return problems


def _locked(wanted: WantedBuild, made: MadeImage, built: GoBuild) -> LockedImage:
    sizes = {made.index: made.blobs[made.index].stat().st_size}
    manifests: dict[Platform, Digest] = {}
    for entry in made.read_index().manifests:
        if entry.platform is None:
            raise AssertionError("every manifest of ours has a platform")
        manifests[entry.platform] = entry.digest
        sizes[entry.digest] = entry.size_bytes
        sizes |= {one.digest: one.size_bytes for one in _manifest(made, entry).descriptors}
    return replace(
        unresolved_image(wanted.image()),
        digest=made.index,
        media_type=OCI_INDEX,
        manifests=manifests,
        size_bytes=sum(sizes.values()),
        origin=ImageOrigin.GO_BUILD,
        built=built,
    )


def _pulled(locked: LockedImage, made: MadeImage) -> PulledImage:
    """As an image from a registry; layers of a base are still to be fetched, from where it is."""
    index = made.read_index()
    blobs = {
        one.digest: one for entry in index.manifests for one in _manifest(made, entry).descriptors
    }
    size = made.blobs[made.index].stat().st_size
    base = locked.built.base if locked.built else None
    return PulledImage(
        locked,
        Descriptor(OCI_INDEX, made.index, size),
        tuple(replace(entry, platform=None) for entry in index.manifests),
        tuple(blobs.values()),
        base or locked.reference,
    )


def _manifest(made: MadeImage, entry: Descriptor) -> ImageManifest:
    return ImageManifest.parse(read_file(made.blobs[entry.digest], MAX_MANIFEST_BYTES))


def _bases(
    base: ImageReference | None, release: Release, upstream: Upstream, sourcing: SourcingOf
) -> tuple[ImageReference | None, Bases]:
    """The base with its digest, and what it is on each platform."""
    if base is None:
        return None, {}
    found = find_image(base, sourcing.get(base, Sourcing()), release.platforms, upstream)
    place = found.found_at or base
    bases = {}
    for platform, fetched in found.resolved.manifests.items():
        manifest = fetched.parsed
        if not isinstance(manifest, ImageManifest):
            continue  # resolve gives none but single manifests
        config = upstream.images.fetch_small_blob(place, manifest.config, MAX_CONFIG_BYTES)
        table = parse_object(config, f"the configuration of {place}", max_bytes=MAX_CONFIG_BYTES)
        bases[platform] = BaseImage(manifest.layers, table)
    return place.with_digest(found.resolved.digest), bases


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.copy")
    shutil.copyfile(source, half)
    half.rename(target)
