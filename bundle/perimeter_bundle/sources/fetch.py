"""A source of the catalog: fetched at its commit, remote bases put in, packed.

While locking, references are resolved to commits and digests; while building, exactly those are
taken (``pins``), so both give the same archive.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from perimeter_bundle.catalog.values import SourceSpec
from perimeter_bundle.collect.fetch import FileFetcher, mirrored
from perimeter_bundle.format.source_tree import FileTree, pack_tree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, NetworkError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.sources.git import Git
from perimeter_bundle.sources.git_tree import read_commit
from perimeter_bundle.sources.remote import RemoteFile, RemoteTree
from perimeter_bundle.sources.vendor import VendoredTree, vendor

MAX_REMOTE_FILE_BYTES = 32 * MIB

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source as it is carried."""

    tree: VendoredTree
    archive: bytes

    @property
    def digest(self) -> Digest:
        """Of the archive."""
        return Digest.of_bytes(self.archive)


def fetch_source(
    source: SourceSpec,
    roots: Sequence[str],
    fetcher: FileFetcher,
    work: Path,
    *,
    pins: Mapping[str, str] | None = None,
    check_tag: bool = True,
) -> FetchedSource:
    """``source`` with everything that the kustomizations ``roots`` reach.

    ``pins`` says what each remote reference stands for; None asks. Raises
    IntegrityError[tag-moved], [bad-source], [bad-kustomization], [circular-bases],
    [source-too-large], NetworkError[source-gone] naming every address, HostError[no-git].
    """
    what = f"source {source.name} {source.tag}"
    with _folder(work) as folder:
        bringer = _Bringer(fetcher, folder, what, pins)
        files = bringer.first(
            source.addresses, what, lambda url: bringer.pinned(source, url, check_tag, what)
        )
        tree = vendor(files, roots, bringer, what)
    missing = sorted(set(pins or ()) - {line.rpartition(" ")[0] for line in tree.remote})
    if missing:
        raise IntegrityError(
            "lock-contradicted",
            f"{what} does not refer to everything that the lock says",
            problems=missing,
            hint="the lock was edited, or the catalog changed: lock again",
        )
    return FetchedSource(tree, pack_tree(tree.files))


@dataclass(slots=True)
class _Bringer:
    """Fetches for one source; a RemoteSource."""

    fetcher: FileFetcher
    folder: Path
    what: str
    pins: Mapping[str, str] | None
    git: Git = field(init=False)

    def __post_init__(self) -> None:
        self.git = Git(self.fetcher.settings, self.folder, self.fetcher.retrier)

    def pinned(self, source: SourceSpec, url: str, check_tag: bool, what: str) -> dict[str, bytes]:
        if check_tag:
            now = self.git.resolve(url, source.tag)
            if now != source.commit:
                raise IntegrityError(
                    "tag-moved",
                    f"refused {what}: its tag points to another commit",
                    context={"expected": source.commit, "got": now, "from": url},
                    hint="find out why upstream moved it; then write the new commit, or another "
                    f"tag, into sources/{source.name}.yaml",
                )
        return self._read(url, source.commit, source.tag, source.keep, what)

    def tree(self, remote: RemoteTree, reference: str) -> tuple[str, FileTree]:
        pin = self._pin(reference)

        def get(url: str) -> tuple[str, FileTree]:
            commit = pin or self.git.resolve(url, remote.ref)
            return commit, self._read(url, commit, remote.ref, (), reference)

        return self.first((remote.url,), f"{self.what}: {reference}", get)

    def file(self, remote: RemoteFile, reference: str) -> bytes:
        data = self.fetcher.fetch_small(remote.url, MAX_REMOTE_FILE_BYTES)
        pin, found = self._pin(reference), Digest.of_bytes(data)
        if pin and Digest.parse(pin) != found:
            raise IntegrityError(
                "digest-mismatch",
                f"refused {reference}: it is not what the lock says",
                context={"expected": pin, "got": found},
                hint="upstream changed the file, or a proxy did",
            )
        return data

    def first(self, addresses: Sequence[str], what: str, action: Callable[[str], T]) -> T:
        """What the first address that has it gives; other bytes than promised end it at once."""
        problems: list[str] = []
        for url in (
            one for address in addresses for one in mirrored(address, self.fetcher.settings)
        ):
            try:
                return action(url)
            except NetworkError as error:
                details = "; ".join([*error.problems[-2:], *error.context.values()])
                problems.append(f"{url}: {error.message}" + (f": {details}" if details else ""))
                self.fetcher.on_event(Event(EventKind.WARNING, what, problems[-1]))
        raise NetworkError(
            "source-gone",
            f"{what} cannot be fetched from anywhere",
            problems=problems,
            hint="name another address of the repository under alternates:, or a --mirror",
        )

    def _pin(self, reference: str) -> str:
        if self.pins is None:
            return ""
        pin = self.pins.get(reference)
        if pin is None:
            raise IntegrityError(
                "lock-contradicted",
                f"{self.what}: {reference} is not in the lock",
                hint="the lock was edited, or the catalog changed: lock again",
            )
        return pin

    def _read(
        self, url: str, commit: str, ref: str, keep: Sequence[str], what: str
    ) -> dict[str, bytes]:
        repository = self.git.fetch(url, commit, ref)
        try:
            return read_commit(repository, commit, keep, what)
        finally:
            shutil.rmtree(repository, ignore_errors=True)


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="source-", dir=work) as name:
        yield Path(name)
