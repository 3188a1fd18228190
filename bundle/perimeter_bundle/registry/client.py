"""Pulls from OCI registries: names to digests, manifests, blobs.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
What a digest names is checked against it wherever it came from, so a mirror cannot change it. A
tag is what the first server that answers says it is; ``lock`` writes the digest down, people
review it, and from then on nobody is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from perimeter_bundle.format.oci import MAX_MANIFEST_BYTES, Descriptor
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, NetworkError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.answer import Answer
from perimeter_bundle.registry.auth import Authenticator
from perimeter_bundle.registry.credentials import CredentialStore
from perimeter_bundle.registry.endpoints import Endpoint, endpoints_for
from perimeter_bundle.registry.manifests import (
    ACCEPTED_TYPES,
    FetchedManifest,
    checked_manifest,
    refuse_other_digest,
)
from perimeter_bundle.registry.part_file import Wanted
from perimeter_bundle.registry.resolve import Resolved, refuse_absurd, resolve
from perimeter_bundle.registry.retry import Clock, Retrier
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop
from perimeter_bundle.registry.tags import MAX_PAGE_BYTES, PAGE_SIZE, TagPage, read_tags
from perimeter_bundle.registry.transfer import Verified, download
from perimeter_bundle.registry.transport import Transport

T = TypeVar("T")


class RegistryClient:
    """A pull client for all registries of a run; safe to use from many threads."""

    def __init__(
        self,
        settings: RegistrySettings,
        on_event: OnEvent = ignore_events,
        *,
        stop: Stop | None = None,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.settings = settings
        self.on_event = on_event
        self.transport = transport or Transport(settings, stop=stop, clock=clock)
        self.retrier = Retrier(self.transport.clock, self.transport.stop, on_event)
        store = CredentialStore(settings.docker_config, settings.helper_environment)
        self._auth = Authenticator(self.transport, store.find)
        self._unreachable: set[str] = set()  # mirrors that were tried long enough in this run

    def resolve(self, reference: ImageReference, platforms: Sequence[Platform]) -> Resolved:
        """What ``reference`` stands for on each of ``platforms``.

        Raises NetworkError, IntegrityError, and InputError[platform-missing] with the platforms
        there are.
        """
        return resolve(self, reference, platforms)

    def fetch_manifest(
        self, reference: ImageReference, digest: Digest | None = None
    ) -> FetchedManifest:
        """The manifest or index under ``digest``, else under the reference's own digest or tag."""
        wanted = digest or reference.digest
        name = str(wanted or reference.tag)
        shown = f"{reference.name}@{wanted}" if wanted else str(reference)

        def fetch(endpoint: Endpoint) -> FetchedManifest:
            with self._open(
                endpoint,
                endpoint.manifest_url(name),
                {"Accept": ACCEPTED_TYPES},
                f"asking for {shown}",
            ) as answer:
                raw = answer.read_all(MAX_MANIFEST_BYTES, f"asking for {shown}")
                return checked_manifest(raw, answer, shown, wanted)

        return self._first(
            reference,
            lambda endpoint: self.retrier.run(
                f"asking for {shown}", lambda: fetch(endpoint), task=str(reference)
            ),
        )

    def fetch_blob(
        self,
        reference: ImageReference,
        descriptor: Descriptor,
        target: Path,
        on_event: OnEvent | None = None,
        *,
        verified: Verified | None = None,
    ) -> int:
        """Brings a blob to ``target``, resuming what is there; gives back its size.

        Errors as ``transfer.download``.
        """
        refuse_absurd(descriptor, reference)
        short = descriptor.digest.hex[:12]
        wanted = Wanted(f"{reference.name}@{short}", descriptor.digest, descriptor.size_bytes)

        def fetch(endpoint: Endpoint) -> int:
            url = endpoint.blob_url(descriptor.digest)
            return download(
                lambda headers: self._open(
                    endpoint, url, headers, f"fetching {wanted.task}", frozenset({416})
                ),
                target,
                replace(wanted, host=endpoint.host),
                retrier=self.retrier,
                on_event=on_event or self.on_event,
                verified=verified,
            )

        return self._first(reference, fetch)

    def fetch_small_blob(
        self, reference: ImageReference, descriptor: Descriptor, limit_bytes: int
    ) -> bytes:
        """The bytes of a blob that fits into memory, checked against its digest."""
        shown = f"{reference.name}@{descriptor.digest}"
        if descriptor.size_bytes > limit_bytes:
            raise IntegrityError(
                "absurd-size",
                f"refused {shown}: it is larger than it may be",
                context={"promised": f"{descriptor.size_bytes} bytes", "limit": limit_bytes},
            )

        def fetch(endpoint: Endpoint) -> bytes:
            url = endpoint.blob_url(descriptor.digest)
            with self._open(endpoint, url, {}, f"fetching {shown}") as answer:
                data = answer.read_all(limit_bytes, f"fetching {shown}")
                refuse_other_digest(data, descriptor.digest, shown, answer)
                return data

        return self._first(
            reference,
            lambda endpoint: self.retrier.run(
                f"fetching {shown}", lambda: fetch(endpoint), task=str(reference)
            ),
        )

    def list_tags(self, reference: ImageReference) -> frozenset[str]:
        """Every tag of the reference's repository: of its own registry and of its mirrors.

        A mirror that fails is passed over, and one that fills itself on demand has only few.
        Raises NetworkError when no place answers.
        """
        attempted = f"listing the tags of {reference.name}"
        tags: set[str] = set()
        failure: NetworkError | None = None
        answered = False
        for endpoint in endpoints_for(reference, self.settings):
            try:
                first = endpoint.tags_url(PAGE_SIZE)
                tags |= read_tags(
                    first, partial(self._tag_page, endpoint, attempted, reference), attempted
                )
                answered = True
            except NetworkError as error:
                failure = error
        if failure and not answered:
            raise failure
        return frozenset(tags)

    def _tag_page(
        self, endpoint: Endpoint, attempted: str, reference: ImageReference, url: str
    ) -> TagPage:
        def fetch() -> TagPage:
            with self._open(endpoint, url, {}, attempted) as answer:
                body = answer.read_all(MAX_PAGE_BYTES, attempted)
                return TagPage(body, answer.headers.get("Link", ""))

        return self.retrier.run(attempted, fetch, task=str(reference))

    def _open(
        self,
        endpoint: Endpoint,
        url: str,
        headers: Mapping[str, str],
        attempted: str,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        return self._auth.open(
            "GET",
            url,
            headers,
            host=endpoint.host,
            scope=endpoint.scope,
            accept=accept,
            attempted=attempted,
        )

    def _first(self, reference: ImageReference, action: Callable[[Endpoint], T]) -> T:
        """What the first place that has it gives; a mirror that fails is passed over."""
        problems: list[str] = []
        for endpoint in endpoints_for(reference, self.settings):
            if endpoint.base in self._unreachable:
                continue
            try:
                return action(endpoint)
            except (NetworkError, IntegrityError) as error:
                if not endpoint.is_mirror:
                    if problems:
                        error.problems = (*error.problems, *problems)
                    raise
                if error.code in ("connect-failed", "timed-out"):
                    self._unreachable.add(endpoint.base)
                found = error.context.get("found", error.code)
                problems.append(f"mirror {endpoint.host}: {error.message}: {found}")
                self.on_event(Event(EventKind.WARNING, str(reference), problems[-1]))
        raise AssertionError("unreachable: the last place is no mirror")
