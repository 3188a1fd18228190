"""One blob on its way into one repository.

1. Small ones in a single POST where the registry takes that; Distribution does not, and says so.
2. Others in one PUT, straight from the bundle.
3. When that is cut or refused as too large: in parts, each asked for again where it was cut. What
   had arrived stays there. A registry that takes no parts is asked for 2 again.
The registry checks the digest at the end of each, whatever the way.
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.model.digest import Digest
from perimeter_installer.load import refusals, retry
from perimeter_installer.load.body import BlobBody, OnSent, check_extents, part_of
from perimeter_installer.load.chunks import ChunkSize
from perimeter_installer.load.wire import LINE_FAILURES, Answer, Tries, Wire

log = logging.getLogger(__name__)

_BYTES = {"Content-Type": "application/octet-stream"}
# a proxy's answers that a shorter request may not get
_CUT_SHORT = frozenset({408, 413, 502, 504})
# there is no such method here
_NOT_DONE_HERE = frozenset({405, 501})
_ARRIVED = re.compile(r"(?:bytes[ =])?0-(\d+)")


@dataclass(slots=True)
class Habits:
    """What was learned about one registry while sending to it."""

    chunk: ChunkSize = field(default_factory=ChunkSize)
    takes_single_post: bool = True
    takes_parts: bool = True


class _Cut(Exception):
    """The whole blob did not pass; parts of it may."""


class _NoParts(Exception):
    """The registry takes blobs whole only."""


class Upload:
    """Sends the blob that lies in ``extents`` to ``name``."""

    def __init__(
        self,
        wire: Wire,
        habits: Habits,
        name: str,
        digest: Digest,
        extents: tuple[Extent, ...],
        size_bytes: int,
        on_sent: OnSent,
        source: str = "",
    ) -> None:
        self._wire = wire
        self._habits = habits
        self._name = name
        self._extents = extents
        self._size_bytes = size_bytes
        self._on_sent = on_sent
        self._what = f"send {digest} of {name}"
        self._uploads = f"/v2/{wire.endpoint.repository(name)}/blobs/uploads/"
        self._blob = f"/v2/{wire.endpoint.repository(name)}/blobs/{digest}"
        self._with_digest = urlencode({"digest": str(digest)})
        self._mount = mount_query(wire, digest, source) if source else ""
        self._is_linked = False
        self._location = ""  # of the upload that is open
        self._least_part_bytes = 0
        self._was_cut = False
        self._counted_bytes = 0

    def run(self) -> bool:
        """Returns when the registry has the blob: whether it linked the one in ``source``.

        Raises IntegrityError when the bytes are not the digest's, HostError[registry-full] when
        there is no room, NetworkError after the retries, Cancelled.
        """
        check_extents(self._extents, self._size_bytes)
        if self._passes_whole():
            return self._is_linked
        try:
            self._send_in_parts()
        except _NoParts:
            log.info("%s takes no parts; %s again, whole", self._wire.endpoint.name, self._what)
            self._habits.takes_parts = False
            self._give_up_whole(False)
            self._passes_whole()
        except BaseException:
            self._abandon()
            raise
        return self._is_linked

    # ------------------------------------------------------------------ 1, 2: whole

    def _passes_whole(self) -> bool:
        """False when it may pass in parts only."""
        if self._habits.takes_parts and self._habits.chunk.splits(self._size_bytes):
            return False
        try:
            self._wire.retrying(self._what, self._send_whole, expect=(201,))
        except _Cut:
            log.info("%s: %s was cut; on in parts", self._wire.endpoint.name, self._what)
            return False
        return True

    def _send_whole(self) -> Answer:
        answer = self._post_whole() or self._open()
        if answer.status != 202:
            return answer
        body = self._body(0, self._size_bytes)
        try:
            answer = self._close(body, self._size_bytes)
        except BaseException as error:
            self._give_up_whole(body.is_started and isinstance(error, LINE_FAILURES))
            raise
        if answer.status != 201:
            refused = answer.status == 413
            self._give_up_whole(answer.status in _CUT_SHORT, refused=refused)
        return answer

    def _post_whole(self) -> Answer | None:
        """The answer to a POST that holds the blob; None where that is not to be tried."""
        if self._size_bytes > retry.SINGLE_POST_BYTES or not self._habits.takes_single_post:
            return None
        if self._mount:
            return None
        body = self._body(0, self._size_bytes)
        headers = {**_BYTES, "Content-Length": str(self._size_bytes)}
        try:
            answer = self._wire.once(
                "POST", f"{self._uploads}?{self._with_digest}", headers, body=body
            )
        except BaseException:
            self._count_as(0)
            raise
        if answer.status == 201:
            return answer
        self._count_as(0)
        self._habits.takes_single_post = False
        if answer.status != 202:
            return None
        self._opened(answer)
        return answer

    def _give_up_whole(self, is_cut: bool, *, refused: bool = False) -> None:
        """Clears up after a try that failed; raises _Cut when parts may pass."""
        self._count_as(0)
        if is_cut and self._habits.takes_parts and self._size_bytes > retry.SMALLEST_CHUNK_BYTES:
            self._was_cut = not refused
            self._habits.chunk.cut(self._size_bytes, refused=refused)
            raise _Cut
        self._abandon()

    # ------------------------------------------------------------------ 3: in parts

    def _send_in_parts(self) -> None:
        self._send_parts(self._ask_arrived())
        if self._is_linked:
            return
        answer = self._wire.retrying(self._what, self._close_or_find, expect=(200, 201, 400))
        if answer.status == 400 and self._was_cut:
            # what a broken connection still held may have been written between two parts
            self._was_cut = False
            self._abandon()
            self._send_parts(None)
            answer = self._wire.retrying(self._what, self._close_or_find, expect=(200, 201, 400))
        if answer.status == 400:
            text = refusals.answer_text(answer.data)
            raise refusals.refused(self._wire.endpoint, self._what, answer.status, text)

    def _send_parts(self, arrived: int | None) -> None:
        """Returns when every byte has arrived, ``arrived`` of them before."""
        tries, opened = Tries(self._wire, self._what), 0
        while arrived is None or arrived < self._size_bytes:
            if arrived is None:  # no such upload, or no longer
                opened += 1
                if opened > retry.UPLOADS_LOST:
                    raise refusals.upload_lost(self._wire.endpoint, self._what)
                self._wire.retrying(self._what, self._open, expect=(201, 202))
                if self._is_linked:
                    return
                arrived = 0
            before = arrived
            arrived = self._send_part(before, tries)
            self._count_as(arrived or 0)
            if arrived is not None and arrived > before:
                tries = Tries(self._wire, self._what)

    def _send_part(self, start: int, tries: Tries) -> int | None:
        """How much has arrived after one more part; None when the upload is gone."""
        chunk = self._habits.chunk
        size = min(max(chunk.size_bytes, self._least_part_bytes), self._size_bytes - start)
        try:
            answer = self._wire.once(
                "PATCH",
                self._location,
                {
                    **_BYTES,
                    "Content-Length": str(size),
                    "Content-Range": f"{start}-{start + size - 1}",
                },
                body=self._body(start, size),
                timeout_s=retry.UPLOAD_TIMEOUT_S,
            )
        except LINE_FAILURES as error:
            chunk.cut(size)
            self._was_cut = True
            tries.wait_after_silence(error)
            return self._ask_arrived()
        if answer.status in (202, 204):
            self._location = self._wire.location(answer, self._name, self._location)
            chunk.passed(size)
            return _arrived(answer, start + size)
        if answer.status == 404:
            self._location = ""
            return None
        if answer.status in _NOT_DONE_HERE:
            raise _NoParts
        refused = answer.status == 413
        if answer.status in _CUT_SHORT:
            chunk.cut(size, refused=refused)
        if not refused or size <= retry.SMALLEST_CHUNK_BYTES:
            tries.wait_after_answer(answer)
        return self._ask_arrived()

    def _ask_arrived(self) -> int | None:
        """How many bytes the registry has of the upload; None when there is none.

        Asks until the answer stays: after a cut it may still be writing.
        """
        before = -1
        for _ in range(retry.SETTLE_TRIES if self._location else 0):
            statuses = (200, 202, 204, 400, 404, 405)
            answer = self._wire.send("GET", self._location, self._what, expect=statuses)
            if answer.status >= 400:
                self._location = ""
                return None
            self._location = self._wire.location(answer, self._name, self._location)
            arrived = _arrived(answer, 0)
            if arrived == before or not self._was_cut:
                return arrived
            before = arrived
            time.sleep(retry.SETTLE_S)
        return before if self._location else None

    # ------------------------------------------------------------------ the requests

    def _open(self) -> Answer:
        """Opens an upload; a registry that holds the blob in ``source`` links it instead."""
        answer = self._wire.once("POST", self._uploads + self._mount, {"Content-Length": "0"})
        self._is_linked = bool(self._mount) and answer.status == 201
        if answer.status == 202:
            self._opened(answer)
        if answer.status < 500:
            self._mount = ""
        return answer

    def _opened(self, answer: Answer) -> None:
        if "Location" not in answer.headers:
            raise refusals.unplaced_upload(self._wire.endpoint, self._what)
        self._location = self._wire.location(answer, self._name, self._uploads)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        self._least_part_bytes = int(least) if least.isdecimal() else 0

    def _close(self, body: BlobBody | None, size_bytes: int) -> Answer:
        return self._wire.once(
            "PUT",
            f"{self._location}{'&' if '?' in self._location else '?'}{self._with_digest}",
            {**_BYTES, "Content-Length": str(size_bytes)},
            body=body,
            timeout_s=retry.UPLOAD_TIMEOUT_S,
        )

    def _close_or_find(self) -> Answer:
        """Closes the upload; where only the answer was lost, the blob is there."""
        answer = self._close(None, 0)
        if answer.status in (200, 404):  # 201 is the answer to a blob that was stored
            return self._wire.once("HEAD", self._blob, {})
        return answer

    def _body(self, start: int, size_bytes: int) -> BlobBody:
        part = part_of(self._extents, start, size_bytes)
        return BlobBody(part, self._count, self._wire.cancelled)

    def _abandon(self) -> None:
        if self._location:
            self._wire.abandon(self._location, self._name)
        self._location = ""

    # ------------------------------------------------------------------ progress

    def _count(self, count: int) -> None:
        self._counted_bytes += count
        self._on_sent(count)

    def _count_as(self, arrived: int) -> None:
        """Corrects what was counted while sending by what really arrived."""
        if arrived != self._counted_bytes:
            self._count(arrived - self._counted_bytes)


def mount_query(wire: Wire, digest: Digest, source: str) -> str:
    """What asks a registry to link a blob it holds in ``source``."""
    found = urlencode({"mount": str(digest), "from": wire.endpoint.repository(source)})
    return f"?{found}"


def _arrived(answer: Answer, otherwise: int) -> int:
    """Bytes that have arrived by the answer's Range; ``0-0`` stands for none."""
    found = _ARRIVED.fullmatch(answer.headers.get("Range", ""))
    if found is None:
        return otherwise
    return int(found[1]) + 1 if int(found[1]) else 0
