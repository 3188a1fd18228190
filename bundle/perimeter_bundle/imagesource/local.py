"""An image of the builder's own, given as the registry client gives one: named, hashed, checked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from perimeter_bundle.format.oci import Descriptor, OciIndex, parse_manifest
from perimeter_bundle.imagesource.content import Content
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import EventKind, OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.manifests import FetchedManifest
from perimeter_bundle.registry.part_file import (
    PartFile,
    Wanted,
    open_part,
    transfer_error,
)
from perimeter_bundle.registry.resolve import Resolved, refuse_absurd, resolve
from perimeter_bundle.registry.retry import MIB
from perimeter_bundle.registry.stop import Stop
from perimeter_bundle.registry.transfer import (
    EVENT_EVERY_BYTES,
    Verified,
    already_there,
    transfer_event,
)


class LocalImage:
    """One image; ``open_content`` is called once, when something is asked for first.

    Safe to use from many threads. It answers for one name: whoever routes references to it knows.
    """

    def __init__(
        self, shown: str, open_content: Callable[[], Content], stop: Stop, on_event: OnEvent
    ) -> None:
        self.shown = shown
        self.on_event = on_event
        self._open_content = open_content
        self.stop = stop
        self._content: Content | None = None
        self._lock = threading.Lock()

    def resolve(self, reference: ImageReference, platforms: Sequence[Platform]) -> Resolved:
        """What it is on each of ``platforms``; raises InputError[platform-missing] too."""
        return resolve(self, reference, platforms)

    def fetch_manifest(
        self, reference: ImageReference, digest: Digest | None = None
    ) -> FetchedManifest:
        """Its manifest or index, or the one under ``digest``.

        Raises IntegrityError[moved] when it is another image than the one that was locked.
        """
        content = self._opened()
        wanted = digest or reference.digest or content.top
        if wanted != content.top and wanted not in self._members(content):
            raise IntegrityError(
                "moved",
                f"{self.shown} is not what was locked as {reference}",
                context={"locked": wanted, "found": content.top},
                hint="bring back what was locked, or lock again with --accept-moved",
            )
        return self._manifest(content, wanted)

    def fetch_small_blob(
        self, reference: ImageReference, descriptor: Descriptor, limit_bytes: int
    ) -> bytes:
        """The bytes of a blob that fits into memory; raises IntegrityError."""
        stream, size = self._opened().open_blob(descriptor.digest)
        with stream:
            self._refuse_size(descriptor, size)
            if size > limit_bytes:
                raise IntegrityError(
                    "absurd-size",
                    f"refused {self.shown}: {descriptor.digest} is larger than it may be",
                    context={"promised": f"{size} bytes", "limit": limit_bytes},
                )
            data = stream.read(size + 1)
        self._refuse_other(descriptor.digest.of_same_kind(data), descriptor.digest, len(data))
        return data

    def fetch_blob(
        self,
        reference: ImageReference,
        descriptor: Descriptor,
        target: Path,
        on_event: OnEvent | None = None,
        *,
        verified: Verified | None = None,
    ) -> int:
        """Copies a blob to ``target``, hashed on the way; gives back its size.

        Raises IntegrityError[digest-mismatch], [size-mismatch], HostError as a download does.
        """
        refuse_absurd(descriptor, reference)
        report = on_event or self.on_event
        short = descriptor.digest.hex[:12]
        wanted = Wanted(f"{reference.name}@{short}", descriptor.digest, descriptor.size_bytes)
        present = already_there(target, wanted, verified, self.stop.check, report)
        if present is not None:
            report(transfer_event(EventKind.SKIP, wanted, present))
            return present
        target.parent.mkdir(parents=True, exist_ok=True)
        part = open_part(target, wanted, self.stop.check)
        try:
            report(transfer_event(EventKind.START, wanted, 0))
            self._copy(descriptor, part, wanted, report)
            part.settle()
            part.path.replace(target)
        except OSError as error:
            raise transfer_error(error, target, wanted, part.bytes_on_disc) from error
        finally:
            os.close(part.descriptor)
        if verified is not None:
            verified.add(target)
        report(transfer_event(EventKind.FINISH, wanted, part.bytes_done))
        return part.bytes_done

    def _copy(
        self, descriptor: Descriptor, part: PartFile, wanted: Wanted, report: OnEvent
    ) -> None:
        part.start_over(descriptor.digest)  # reading again costs less than trusting what is there
        stream, size = self._opened().open_blob(descriptor.digest)
        with stream:
            self._refuse_size(descriptor, size)
            while data := stream.read(MIB):
                self.stop.check()
                part.write(data)
                if part.bytes_done - part.reported_bytes >= EVENT_EVERY_BYTES:
                    part.reported_bytes = part.bytes_done
                    report(transfer_event(EventKind.PROGRESS, wanted, part.bytes_done))
        found = part.digest()
        if found != descriptor.digest:
            part.path.unlink(missing_ok=True)
        self._refuse_other(found, descriptor.digest, part.bytes_done)

    def _opened(self) -> Content:
        with self._lock:
            if self._content is None:
                self._content = self._open_content()
            return self._content

    def _manifest(self, content: Content, digest: Digest) -> FetchedManifest:
        raw = content.manifest(digest)
        self._refuse_other(digest.of_same_kind(raw), digest, len(raw))
        try:
            parsed = parse_manifest(raw)
        except IntegrityError as error:
            raise IntegrityError(
                "bad-manifest",
                f"{self.shown}: {error.message}",
                problems=error.problems,
                context={"digest": digest},
                hint="make the image again",
            ) from error
        return FetchedManifest(digest, parsed.media_type, raw, parsed)

    def _members(self, content: Content) -> set[Digest]:
        top = self._manifest(content, content.top).parsed
        return {one.digest for one in top.manifests} if isinstance(top, OciIndex) else set()

    def _refuse_size(self, descriptor: Descriptor, found: int) -> None:
        if found != descriptor.size_bytes:
            raise IntegrityError(
                "size-mismatch",
                f"refused {self.shown}: a size in its manifest is wrong",
                context={
                    "blob": descriptor.digest,
                    "promised": f"{descriptor.size_bytes} bytes",
                    "found": f"{found} bytes",
                },
                hint="it was cut off or damaged: make it again",
            )

    def _refuse_other(self, found: Digest, expected: Digest, size: int) -> None:
        if found != expected:
            raise IntegrityError(
                "digest-mismatch",
                f"refused {self.shown}: a blob is not what its name says",
                context={"expected": expected, "found": f"{found} after {size} bytes"},
                hint="it was cut off or damaged: make it again",
            )
