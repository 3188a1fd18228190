"""Which bundles were loaded into the site's registry: their bundle.json, kept in the state folder.

An inventory asks for what they name, since no registry lists what has no tag. What they say is no
proof of anything: a thing counts only when the registry gives it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.files import list_tree, read_file, write_file
from perimeter_bundle.format.inventory import LoadedRelease
from perimeter_bundle.format.layout import BUNDLE_MANIFEST, SUMS
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, BundleManifest
from perimeter_bundle.format.sums import MAX_SUMS_BYTES
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.digest import Algorithm, Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.run.state import State


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle that was loaded, and what it names."""

    release: LoadedRelease
    manifest: BundleManifest


def remember(state: State, bundle: VerifiedBundle) -> None:
    """Writes down that every replica holds this bundle."""
    write_file(_record(state, bundle.identity), bundle.read(BUNDLE_MANIFEST), mode=0o600)


def remembered(state: State, on_event: OnEvent) -> tuple[Loaded, ...]:
    """Every bundle that was written down; what cannot be read any more is only said."""
    found = []
    for name in list_tree(state.loaded, missing_ok=True).files:
        path = state.loaded / name
        try:
            identity = Digest.parse(f"{Algorithm.SHA256.value}:{path.stem}")
            found.append(_loaded(identity, read_file(path, MAX_MANIFEST_BYTES)))
        except PerimeterError as error:
            message = f"{path} is not asked for: {error.message}"
            on_event(Event(EventKind.WARNING, "inventory", message))
    return tuple(found)


def carried(folders: Iterable[Path]) -> tuple[Loaded, ...]:
    """What bundles in these folders name; they are not verified, since nothing is installed."""
    return tuple(
        _loaded(
            Digest.of_bytes(read_file(folder / SUMS, MAX_SUMS_BYTES)),
            read_file(folder / BUNDLE_MANIFEST, MAX_MANIFEST_BYTES),
        )
        for folder in folders
    )


def _loaded(identity: Digest, data: bytes) -> Loaded:
    manifest = BundleManifest.parse(data)
    return Loaded(LoadedRelease(manifest.number, manifest.release, identity), manifest)


def _record(state: State, identity: Digest) -> Path:
    return state.loaded / f"{identity.hex}.json"
