"""Everything a lock pins → blobs in the workspace, by digest alone; the largest first."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from perimeter_bundle.collect.fetch import mirrored
from perimeter_bundle.collect.scheduler import FetchTask, fetch_all
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import is_made
from perimeter_bundle.collect.workspace import Workspace
from perimeter_bundle.format.files import read_file, write_file
from perimeter_bundle.format.oci import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    ImageManifest,
    OciIndex,
    parse_manifest,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.model.lock import Lock, LockedChart, LockedFile, LockedImage
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.endpoints import endpoints_for


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image's manifests as they lie in the workspace, and every blob they need."""

    locked: LockedImage
    top: Descriptor
    manifests: tuple[Descriptor, ...]  # without ``top`` when that is a single manifest
    blobs: tuple[Descriptor, ...]
    source: ImageReference  # where blobs that are not there yet are fetched

    @property
    def sizes(self) -> dict[Digest, int]:
        """Size of everything it consists of, by digest."""
        return {one.digest: one.size_bytes for one in (self.top, *self.manifests, *self.blobs)}


def check_tags(lock: Lock, upstream: Upstream) -> None:
    """Raises IntegrityError[tag-moved] when a tag stands for something else than in the lock."""
    tagged = [image for image in lock.images if image.place.tag and not image.built]

    def moved(image: LockedImage) -> str:
        plain = image.place.without_digest()
        now = upstream.images.fetch_manifest(plain).digest
        return "" if now == image.digest else f"{plain}: locked {image.digest}, now {now}"

    jobs = {str(image.reference): partial(moved, image) for image in tagged}
    problems = [
        problem for problem in run_all(jobs, upstream, "check tags", are_small=True) if problem
    ]
    if problems:
        raise IntegrityError(
            "tag-moved",
            f"{len(problems)} tags moved since the lock was written",
            problems=problems,
            hint="look at what changed, then lock again with --accept-moved; "
            "or build what is locked with --skip-tag-check",
        )


def pull_images(lock: Lock, upstream: Upstream, workspace: Workspace) -> tuple[PulledImage, ...]:
    """The manifests of every image, written to the workspace; no layer yet.

    Raises NetworkError, IntegrityError[lock-contradicted].
    """
    jobs = {
        str(image.reference): partial(_pull_manifests, image, upstream, workspace)
        for image in lock.images
        if not image.built
    }
    found = run_all(jobs, upstream, "manifests", are_small=True)
    # written by one thread: two images may share a manifest
    for _, texts in found:
        for digest, data in texts.items():
            write_file(workspace.blob(digest), data, flushed=False)
    return tuple(image for image, _ in found)


def pull_blobs(
    lock: Lock,
    images: tuple[PulledImage, ...],
    upstream: Upstream,
    workspace: Workspace,
    on_event: OnEvent,
    more: Sequence[FetchTask] = (),
    left_out: Set[Digest] = frozenset(),
) -> None:
    """Every layer, configuration, chart and file that is not there yet, and ``more``.

    Nothing of ``left_out`` is fetched. All of it is on the disc when this returns.
    """
    tasks = list(more)
    tasks += [
        FetchTask(
            str(blob.digest),
            f"{image.source.name}@{blob.digest.hex[:12]}",
            blob.size_bytes,
            partial(_fetch_blob, image.source, blob, upstream, workspace),
            _host_of(f"oci://{image.source}", upstream),
        )
        for image in images
        for blob in image.blobs
        if blob.digest not in left_out
    ]
    charts = (chart for chart in lock.charts if not chart.is_packed_here)
    entries: tuple[LockedChart | LockedFile, ...] = (*charts, *lock.files)
    for entry in entries:
        if entry.digest and entry.digest not in left_out and not is_made(entry.url):
            tasks.append(
                FetchTask(
                    str(entry.digest),
                    str(entry.reference),
                    entry.size_bytes,
                    partial(_fetch_entry, entry, entry.digest, upstream, workspace),
                    _host_of(entry.url, upstream),
                )
            )
    fetch_all(
        tasks,
        upstream.workers,
        on_event,
        small_workers=upstream.small_workers,
        stop=upstream.stop,
        task_name="fetch",
    )
    workspace.journal.flush()


def _pull_manifests(
    image: LockedImage, upstream: Upstream, workspace: Workspace
) -> tuple[PulledImage, dict[Digest, bytes]]:
    """The image and the bytes of its manifests."""
    digest = _digest_of(image)
    top_bytes = _manifest(image.place, digest, upstream, workspace)
    texts = {digest: top_bytes}
    top = parse_manifest(top_bytes)
    if top.media_type != image.media_type:
        raise _contradicted(image, f"it is {top.media_type}, locked as {image.media_type}")
    if isinstance(top, ImageManifest):
        if set(image.manifests.values()) != {digest}:
            raise _contradicted(image, "it is a single manifest, locked as an index")
        described = Descriptor(top.media_type, digest, len(top_bytes))
        return PulledImage(image, described, (), _unique(top.descriptors), image.place), texts
    manifests: list[Descriptor] = []
    blobs: list[Descriptor] = []
    for platform, wanted in sorted(image.manifests.items()):
        member = next((entry for entry in top.manifests if entry.digest == wanted), None)
        if member is None:
            raise _contradicted(image, f"its index has no {wanted} ({platform})")
        data = texts[wanted] = _manifest(image.place, wanted, upstream, workspace)
        parsed = parse_manifest(data)
        if isinstance(parsed, OciIndex):
            raise _contradicted(image, f"{wanted} ({platform}) is an index")
        manifests.append(Descriptor(parsed.media_type, wanted, len(data)))
        blobs += parsed.descriptors
    described = Descriptor(top.media_type, digest, len(top_bytes))
    return PulledImage(image, described, _unique(manifests), _unique(blobs), image.place), texts


def _manifest(
    reference: ImageReference, digest: Digest, upstream: Upstream, workspace: Workspace
) -> bytes:
    """A manifest's bytes: those that are there when they are right, else upstream's."""
    path = workspace.blob(digest)
    if path.is_file():
        data = read_file(path, MAX_MANIFEST_BYTES)
        if digest.of_same_kind(data) == digest:
            return data
    return upstream.images.fetch_manifest(reference, digest).raw


def _fetch_blob(
    reference: ImageReference,
    blob: Descriptor,
    upstream: Upstream,
    workspace: Workspace,
) -> None:
    upstream.images.fetch_blob(
        reference, blob, workspace.blob(blob.digest), verified=workspace.journal
    )


def _fetch_entry(
    entry: LockedChart | LockedFile,
    digest: Digest,
    upstream: Upstream,
    workspace: Workspace,
) -> None:
    target = workspace.blob(digest)
    if entry.url.startswith("oci://"):
        reference = ImageReference.parse(entry.url.removeprefix("oci://"))
        layer = Descriptor("", digest, entry.size_bytes)
        upstream.images.fetch_blob(reference, layer, target, verified=workspace.journal)
    else:
        upstream.files.fetch(
            entry.url,
            target,
            digest,
            entry.size_bytes,
            task=str(entry.reference),
            verified=workspace.journal,
        )


def _host_of(url: str, upstream: Upstream) -> str:
    """Which host is asked first for it."""
    settings = upstream.files.settings
    if url.startswith("oci://"):
        reference = ImageReference.parse(url.removeprefix("oci://"))
        return urlsplit(endpoints_for(reference, settings)[0].base).netloc
    return urlsplit(mirrored(url, settings)[0]).netloc


def _digest_of(image: LockedImage) -> Digest:
    if image.digest is None:
        raise AssertionError("check_lock refuses unresolved locks")
    return image.digest


def _unique(found: list[Descriptor] | tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    return tuple({one.digest: one for one in found}.values())


def _contradicted(image: LockedImage, reason: str) -> IntegrityError:
    return IntegrityError(
        "lock-contradicted",
        f"{image.reference}: {reason}",
        hint="the lock was edited, or written by another version: lock again",
    )
