"""The push side of the OCI distribution protocol, against one registry.

What it does, and nothing more: HEAD, cross-repository mount, upload of a whole blob straight from
its file, manifests by tag and by digest. Each call is safe to repeat.
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import cast
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.model import tls
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import NetworkError
from perimeter_installer.load import refusals, retry
from perimeter_installer.load.body import BlobBody, Cancelled, OnSent, check_extents
from perimeter_installer.load.connection import connections_to
from perimeter_installer.load.endpoint import RegistryEndpoint

log = logging.getLogger(__name__)

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class SparseIndexRefused(Exception):
    """The registry wants every platform of an index before it takes the index."""


class PushClient:
    """Sends blobs and manifests to one registry; safe to use from several threads."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        *,
        sleep: Callable[[float], object] | None = None,
        connections: int = retry.CHECKS_AT_ONCE + retry.UPLOADS_AT_ONCE,
    ) -> None:
        self.endpoint = endpoint
        self._cancelled = threading.Event()
        self._sleep = sleep or self._cancelled.wait
        self._pool = connections_to(endpoint, connections)
        self._headers = {"User-Agent": "perimeter-install"}
        if endpoint.username:
            self._headers |= urllib3.make_headers(
                basic_auth=f"{endpoint.username}:{endpoint.password}"
            )

    def close(self) -> None:
        """Closes every connection."""
        self._pool.clear()

    def cancel(self) -> None:
        """Makes running and later calls end with Cancelled within a block."""
        self._cancelled.set()

    def ping(self) -> None:
        """Returns when the registry answers and lets us in; raises a PerimeterError if not."""
        self._send("GET", "/v2/", "ask", expect=(200,))

    def head_blob(self, name: str, digest: Digest) -> int | None:
        """Size in bytes of a blob the registry holds in ``name``; None when it does not."""
        path = f"/v2/{self.endpoint.repository(name)}/blobs/{digest}"
        answer = self._send("HEAD", path, f"look for {digest} of {name}", expect=(200, 404))
        if answer.status == 404:
            return None
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else -1

    def head_manifest(self, name: str, reference: str) -> Digest | None:
        """The digest a tag or digest resolves to in ``name``; None when the registry lacks it."""
        path = f"/v2/{self.endpoint.repository(name)}/manifests/{reference}"
        answer = self._send(
            "HEAD",
            path,
            f"look for {name} {reference}",
            expect=(200, 404),
            headers={"Accept": ", ".join(MANIFEST_TYPES)},
        )
        if answer.status == 404:
            return None
        text = answer.headers.get("Docker-Content-Digest", "")
        return Digest.parse(text) if text else None

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Whether the registry linked a blob it holds in ``source`` into ``name``, moving nothing.

        A registry that will not opens an upload instead; that one is closed again.
        """
        query = urlencode({"mount": str(digest), "from": self.endpoint.repository(source)})
        path = f"/v2/{self.endpoint.repository(name)}/blobs/uploads/?{query}"
        answer = self._send("POST", path, f"mount {digest} into {name}", expect=(201, 202))
        if answer.status == 202 and "Location" in answer.headers:
            location = self._location(answer, name)
            self._send("DELETE", location, "close an upload", expect=(200, 204, 404, 405))
        return answer.status == 201

    def push_blob(
        self,
        name: str,
        digest: Digest,
        extents: tuple[Extent, ...],
        size_bytes: int,
        on_sent: OnSent,
    ) -> None:
        """Sends the blob that lies in ``extents`` to ``name``; the registry checks the digest.

        Raises IntegrityError when the bytes are not ``digest``'s, HostError[registry-full]
        when the registry has no room, NetworkError after the retries.
        """
        what = f"send {digest} of {name}"
        check_extents(extents, size_bytes)

        def attempt() -> urllib3.BaseHTTPResponse:
            path = f"/v2/{self.endpoint.repository(name)}/blobs/uploads/"
            opened = self._once("POST", path, {"Content-Length": "0"})
            if opened.status != 202:
                return opened
            location = self._location(opened, name)
            separator = "&" if "?" in location else "?"
            body = BlobBody(extents, on_sent, self._cancelled)
            try:
                answer = self._once(
                    "PUT",
                    f"{location}{separator}{urlencode({'digest': str(digest)})}",
                    {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"},
                    body=body,
                    timeout_s=retry.UPLOAD_TIMEOUT_S,
                )
            except BaseException:
                body.take_back()
                self._abandon(location, name)
                raise
            if answer.status != 201:
                body.take_back()
                self._abandon(location, name)
            return answer

        self._retrying(what, attempt, expect=(201,))

    def push_manifest(self, name: str, reference: str, media_type: str, data: bytes) -> None:
        """Stores a manifest or index under a tag or its own digest.

        Raises SparseIndexRefused when the registry misses children of an index.
        """
        path = f"/v2/{self.endpoint.repository(name)}/manifests/{reference}"
        answer = self._send(
            "PUT",
            path,
            f"store {name} {reference}",
            expect=(201, 400, 404),
            headers={"Content-Type": media_type},
            body=data,
        )
        if answer.status == 201:
            return
        text = refusals.answer_text(answer)
        if "MANIFEST_BLOB_UNKNOWN" in text or "MANIFEST_UNKNOWN" in text:
            raise SparseIndexRefused(text[:500])
        raise refusals.refused(self.endpoint, f"store {name} {reference}", answer.status, text)

    # ------------------------------------------------------------------ the wire

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        expect: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        return self._retrying(
            what, lambda: self._once(method, path, headers or {}, body=body), expect=expect
        )

    def _once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BlobBody | None = None,
        timeout_s: float = retry.READ_TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        if self._cancelled.is_set():
            raise Cancelled
        return self._pool.request(
            method,
            urljoin(self.endpoint.url, path),
            headers={**self._headers, **headers},
            body=cast("Iterable[bytes] | bytes | None", body),  # our connections send pieces, too
            timeout=urllib3.Timeout(connect=retry.CONNECT_TIMEOUT_S, read=timeout_s),
            redirect=False,
            preload_content=True,
        )

    def _retrying(
        self,
        what: str,
        attempt: Callable[[], urllib3.BaseHTTPResponse],
        *,
        expect: tuple[int, ...],
    ) -> urllib3.BaseHTTPResponse:
        number = 1
        while True:
            try:
                answer = attempt()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if tls.is_untrusted(error):
                    raise refusals.untrusted(self.endpoint, error) from error
                timed_out = isinstance(error, urllib3.exceptions.ReadTimeoutError | TimeoutError)
                rule = retry.ON_TIMEOUT if timed_out else retry.ON_CONNECTION
                if number >= rule.tries:
                    raise refusals.unreachable(self.endpoint, what, error, number) from error
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.status in expect:
                    return answer
                text = refusals.answer_text(answer)
                if refusals.says_full(answer.status, text):
                    raise refusals.full(self.endpoint, what)
                status_rule = retry.BY_STATUS.get(answer.status)
                if status_rule is None or number >= status_rule.tries:
                    raise refusals.refused(self.endpoint, what, answer.status, text, tries=number)
                rule, reason = status_rule, f"status {answer.status}"
            number += 1
            wait_s = rule.wait_before(number)
            log.info(
                "%s: %s: %s; try %d in %.1f s", self.endpoint.name, what, reason, number, wait_s
            )
            self._sleep(wait_s)

    def _abandon(self, location: str, name: str) -> None:
        """Removes what a failed upload left on the registry's disc; helps when that is full.

        Distribution accepts the removal only with a location that knows how much has arrived.
        """

        def ask(method: str, where: str) -> urllib3.BaseHTTPResponse:
            timeout = urllib3.Timeout(retry.CLEANUP_TIMEOUT_S)
            return self._pool.request(method, where, headers=self._headers, timeout=timeout)

        try:
            for _ in range(retry.CLEANUP_TRIES):
                status = ask("GET", location)
                if status.status == 404:
                    return
                if status.status == 204:
                    location = self._location(status, name)
                ask("DELETE", location)
                # it may still be writing what had arrived, and makes the file again then
                time.sleep(retry.CLEANUP_WAIT_S)
        except (urllib3.exceptions.HTTPError, OSError, NetworkError) as error:
            log.info("%s keeps a half upload for some days: %s", self.endpoint.name, error)

    def _location(self, answer: urllib3.BaseHTTPResponse, name: str) -> str:
        """Where an upload goes on; the credentials never follow it to another host."""
        location = urljoin(self.endpoint.url + "/", answer.headers.get("Location", ""))
        ours, theirs = urlsplit(self.endpoint.url), urlsplit(location)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            found = f"{theirs.scheme}://{theirs.netloc}"
            raise refusals.redirected(self.endpoint, name, found)
        return location
