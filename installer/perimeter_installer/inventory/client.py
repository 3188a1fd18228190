"""The reading side of the OCI distribution protocol, against one replica; every answer is bounded.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Final
from urllib.parse import urlsplit

from perimeter_bundle.format.oci import MAX_MANIFEST_BYTES
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import NetworkError, PerimeterError
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.registry import MANIFEST_TYPES
from perimeter_installer.load.wire import Wire

MAX_PAGE_BYTES: Final = 4 * MIB
MAX_PAGES: Final = 10_000
MAX_NAMES: Final = 200_000
_NEXT = re.compile(r"<([^<>]{1,4096})>[^,]*;\s*rel=\"?next\"?", re.IGNORECASE)
_NO_LIST = ("400", "405", "501")  # beside 401, 403 and 404: registries without such a list


class ReadClient:
    """Asks one replica what it holds; safe to use from several threads."""

    def __init__(
        self, endpoint: RegistryEndpoint, *, sleep: Callable[[float], object] | None = None
    ) -> None:
        self.endpoint = endpoint
        accept = {"Accept": ", ".join(MANIFEST_TYPES)}
        self._wire = Wire(endpoint, sleep=sleep, headers=accept, actions="pull")

    def close(self) -> None:
        """Closes every connection."""
        self._wire.connections.close()

    def cancel(self) -> None:
        """Makes running and later calls end with Cancelled."""
        self._wire.cancelled.set()

    def repositories(self) -> frozenset[str] | None:
        """Names as images have them; None when the registry does not list its repositories."""
        prefix = self.endpoint.prefix
        try:
            found = self._names("/v2/_catalog", "repositories", "list the repositories")
        except PerimeterError as error:
            if error.code == "registry-login" or error.context.get("status") in _NO_LIST:
                return None
            raise
        if found is None:
            return None
        return frozenset(name[len(prefix) :] for name in found if name.startswith(prefix))

    def tags(self, name: str) -> frozenset[str]:
        """Every tag of a repository; none when there is no such repository."""
        path = f"/v2/{self.endpoint.repository(name)}/tags/list"
        return self._names(path, "tags", f"list the tags of {name}") or frozenset()

    def manifest(self, name: str, reference: str) -> bytes | None:
        """The manifest's bytes as they came; None when the registry lacks it."""
        path = f"/v2/{self.endpoint.repository(name)}/manifests/{reference}"
        what = f"read {name} {reference}"
        return self._wire.read(
            path, what, lambda answer: _bounded(answer, MAX_MANIFEST_BYTES, what)
        )

    def size_of_blob(self, name: str, digest: Digest) -> int | None:
        """Bytes of a blob that the registry gives out in ``name``, as it says; None when none."""
        path = f"/v2/{self.endpoint.repository(name)}/blobs/{digest}"

        def read(answer: HTTPResponse) -> int:
            answer.read()  # nothing: so the connection is used again
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isascii() and length.isdigit() else -1

        return self._wire.read(path, f"look for {digest} of {name}", read, method="HEAD")

    def digest_of_blob(self, name: str, digest: Digest, size_bytes: int) -> Digest | None:
        """The digest of the bytes that the registry really gives out; None when it gives none."""
        path = f"/v2/{self.endpoint.repository(name)}/blobs/{digest}"

        def read(answer: HTTPResponse) -> Digest:
            hasher, left = digest.new_hasher(), size_bytes
            while block := answer.read(MIB):
                hasher.update(block)
                left -= len(block)
                if left < 0:
                    break  # it can only be wrong now
            return Digest.of_hasher(hasher)

        return self._wire.read(path, f"read {digest} of {name}", read)

    def _names(self, path: str, key: str, what: str) -> frozenset[str] | None:
        """All names from ``path`` on, page by page; None when the registry has no such list.

        Raises NetworkError[bad-answer] for rubbish, for pages that lead elsewhere or in circles,
        and for more than any honest registry has.
        """
        names: set[str] = set()
        seen = set[str]()
        for _ in range(MAX_PAGES):
            seen.add(path)
            page = self._wire.read(path, what, lambda answer: _page(answer, key, what))
            if page is None:
                return frozenset(names) if len(seen) > 1 else None
            found, link = page
            grows = not found <= names
            names |= found
            following = self._next_page(path, link, what)
            if not following:
                return frozenset(names)
            if following in seen or not grows or len(names) > MAX_NAMES:
                raise _bad(what, "its pages do not end")
            path = following
        raise _bad(what, f"it has more than {MAX_PAGES} pages")

    def _next_page(self, path: str, link: str, what: str) -> str:
        """Where the next page is: on the same path here, since the login goes along."""
        match = _NEXT.search(link[:8192])
        if not match:
            return ""
        following = self._wire.target(str(match[1]), beside=path)
        if following is None or urlsplit(following).path != urlsplit(path).path:
            raise _bad(what, "its next page is somewhere else")
        return following


def _bounded(answer: HTTPResponse, limit: int, what: str) -> bytes:
    """The whole body; raises NetworkError[bad-answer] past ``limit``."""
    data = answer.read(limit + 1)
    if len(data) > limit:
        raise _bad(what, f"the answer is larger than {limit} bytes")
    return data


def _page(answer: HTTPResponse, key: str, what: str) -> tuple[set[str], str]:
    """The names on one page, and its Link header."""
    try:
        names = json.loads(_bounded(answer, MAX_PAGE_BYTES, what))[key]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise _bad(what, "the answer is not such a list") from error
    if names is None:  # what some registries say for none
        names = []
    if not isinstance(names, list):
        raise _bad(what, "the answer is not such a list")
    return {name for name in names if isinstance(name, str)}, answer.headers.get("Link", "")


def _bad(what: str, found: str) -> NetworkError:
    return NetworkError(
        "bad-answer",
        f"could not {what}",
        context={"found": found},
        hint="something else than the site's registry answered",
    )
