"""What a build leaves out because an inventory says that the site's registry holds it.

Reads manifests out of the workspace, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.journal import Journal
from perimeter_bundle.collect.kustomizations import is_kustomize
from perimeter_bundle.collect.pull import PulledImage, pull_images
from perimeter_bundle.collect.room import RoomNeeded, room_of_lock
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.collect.wanted import is_made
from perimeter_bundle.collect.workspace import Workspace
from perimeter_bundle.format.base import Base, LeftOut, may_be_left_out
from perimeter_bundle.format.files import read_file
from perimeter_bundle.format.inventory import VerifiedInventory
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.oci import MAX_MANIFEST_BYTES, ImageManifest, parse_manifest
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import FileKind, Lock, LockedFile
from perimeter_bundle.ospackages.found import Family


def refuse_other_site(lock: Lock, against: VerifiedInventory | None) -> None:
    """Raises InputError[other-site] when lock and inventory are of two sites."""
    if against and lock.site and lock.site.name != against.inventory.site:
        raise InputError(
            "other-site",
            f"the lock was written for site {lock.site.name}, the inventory is of another",
            context={"site of the inventory": against.inventory.site},
            hint="give the inventory of the lock's site to --against",
        )


def choose_base(
    against: VerifiedInventory, lock: Lock, images: Sequence[PulledImage], workspace: Workspace
) -> Base:
    """Every layer and file of a node that all replicas hold with the size it must have."""
    wanted = _Wanted()
    for image in images:
        wanted.add_image(image, workspace)
    for file in lock.files:
        kind = ItemKind.FILE if file.kind is FileKind.FILE else ItemKind.MANIFEST
        if may_be_left_out(kind, file.reference.repository):
            wanted.leave(file.digest, file.size_bytes, file.reference.name, str(file.reference))
        else:
            wanted.carry(file.digest)
    for chart in lock.charts:
        wanted.carry(chart.digest)
    for source in lock.sources:
        wanted.carry(source.digest)
    inventory = against.inventory
    sizes = inventory.blobs
    held: dict[Digest, list[str]] = {}
    for repository in inventory.repositories:
        for digest in repository.blobs:
            held.setdefault(digest, []).append(repository.name)
    blobs = []
    for digest, (size, own, items) in wanted.leavable.items():
        if sizes.get(digest) == size:
            places = sorted(set(held[digest]) & own) or sorted(held[digest])
            blobs.append(LeftOut(digest, size, places[0], tuple(sorted(items))))
    return Base(against.digest, inventory.site, inventory.made_at, tuple(blobs))


def plan_base(against: VerifiedInventory, lock: Lock, upstream: Upstream, folder: Path) -> Base:
    """The same before anything is built: only manifests are fetched, into ``folder``.

    Raises InputError[other-site], NetworkError, IntegrityError.
    """
    refuse_other_site(lock, against)
    with closing(Journal(folder, folder / "journal")) as journal:
        workspace = Workspace(folder, journal)
        return choose_base(against, lock, pull_images(lock, upstream, workspace), workspace)


def not_fetched(base: Base | None, lock: Lock, release: Release) -> frozenset[Digest]:
    """What is left out and not read while building either."""
    if base is None:
        return frozenset()
    read_here = {file.digest for file in lock.files if _is_read_here(file, release)}
    return frozenset(set(base.sizes) - read_here)


def _is_read_here(file: LockedFile, release: Release) -> bool:
    """kubeadm and kustomize are run, rpm packages are opened for their index."""
    runs = {(one.name, one.kubeadm_file) for one in release.components if one.kubeadm_file}
    return (
        (file.component, file.name) in runs
        or is_kustomize(file)
        or is_made(file.url)
        or file.name.startswith(f"{Family.RPM.value}-")
    )


def room_of_delta(lock: Lock, release: Release, base: Base) -> RoomNeeded:
    """The room for a lock of which ``base`` is at the site already.

    A layer that several images share counts once for each, here as in the lock.
    """
    fetched = set(base.sizes) - not_fetched(base, lock, release)
    return room_of_lock(
        lock,
        at_site_bytes=sum(one.size_bytes * len(one.items) for one in base.blobs),
        read_here_bytes=sum(base.sizes[digest] for digest in fetched),
    )


class _Wanted:
    """What a bundle needs: what may be left out, and what must be carried."""

    def __init__(self) -> None:
        self._leave: dict[Digest, tuple[int, set[str], set[str]]] = {}
        self._carry: set[Digest | None] = set()

    @property
    def leavable(self) -> dict[Digest, tuple[int, set[str], set[str]]]:
        """Size, repositories and items of each blob that nothing forbids to leave out."""
        return {one: told for one, told in self._leave.items() if one not in self._carry}

    def add_image(self, image: PulledImage, workspace: Workspace) -> None:
        name, item = image.locked.reference.name, str(image.locked.reference)
        for described in (image.top, *image.manifests):
            self.carry(described.digest)
            parsed = parse_manifest(read_file(workspace.blob(described.digest), MAX_MANIFEST_BYTES))
            if isinstance(parsed, ImageManifest):
                self.carry(parsed.config.digest)
                for layer in parsed.layers:
                    self.leave(layer.digest, layer.size_bytes, name, item)

    def leave(self, digest: Digest | None, size_bytes: int, repository: str, item: str) -> None:
        if digest is not None:
            _, places, items = self._leave.setdefault(digest, (size_bytes, set(), set()))
            places.add(repository)
            items.add(item)

    def carry(self, digest: Digest | None) -> None:
        self._carry.add(digest)
