"""Fills one replica: looks what is there, sends the rest, and looks again.

1. Ask for every manifest, then for the blobs of each repository that lacks one. A registry has the
   blobs of a manifest: they were stored first. ``deep`` asks for every blob all the same.
2. Send missing blobs, large and small ones side by side, each biggest first; a blob that is in one
   repository already is linked into the others.
3. Store manifests, those of platforms before the indexes that name them.
4. Ask again if anything was stored: every name must resolve to the bundle's digest.
Killed at any moment, the next run finds at 1 what was finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.oci import parse_manifest
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.load import retry
from perimeter_installer.load.at_once import Lane, at_once
from perimeter_installer.load.body import read_extents
from perimeter_installer.load.content import BlobNeed, Content, ManifestNeed
from perimeter_installer.load.registry import PushClient, SparseIndexRefused
from perimeter_installer.load.report import ReplicaReport
from perimeter_installer.load.room import refuse_without_room

BlobExtents = Callable[[Digest], tuple[Extent, ...]]
Accepted = Callable[[ManifestNeed], tuple[Digest, ...]]


@dataclass(frozen=True, slots=True)
class Missing:
    """What a replica lacks: for each blob the names without it, and manifests in order."""

    blobs: tuple[tuple[BlobNeed, tuple[str, ...]], ...]
    manifests: tuple[ManifestNeed, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the blobs that are in none of their repositories."""
        return sum(need.size_bytes for need, names in self.blobs if names == need.names)


def survey(client: PushClient, content: Content, accepted: Accepted, *, deep: bool) -> Missing:
    """What the replica lacks of ``content``; raises HostError[damaged-blob] for a wrong size.

    ``accepted`` says which digests a name may resolve to. Without ``deep`` only repositories that
    lack a manifest are asked for their blobs.
    """

    def manifest_lacks(need: ManifestNeed) -> bool:
        return client.head_manifest(need.name, need.reference) not in accepted(need)

    def blob_lacks(need: BlobNeed) -> tuple[str, ...]:
        lacking = []
        for name in need.names:
            if not deep and name not in doubtful:
                continue
            found_bytes = client.head_blob(name, need.digest)
            if found_bytes is None:
                lacking.append(name)
            elif found_bytes not in (need.size_bytes, -1):
                raise _damaged(client, name, need, found_bytes)
        return tuple(lacking)

    asked = Lane(retry.CHECKS_AT_ONCE, content.manifests)
    absent = at_once(client, manifest_lacks, asked)
    manifests = tuple(need for need, lacks in zip(content.manifests, absent, strict=True) if lacks)
    doubtful = {need.name for need in manifests}
    blobs = content.blobs if deep or doubtful else ()
    lacking = at_once(client, blob_lacks, Lane(retry.CHECKS_AT_ONCE, blobs))
    return Missing(
        blobs=tuple((need, names) for need, names in zip(blobs, lacking, strict=True) if names),
        manifests=manifests,
    )


def check_replica(client: PushClient, content: Content) -> ReplicaReport:
    """What the replica lacks, every blob looked at; changes nothing."""
    missing = survey(client, content, _or_platform, deep=True)
    lacking = {str(need) for need in missing.manifests}
    short = {name for _, names in missing.blobs for name in names}
    short |= {need.name for need in missing.manifests if not need.is_named}
    return ReplicaReport(
        name=client.endpoint.name,
        url=client.endpoint.url,
        names=len(content.names),
        blobs_present=len(content.blobs) - len(missing.blobs),
        missing=tuple(
            str(need) for need in content.names if str(need) in lacking or need.name in short
        ),
        missing_bytes=missing.bytes,
    )


def fill_replica(
    client: PushClient,
    content: Content,
    blob_extents: BlobExtents,
    on_event: OnEvent,
    *,
    deep: bool = False,
    free_bytes: int | None = None,
) -> ReplicaReport:
    """Sends what the replica lacks and proves that every name resolves to the bundle's digest.

    Raises what PushClient raises, HostError[registry-full] before the first byte when more is
    missing than ``free_bytes``, and IntegrityError[name-mismatch] when the last look fails.
    """
    progress = _Progress(client.endpoint.name, on_event)
    client.ping()
    missing = survey(client, content, _exactly, deep=deep)
    refuse_without_room(client.endpoint, missing.bytes, free_bytes)
    progress.start(content, missing)
    counts = _Counts()

    def send(work: tuple[BlobNeed, tuple[str, ...]]) -> None:
        need, names = work
        _send_blob(client, need, names, blob_extents(need.digest), progress, counts)

    large = [work for work in missing.blobs if work[0].size_bytes >= retry.LARGE_BYTES]
    small = missing.blobs[len(large) :]  # biggest first
    at_once(client, send, Lane(retry.LARGE_AT_ONCE, large), Lane(retry.SMALL_AT_ONCE, small))
    for depth in sorted({need.depth for need in missing.manifests}):
        level = [need for need in missing.manifests if need.depth == depth]
        at_once(
            client,
            lambda need: _store_manifest(client, need, blob_extents, progress, counts),
            Lane(retry.CHECKS_AT_ONCE, level),
        )
    if missing.blobs or missing.manifests:
        _prove(client, content)
    progress.finish(counts)
    return ReplicaReport(
        name=client.endpoint.name,
        url=client.endpoint.url,
        names=len(content.names),
        blobs_sent=counts.sent,
        blobs_mounted=counts.mounted,
        blobs_present=len(content.blobs) - len(missing.blobs),
        bytes_sent=counts.bytes,
        manifests_stored=counts.manifests,
        without_index=tuple(sorted(counts.without_index)),
    )


@dataclass(slots=True)
class _Counts:
    """What was done so far; guarded by ``lock``."""

    sent: int = 0
    mounted: int = 0
    bytes: int = 0
    manifests: int = 0
    without_index: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Progress:
    """Turns bytes of several threads into events with absolute numbers."""

    def __init__(self, replica: str, on_event: OnEvent) -> None:
        self._task, self._replica = f"registry/{replica}", replica
        self._on_event = on_event
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._done_items = 0
        self._total_items = 0
        self._said_s = 0.0

    def start(self, content: Content, missing: Missing) -> None:
        self._total, self._total_items = missing.bytes, len(missing.blobs)
        if not missing.blobs and not missing.manifests:
            return
        self._on_event(
            Event(
                EventKind.START,
                self._task,
                f"{len(missing.blobs)} of {len(content.blobs)} blobs to send",
                done_bytes=0,
                total_bytes=self._total,
                done_items=0,
                total_items=self._total_items,
                host=self._replica,
            )
        )

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._tell()

    def blob_is_there(self) -> None:
        """One blob is in all its repositories; the last one is always told."""
        with self._lock:
            self._done_items += 1
            self._tell(now=self._done_items == self._total_items)

    def _tell(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s < retry.BETWEEN_EVENTS_S and not now:
            return
        self._said_s = now_s
        event = Event(
            EventKind.PROGRESS,
            self._task,
            done_bytes=self._done,
            total_bytes=self._total,
            done_items=self._done_items,
            total_items=self._total_items,
            host=self._replica,
        )
        self._on_event(event)

    def note(self, message: str) -> None:
        with self._lock:
            self._on_event(Event(EventKind.WARNING, self._task, message))

    def finish(self, counts: _Counts) -> None:
        if counts.sent or counts.mounted or counts.manifests:
            message = (
                f"{counts.sent} blobs sent, {counts.mounted} linked, "
                f"{counts.manifests} manifests stored; every name resolves"
            )
            self._on_event(Event(EventKind.FINISH, self._task, message, done_bytes=self._done))
        else:
            self._on_event(Event(EventKind.SKIP, self._task, "everything is there already"))


def _send_blob(
    client: PushClient,
    need: BlobNeed,
    names: tuple[str, ...],
    extents: tuple[Extent, ...],
    progress: _Progress,
    counts: _Counts,
) -> None:
    """Brings one blob into each of ``names``: by a link where possible, else by sending it."""
    source = next((name for name in need.names if name not in names), "")
    for name in names:
        is_linked = client.push_blob(
            name, need.digest, extents, need.size_bytes, progress.add, source=source
        )
        with counts.lock:
            if is_linked:
                counts.mounted += 1
            else:
                counts.sent += 1
                counts.bytes += need.size_bytes
        source = source or name
    progress.blob_is_there()


def _store_manifest(
    client: PushClient,
    need: ManifestNeed,
    blob_extents: BlobExtents,
    progress: _Progress,
    counts: _Counts,
) -> None:
    data = _manifest_bytes(blob_extents, need.digest)
    try:
        client.push_manifest(need.name, need.reference, need.media_type, data)
    except SparseIndexRefused as refusal:
        if not need.sparse or need.instead is None:
            raise IntegrityError(
                "manifest-refused",
                f"{client.endpoint.name} says that parts of {need} are missing",
                context={"answer": refusal},
                hint="load again; if it stays, the registry loses what it was sent",
            ) from refusal
        stored = _store_platform_instead(client, need, need.instead, blob_extents)
        progress.note(
            f"{client.endpoint.name} takes no index with missing platforms: "
            f"{need} stands for one platform there"
        )
        with counts.lock:
            counts.without_index.append(str(need))
            counts.manifests += stored
        return
    with counts.lock:
        counts.manifests += 1


def _store_platform_instead(
    client: PushClient, need: ManifestNeed, platform: Digest, blob_extents: BlobExtents
) -> int:
    """Lets the name stand for one platform; how many manifests had to be stored for it."""
    if client.head_manifest(need.name, need.reference) == platform:
        return 0
    data = _manifest_bytes(blob_extents, platform)
    client.push_manifest(need.name, need.reference, parse_manifest(data).media_type, data)
    return 1


def _manifest_bytes(blob_extents: BlobExtents, digest: Digest) -> bytes:
    """A manifest's bytes, hashed again: they are small, and media fail."""
    extents = blob_extents(digest)
    data = read_extents(extents)
    found = digest.of_same_kind(data)
    if found != digest:
        raise IntegrityError(
            "digest-mismatch",
            f"{extents[0].path} changed since the bundle was verified",
            context={"expected": digest, "found": found},
            hint="verify the bundle again; the medium may be damaged",
        )
    return data


def _prove(client: PushClient, content: Content) -> None:
    def resolves_to(need: ManifestNeed) -> Digest | None:
        return client.head_manifest(need.name, need.reference)

    found = at_once(client, resolves_to, Lane(retry.CHECKS_AT_ONCE, content.names))
    wrong = [
        f"{need}: expected {need.digest}, found {digest or 'nothing'}"
        for need, digest in zip(content.names, found, strict=True)
        if digest not in _or_platform(need)
    ]
    if wrong:
        raise IntegrityError(
            "name-mismatch",
            f"names on {client.endpoint.name} do not resolve to the bundle's digests",
            problems=wrong,
            hint="does somebody else write to this registry?",
        )


def _exactly(need: ManifestNeed) -> tuple[Digest, ...]:
    return (need.digest,)


def _or_platform(need: ManifestNeed) -> tuple[Digest, ...]:
    """The bundle's digest, or the platform's where a registry took no sparse index."""
    return (need.digest, need.instead) if need.instead else (need.digest,)


def _damaged(client: PushClient, name: str, need: BlobNeed, found_bytes: int) -> HostError:
    return HostError(
        "damaged-blob",
        f"{client.endpoint.name} holds a damaged {need.digest} of {name}",
        context={"expected": f"{need.size_bytes} bytes", "found": f"{found_bytes} bytes"},
        hint="remove this blob's folder below the registry's data folder and load again --deep",
    )
