"""What every replica of a site's registry holds, as the inventory that the builder reads.

1. Each replica is asked for its repositories and their tags; where it does not list them, and for
   what has no tag, the names of bundles that were loaded or are given are asked for.
2. Every manifest is read, its bytes hashed, and what an index names is asked for as well.
3. Every blob that a manifest needs is asked for; with ``deep`` it is read and hashed.
4. What all replicas hold with the same size counts; what only some hold is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perimeter_bundle.format.inventory import (
    HeldRepository,
    Inventory,
    LoadedRelease,
    Uneven,
    repository_name,
)
from perimeter_bundle.format.manifest import BundleManifest
from perimeter_bundle.format.oci import Descriptor, parse_manifest
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.inventory.client import ReadClient
from perimeter_installer.load import retry
from perimeter_installer.load.at_once import Lane, at_once

MAX_DEPTH = 3  # of indexes in indexes, as verification allows
Place = tuple[str, Digest]  # repository and digest


@dataclass(slots=True)
class Held:
    """What one replica gives out, each in its repository."""

    replica: str
    manifests: dict[Place, int] = field(default_factory=dict)
    blobs: dict[Place, int] = field(default_factory=dict)


def known_names(manifests: Iterable[BundleManifest]) -> frozenset[tuple[str, str]]:
    """Repository and digest of everything that these bundles put into a registry."""
    return frozenset(
        (item.reference.name, str(item.digest))
        for manifest in manifests
        for item in manifest.items
        if item.kind.in_index
    )


def look_at(
    client: ReadClient, known: frozenset[tuple[str, str]], *, deep: bool, on_event: OnEvent
) -> Held:
    """What one replica holds; raises NetworkError, TrustError, InputError[nothing-known]."""
    looking = _Looking(client, f"inventory/{client.endpoint.name}", on_event)
    looking.find_manifests(looking.first_names(known))
    looking.ask_for_blobs(deep=deep)
    return looking.held


def combine(
    site: str, made_at: str, held: Sequence[Held], releases: Iterable[LoadedRelease], *, deep: bool
) -> Inventory:
    """The inventory of what all replicas hold alike. Pure."""
    blobs, uneven_blobs = _everywhere(held, [one.blobs for one in held])
    manifests, uneven_manifests = _everywhere(held, [one.manifests for one in held])
    names = sorted({name for name, _ in (*blobs, *manifests)})
    return Inventory(
        site=site,
        made_at=made_at,
        replicas=tuple(one.replica for one in held),
        hashed=deep,
        releases=tuple(sorted(releases)),
        repositories=tuple(
            HeldRepository(name, _of(name, blobs), _of(name, manifests)) for name in names
        ),
        uneven=tuple(sorted((*uneven_blobs, *uneven_manifests))),
    )


class _Looking:
    """The walk through one replica."""

    def __init__(self, client: ReadClient, task: str, on_event: OnEvent) -> None:
        self._client = client
        self._task = task
        self._on_event = on_event
        self._wanted: dict[Place, int] = {}
        self.held = Held(client.endpoint.name)

    def first_names(self, known: frozenset[tuple[str, str]]) -> list[tuple[str, str]]:
        """Repository and tag or digest of everything to begin with."""
        listed = self._client.repositories()
        if listed is None:
            if not known:
                raise InputError(
                    "nothing-known",
                    f"{self._client.endpoint.name} does not list its repositories, and no bundle"
                    " says what to ask for",
                    hint="name the bundles that were loaded: --bundle DIR, once for each",
                )
            self._say(EventKind.NOTE, "it lists no repositories: asking for what bundles brought")
            listed = frozenset(name for name, _ in known)
        names = sorted(name for name in listed if _is_ours(name))
        tags = at_once(self._client, self._client.tags, Lane(retry.CHECKS_AT_ONCE, names))
        found = {(name, tag) for name, some in zip(names, tags, strict=True) for tag in some}
        return sorted(found | known)

    def find_manifests(self, names: Sequence[tuple[str, str]]) -> None:
        """Reads every manifest from ``names`` downwards, level by level."""
        self._say(EventKind.START, f"{len(names)} names", total_items=len(names))
        seen: set[tuple[str, str]] = set(names)
        for _ in range(MAX_DEPTH + 1):
            found = at_once(self._client, self._read, Lane(retry.CHECKS_AT_ONCE, names))
            children: set[tuple[str, str]] = set()
            for (name, _), descriptors in zip(names, found, strict=True):
                for one in descriptors:
                    if one.is_index or one.is_manifest:
                        children.add((name, str(one.digest)))
                    else:
                        self._wanted[name, one.digest] = one.size_bytes
            names = sorted(children - seen)
            seen |= children
            if not names:
                return

    def ask_for_blobs(self, *, deep: bool) -> None:
        """Keeps of what the manifests need what is there as it must be."""
        total = sum(self._wanted.values()) if deep else None
        count = len(self._wanted)
        self._say(EventKind.START, f"{count} blobs", total_items=count, total_bytes=total)
        done = [0, 0]

        def is_held(wanted: tuple[Place, int]) -> bool:
            (name, digest), size = wanted
            good = self._is_right(name, digest, size, deep=deep)
            done[0] += 1
            done[1] += size
            self._on_event(
                Event(
                    EventKind.PROGRESS,
                    self._task,
                    done_items=done[0],
                    total_items=count,
                    done_bytes=done[1] if deep else None,
                    total_bytes=total,
                )
            )
            return good

        wanted = sorted(self._wanted.items())
        good = at_once(self._client, is_held, Lane(retry.CHECKS_AT_ONCE, wanted))
        self.held.blobs = {
            place: size for (place, size), right in zip(wanted, good, strict=True) if right
        }
        there = sum(good)
        self._say(
            EventKind.FINISH, f"{there} of {count} blobs, {len(self.held.manifests)} manifests"
        )

    def _read(self, wanted: tuple[str, str]) -> tuple[Descriptor, ...]:
        """What a manifest needs; nothing when the replica lacks it, or it is another one."""
        name, reference = wanted
        data = self._client.manifest(name, reference)
        if data is None:
            return ()
        digest = Digest.of_bytes(data)
        try:
            if ":" in reference and Digest.parse(reference).of_same_kind(data) != Digest.parse(
                reference
            ):
                self._warn(f"{name}@{reference}: its bytes are {digest}; not counted")
                return ()
            parsed = parse_manifest(data)
        except PerimeterError as error:
            self._warn(f"{name} {reference}: {error.message}; not counted")
            return ()
        self.held.manifests[name, digest] = len(data)
        return parsed.descriptors

    def _is_right(self, name: str, digest: Digest, size: int, *, deep: bool) -> bool:
        found = self._client.size_of_blob(name, digest)
        if found is None:
            return False
        if found not in (size, -1):
            self._warn(f"{name}: {digest} has {found} bytes, not {size}; not counted")
            return False
        if deep and (given := self._client.digest_of_blob(name, digest, size)) != digest:
            self._warn(f"{name}: the bytes of {digest} are {given or 'not given out'}; not counted")
            return False
        return True

    def _warn(self, message: str) -> None:
        self._on_event(Event(EventKind.WARNING, self._task, f"{self.held.replica}: {message}"))

    def _say(
        self,
        kind: EventKind,
        message: str,
        *,
        total_items: int | None = None,
        total_bytes: int | None = None,
    ) -> None:
        self._on_event(
            Event(kind, self._task, message, total_items=total_items, total_bytes=total_bytes)
        )


def _is_ours(name: str) -> bool:
    """Whether a bundle can have put it there: host and repository."""
    try:
        repository_name(name)
    except ValueError:
        return False
    return True


def _everywhere(
    held: Sequence[Held], found: Sequence[Mapping[Place, int]]
) -> tuple[dict[Place, int], list[Uneven]]:
    """What is in all of ``found`` alike, and what is not."""
    same: dict[Place, int] = {}
    uneven: list[Uneven] = []
    for place in sorted(set().union(*found)):
        sizes = {one.get(place) for one in found}
        size = next(iter(sizes))
        if len(sizes) == 1 and size is not None:
            same[place] = size
        else:
            lacking = [
                one.replica for one, there in zip(held, found, strict=True) if place not in there
            ]
            uneven.append(Uneven(*place, tuple(lacking)))
    return same, uneven


def _of(name: str, places: Mapping[Place, int]) -> dict[Digest, int]:
    return {digest: size for (repository, digest), size in places.items() if repository == name}
