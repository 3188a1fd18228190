"""Files over HTTPS: charts, programs, manifests. Same transport, retries and transfer as images."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit, urlunsplit

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, NetworkError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.registry.answer import Answer, shown_url
from perimeter_bundle.registry.part_file import PART_SUFFIX, Wanted, host_error
from perimeter_bundle.registry.retry import Clock, Failure, FailureKind, Retrier
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop
from perimeter_bundle.registry.transfer import (
    Verified,
    download,
    range_total,
    refuse_larger,
)
from perimeter_bundle.registry.transport import Transport

T = TypeVar("T")


class FileFetcher:
    """Fetches files for one run; safe to use from many threads.

    ``settings.mirrors`` maps a host to addresses asked before it: path and query of the original
    are appended to the mirror's own path.
    """

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

    def size_of(self, url: str) -> int:
        """Bytes behind ``url``, without fetching them: HEAD, else one byte by Range.

        Raises NetworkError, [no-size] when the server does not say.
        """
        attempted = f"asking for the size of {shown_url(url)}"

        def ask(address: str) -> int:
            with self.transport.open(
                "HEAD", address, accept=frozenset({403, 405, 501}), attempted=attempted
            ) as answer:
                if answer.status == 200 and answer.length_bytes is not None:
                    return answer.length_bytes
            with self.transport.open(
                "GET", address, {"Range": "bytes=0-0"}, attempted=attempted
            ) as answer:
                size = range_total(answer) if answer.status == 206 else answer.length_bytes
            if size is None:
                raise NetworkError(
                    "no-size",
                    f"{attempted}: the server does not say",
                    context={"found": f"{answer.status} without a length"},
                    hint="fetch it from a mirror that tells sizes",
                )
            return size

        return self._first(url, lambda address: self._retried(attempted, url, address, ask))

    def fetch(
        self,
        url: str,
        target: Path,
        expected: Digest,
        size_bytes: int | None = None,
        on_event: OnEvent | None = None,
        *,
        task: str = "",
        verified: Verified | None = None,
    ) -> int:
        """Brings the file to ``target``, resuming what is there; gives back its size.

        Errors as ``transfer.download``.
        """
        wanted = Wanted(task or shown_url(url), expected, size_bytes)

        def get(address: str) -> int:
            return download(
                lambda headers: self._open(address, headers, f"fetching {wanted.task}"),
                target,
                replace(wanted, host=urlsplit(address).hostname or ""),
                retrier=self.retrier,
                on_event=on_event or self.on_event,
                verified=verified,
            )

        return self._first(url, get)

    def fetch_small(self, url: str, limit_bytes: int, *, page_is_fine: bool = False) -> bytes:
        """The bytes behind ``url``: an index.yaml, a .sha256, a list of names.

        They are whatever the server says: check them. A web page is refused unless
        ``page_is_fine``. Raises NetworkError, [too-large] past the limit.
        """
        attempted = f"fetching {shown_url(url)}"

        def get(address: str) -> bytes:
            with self.transport.open("GET", address, attempted=attempted) as answer:
                if answer.content_type == "text/html" and not page_is_fine:
                    raise NetworkError(
                        "not-a-file",
                        f"{attempted}: a web page came instead",
                        context={"from": shown_url(answer.url)},
                        hint="a proxy may want a login, or the address is out of date",
                    )
                data = answer.read_all(limit_bytes, attempted)
                if answer.length_bytes not in (None, len(data)):
                    raise Failure(
                        FailureKind.TRUNCATED,
                        f"{len(data)} of {answer.length_bytes} promised bytes came",
                    )
                return data

        return self._first(url, lambda address: self._retried(attempted, url, address, get))

    def fetch_unknown(self, url: str, folder: Path, limit_bytes: int) -> tuple[Path, Digest]:
        """A file whose digest nobody knows yet (while locking), stored under its own digest.

        Not resumable: without a digest, pieces cannot be told apart. Gives back path and digest.
        """
        attempted = f"fetching {shown_url(url)}"

        def get(address: str) -> tuple[Path, Digest]:
            return self._store(address, folder, limit_bytes, attempted)

        return self._first(url, lambda address: self._retried(attempted, url, address, get))

    def _open(self, address: str, headers: dict[str, str], attempted: str) -> Answer:
        return self.transport.open(
            "GET", address, headers, accept=frozenset({416}), attempted=attempted
        )

    def _retried(self, attempted: str, url: str, address: str, action: Callable[[str], T]) -> T:
        return self.retrier.run(attempted, lambda: action(address), task=shown_url(url))

    def _store(
        self, address: str, folder: Path, limit_bytes: int, attempted: str
    ) -> tuple[Path, Digest]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, suffix=PART_SUFFIX)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    digest = self._copy(address, stream, limit_bytes, attempted)
                    stream.flush()
                    os.fsync(stream.fileno())
                path = folder / digest.hex
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise host_error(error, folder, attempted) from error
        return path, digest

    def _copy(self, address: str, stream: BinaryIO, limit_bytes: int, attempted: str) -> Digest:
        hasher, size = hashlib.sha256(), 0
        with self.transport.open("GET", address, attempted=attempted) as answer:
            promised = answer.length_bytes
            for data in answer.chunks():
                size += len(data)
                refuse_larger(max(size, promised or 0), limit_bytes, attempted, answer)
                hasher.update(data)
                stream.write(data)
        if promised is not None and size < promised:
            raise Failure(FailureKind.TRUNCATED, f"{size} of {promised} promised bytes came")
        return Digest.of_hasher(hasher)

    def _first(self, url: str, action: Callable[[str], T]) -> T:
        """What the first place that has it gives; a mirror that fails is passed over."""
        problems: list[str] = []
        for address in mirrored(url, self.settings):
            try:
                return action(address)
            except (NetworkError, IntegrityError) as error:
                if address == url:
                    error.problems = (*error.problems, *problems)
                    raise
                found = error.context.get("found", error.code)
                problems.append(f"mirror {urlsplit(address).netloc}: {error.message}: {found}")
                self.on_event(Event(EventKind.WARNING, shown_url(url), problems[-1]))
        raise AssertionError("unreachable: the last address is the original")


def mirrored(url: str, settings: RegistrySettings) -> tuple[str, ...]:
    """The addresses to ask for ``url``, in order; the last is ``url`` itself."""
    parts = urlsplit(url)
    addresses = []
    for mirror in settings.mirrors.get(parts.netloc.rpartition("@")[2], ()):
        base = urlsplit(mirror)
        path = base.path.rstrip("/") + parts.path
        addresses.append(urlunsplit((base.scheme, base.netloc, path, parts.query, "")))
    return (*addresses, url)
