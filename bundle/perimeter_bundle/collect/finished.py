"""A bundle that was finished before: is it still what this build would give?

Blobs and the site's Python packages are there with their sizes, and everything else, manifests and
configurations of images included, is hashed. Bytes that changed without a change of size are found
by ``deep``, and by ``sign`` and ``verify``, which always hash everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from perimeter_bundle.catalog.values import Catalog, Release
from perimeter_bundle.collect.content import catalog_files
from perimeter_bundle.collect.own_wheel import OwnWheel
from perimeter_bundle.format import layout
from perimeter_bundle.format.agreement import blob_name_problems, closure_problems
from perimeter_bundle.format.base import MAX_BASE_BYTES, Base
from perimeter_bundle.format.files import Tree, list_tree, read_file
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, BundleManifest
from perimeter_bundle.format.oci import MAX_INDEX_BYTES, OciIndex
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, check_hashes, check_tree, some
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.model.lock import Lock


def is_finished(out: Path) -> bool:
    """Whether ``out`` holds a sealed bundle."""
    return (out / layout.SUMS).is_file() and not (out / layout.BUILD_FOLDER).exists()


def check_finished(
    out: Path,
    lock_bytes: bytes,
    release: Release,
    catalog: Catalog,
    own: OwnWheel,
    install_requirements: bytes,
    on_event: OnEvent,
    *,
    deep: bool = False,
    against: Digest | None = None,
) -> tuple[BundleManifest, Digest, Base | None]:
    """What a finished bundle says, the digest of its SHA256SUMS, and the base of a delta.

    ``deep`` hashes all of it; ``against`` is the digest of the inventory this build leaves out.

    Raises InputError[already-built] when this build would put other things into it, and
    IntegrityError when it is not whole any more.
    """
    sums_bytes = read_file(out / layout.SUMS, MAX_SUMS_BYTES)
    sums, tree = Sums.parse(sums_bytes), list_tree(out)
    wanted = {layout.LOCK: Digest.of_bytes(lock_bytes)}
    wanted |= dict(_wanted_content(release, catalog, own, install_requirements))
    differs = [path for path, digest in wanted.items() if sums.digests.get(path) != digest]
    ours = (f"{layout.ROLES}/", f"{layout.PLAYBOOKS}/", f"{layout.CATALOG}/")
    differs += [path for path in sums.digests if path.startswith(ours) and path not in wanted]
    base = None
    if layout.BASE in sums.digests:
        base = Base.parse(read_file(out / layout.BASE, MAX_BASE_BYTES))
    if (base.inventory if base else None) != against:
        differs.append(layout.BASE)
    if differs:
        raise InputError(
            "already-built",
            f"{out} holds a finished bundle, and this build would give another one",
            problems=[f"{path} differs" for path in sorted(differs)[:10]],
            hint="choose another --out, or remove the folder",
        )
    check_tree(tree, sums)
    hashed = {path: digest for path, digest in sums.digests.items() if deep or not _is_bulk(path)}
    check_hashes(out, tree.files, Sums(hashed), on_event=on_event)
    manifest = BundleManifest.parse(read_file(out / layout.BUNDLE_MANIFEST, MAX_MANIFEST_BYTES))
    _check_sizes(out, tree, sums, Lock.parse(lock_bytes), manifest, base)
    return manifest, Digest.of_bytes(sums_bytes), base


def _is_bulk(path: str) -> bool:
    """Whether it is one of the many or large files whose sizes other files name."""
    return path.startswith((f"{layout.BLOBS}/", f"{layout.PYTHON_INDEX}/"))


def _check_sizes(
    out: Path,
    tree: Tree,
    sums: Sums,
    lock: Lock,
    manifest: BundleManifest,
    base: Base | None,
) -> None:
    """Raises IntegrityError[not-whole] unless all that is bulk is there with its size."""
    index = OciIndex.parse(read_file(out / layout.INDEX, MAX_INDEX_BYTES))
    blobs = {
        digest: tree.files[path]
        for path, digest in sums.digests.items()
        if path.startswith(f"{layout.BLOBS}/")
    }

    def read(digest: Digest, limit_bytes: int) -> bytes:
        path = layout.blob_path(digest)
        data = read_file(out / path, limit_bytes)
        found = digest.of_same_kind(data)
        if found != digest:
            raise IntegrityError("digest-mismatch", f"{path} holds {found}")
        return data

    problems = blob_name_problems(sums)
    left_out = base.sizes if base else {}
    problems += closure_problems(lock, manifest, index, {**left_out, **blobs}, read)
    for package in lock.packages:
        path = layout.python_package_path(package.filename)
        if tree.files.get(path) != package.size_bytes:
            problems.append(f"{path}: {tree.files.get(path)} bytes, locked {package.size_bytes}")
    if problems:
        raise IntegrityError(
            "not-whole",
            f"the finished bundle in {out} is not whole any more",
            problems=some(problems),
            hint="the disc lost something, or somebody wrote to it: remove the folder, build again",
        )


def _wanted_content(
    release: Release, catalog: Catalog, own: OwnWheel, install_requirements: bytes
) -> Iterator[tuple[str, Digest]]:
    sources: Mapping[str, Mapping[str, bytes]] = {
        layout.ROLES: own.content("roles"),
        layout.PLAYBOOKS: own.content("playbooks"),
        layout.CATALOG: catalog_files(catalog, release),
    }
    for folder, files in sources.items():
        for path, data in files.items():
            yield f"{folder}/{path}", Digest.of_bytes(data)
    yield layout.INSTALL_REQUIREMENTS, Digest.of_bytes(install_requirements)
    yield f"{layout.WHEELHOUSE}/{own.name}", Digest.of_bytes(own.to_bytes())
