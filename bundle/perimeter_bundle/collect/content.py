"""content/: what runs at the site; what was reviewed is what runs, so it travels inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from perimeter_bundle.catalog.load import SOURCES_FOLDER
from perimeter_bundle.catalog.values import Catalog, Release
from perimeter_bundle.collect.collections import UnpackedCollection, unpack_collections
from perimeter_bundle.collect.own_wheel import OwnWheel
from perimeter_bundle.collect.wheelhouse import COLLECTIONS_FILE, Wheel
from perimeter_bundle.format import layout
from perimeter_bundle.format.files import list_tree, write_file
from perimeter_bundle.format.manifest import BundleItem, ItemKind
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError

OWN_LICENCE = "Apache-2.0"


def write_content(
    bundle: Path,
    release: Release,
    catalog: Catalog,
    own: OwnWheel,
    wheels: Iterable[Wheel],
    install_requirements: bytes,
) -> tuple[BundleItem, ...]:
    """Fills ``content/`` and gives back its items; the same inputs give the same bytes.

    Raises InputError[odd-catalog] when the catalog holds links, IntegrityError[bad-collection].
    """
    for folder in ("roles", "playbooks"):
        _write_files(bundle / layout.CONTENT / folder, own.content(folder))
    _write_files(bundle / layout.CATALOG, catalog_files(catalog, release))
    write_file(bundle / layout.INSTALL_REQUIREMENTS, install_requirements)
    items = [_write_own_wheel(bundle, own)]
    for wheel in wheels:
        if wheel.requirements == COLLECTIONS_FILE:
            items += [_collection_item(one) for one in unpack_collections(wheel.path, bundle)]
        else:
            items.append(_put_wheel(bundle, wheel))
    return tuple(items)


def catalog_files(catalog: Catalog, release: Release) -> dict[str, bytes]:
    """What is carried of the catalog, by path: the release's file, its components and sources.

    Raises InputError[odd-catalog] when the catalog holds links or special files.
    """
    wanted = {component.name for component in release.components}
    files = {f"releases/{release.name}.yaml"}
    files |= {f"{SOURCES_FOLDER}/{source.name}.yaml" for source in release.named_sources}
    tree = list_tree(catalog.root)
    if tree.odd:
        raise InputError("odd-catalog", "the catalog holds more than files", problems=tree.odd)
    return {
        path: (catalog.root / path).read_bytes()
        for path in tree.files
        if path in files or path.partition("/")[0] in wanted
    }


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in sorted(files.items()):
        write_file(folder / path, data)


def _write_own_wheel(bundle: Path, own: OwnWheel) -> BundleItem:
    path = f"{layout.WHEELHOUSE}/{own.name}"
    data = own.to_bytes()
    write_file(bundle / path, data)
    return _item(
        ItemKind.WHEEL,
        path,
        Digest.of_bytes(data),
        len(data),
        "perimeter",
        OWN_LICENCE,
        "the program that installs this bundle",
        own.version,
    )


def _put_wheel(bundle: Path, wheel: Wheel) -> BundleItem:
    path = f"{layout.WHEELHOUSE}/{wheel.path.name}"
    link_or_copy(wheel.path, bundle / path)
    return _item(
        ItemKind.WHEEL,
        path,
        wheel.digest,
        wheel.size_bytes,
        f"Python package {wheel.name}",
        wheel.licence,
        "perimeter-install needs it on the jump host",
        wheel.version,
    )


def link_or_copy(source: Path, target: Path) -> None:
    """Puts the file ``source`` at ``target``, without copying it where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
    target.chmod(0o644)


def _collection_item(one: UnpackedCollection) -> BundleItem:
    return _item(
        ItemKind.COLLECTION,
        one.path,
        one.manifest,
        one.size_bytes,
        f"Ansible collection {one.collection.namespace}.{one.collection.name}",
        one.collection.licence,
        "the playbooks use it",
        one.version,
    )


def _item(
    kind: ItemKind,
    name: str,
    digest: Digest,
    size_bytes: int,
    source: str,
    licence: str,
    why: str,
    version: str,
) -> BundleItem:
    return BundleItem(
        kind=kind,
        name=name,
        digest=digest,
        payload=digest,
        size_bytes=size_bytes,
        platforms=(),
        source=source,
        licence=licence,
        component="",
        why=(why,),
        version=version,
    )
