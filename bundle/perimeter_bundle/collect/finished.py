"""A bundle that was finished before: is it still what this build would give?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from perimeter_bundle.catalog.values import Catalog, Release
from perimeter_bundle.collect.content import catalog_files
from perimeter_bundle.collect.own_wheel import OwnWheel
from perimeter_bundle.format import layout
from perimeter_bundle.format.files import list_tree, read_file
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, BundleManifest
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, check_hashes, check_tree
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import OnEvent


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
) -> tuple[BundleManifest, Digest]:
    """What a finished bundle says, and the digest of its SHA256SUMS.

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
    if differs:
        raise InputError(
            "already-built",
            f"{out} holds a finished bundle, and this build would give another one",
            problems=[f"{path} differs" for path in sorted(differs)[:10]],
            hint="choose another --out, or remove the folder",
        )
    check_tree(tree, sums)
    check_hashes(out, tree.files, sums, on_event=on_event)
    manifest = BundleManifest.parse(read_file(out / layout.BUNDLE_MANIFEST, MAX_MANIFEST_BYTES))
    return manifest, Digest.of_bytes(sums_bytes)


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
