"""The push side of the OCI distribution protocol, against one registry.

What it does, and nothing more: HEAD, cross-repository mount, upload of a blob straight from the
bundle, manifests by tag and by digest. Each call is safe to repeat.
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPResponse

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.oci import MAX_MANIFEST_BYTES
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_installer.load import refusals
from perimeter_installer.load.body import OnSent
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.upload import Habits, Upload, mount_query
from perimeter_installer.load.wire import Answer, Wire

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class SparseIndexRefused(Exception):
    """The registry wants every platform of an index before it takes the index."""


class PushClient:
    """Sends blobs and manifests to one registry; safe to use from several threads."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        *,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._wire = Wire(endpoint, sleep=sleep)
        self._habits = Habits()

    def close(self) -> None:
        """Closes every connection."""
        self._wire.connections.close()

    def cancel(self) -> None:
        """Makes running and later calls end with Cancelled within a block."""
        self._wire.cancelled.set()

    def ping(self) -> None:
        """Returns when the registry answers and lets us in; raises a PerimeterError if not."""
        answer = self._wire.send("GET", "/v2/", "ask for /v2/", expect=(200,))
        # by the text and not by its type: some registries call their "true" a page
        if answer.data.lstrip()[:1] == b"<":
            raise refusals.web_page(self.endpoint, "ask for /v2/")

    def head_blob(self, name: str, digest: Digest) -> int | None:
        """Size in bytes of a blob the registry holds in ``name``; None when it does not.

        -1 when the registry does not say.
        """
        path = f"/v2/{self.endpoint.repository(name)}/blobs/{digest}"
        what = f"look for {digest} of {name}"
        # 307: it is there, and kept elsewhere, where our login is not to go
        answer = self._wire.send("HEAD", path, what, expect=(200, 307, 404))
        if answer.status == 404:
            return None
        if answer.status == 307:
            return -1
        self._refuse_web_page(answer, what)
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else -1

    def head_manifest(self, name: str, reference: str) -> Digest | None:
        """The digest a tag or digest resolves to in ``name``; None when the registry lacks it."""
        path = f"/v2/{self.endpoint.repository(name)}/manifests/{reference}"
        what, accepts = f"look for {name} {reference}", {"Accept": ", ".join(MANIFEST_TYPES)}
        answer = self._wire.send("HEAD", path, what, expect=(200, 404), headers=accepts)
        if answer.status == 404:
            return None
        self._refuse_web_page(answer, what)
        try:
            return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except InputError:  # the header is not asked for by the specification
            data = self._wire.read(path, what, _manifest_bytes, headers=accepts)
            return None if data is None else Digest.of_bytes(data)

    def _refuse_web_page(self, answer: Answer, what: str) -> None:
        if answer.headers.get_content_type() in _PAGES:
            raise refusals.web_page(self.endpoint, what)

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Whether the registry linked a blob it holds in ``source`` into ``name``, moving nothing.

        A registry that will not opens an upload instead; that one is closed again.
        """
        query = mount_query(self._wire, digest, source)
        path = f"/v2/{self.endpoint.repository(name)}/blobs/uploads/{query}"
        answer = self._wire.send("POST", path, f"mount {digest} into {name}", expect=(201, 202))
        if answer.status == 202 and "Location" in answer.headers:
            location = self._wire.location(answer, name, path)
            self._wire.send("DELETE", location, "close an upload", expect=(200, 204, 404, 405))
        return answer.status == 201

    def push_blob(
        self,
        name: str,
        digest: Digest,
        extents: tuple[Extent, ...],
        size_bytes: int,
        on_sent: OnSent,
        *,
        source: str = "",
    ) -> bool:
        """Brings the blob that lies in ``extents`` into ``name``; the registry checks the digest.

        True when the registry linked the one it holds in ``source``, and nothing was sent. Raises
        as ``Upload.run``.
        """
        wire, habits = self._wire, self._habits
        return Upload(wire, habits, name, digest, extents, size_bytes, on_sent, source).run()

    def push_manifest(self, name: str, reference: str, media_type: str, data: bytes) -> None:
        """Stores a manifest or index under a tag or its own digest.

        Raises SparseIndexRefused when the registry misses children of an index.
        """
        path = f"/v2/{self.endpoint.repository(name)}/manifests/{reference}"
        answer = self._wire.send(
            "PUT",
            path,
            f"store {name} {reference}",
            expect=(201, 400, 404),
            headers={"Content-Type": media_type},
            body=data,
        )
        if answer.status == 201:
            return
        text = refusals.answer_text(answer.data)
        if "MANIFEST_BLOB_UNKNOWN" in text or "MANIFEST_UNKNOWN" in text:
            raise SparseIndexRefused(text[:500])
        raise refusals.refused(self.endpoint, f"store {name} {reference}", answer.status, text)


def _manifest_bytes(answer: HTTPResponse) -> bytes:
    # one byte more than there may be gives another digest
    return answer.read(MAX_MANIFEST_BYTES + 1)
