"""Sources and kustomizations of a release: fetched, packed, rendered with the locked kustomize."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from perimeter_bundle.catalog.values import KustomizationSpec, Release, SourceSpec
from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.collect.wanted import WantedSource
from perimeter_bundle.discover.kubeadm import this_platform
from perimeter_bundle.format.files import read_file, write_file
from perimeter_bundle.format.source_tree import MAX_ARCHIVE_BYTES, unpack_tree
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.lock import FileKind, LockedFile, LockedSource
from perimeter_bundle.render.kustomize import PROGRAM, RenderTree, open_kustomize
from perimeter_bundle.sources.fetch import fetch_source

KUSTOMIZE = "kustomize"  # the component that brings the program, and the name of its file

RenderKustomization = Callable[[KustomizationSpec], bytes]
ReadSource = Callable[[SourceSpec], bytes]  # the archive


def lock_source(
    wanted: WantedSource, fetcher: FileFetcher, work: Path
) -> tuple[LockedSource, bytes]:
    """The source's entry in the lock, and its archive."""
    found = fetch_source(wanted.spec, wanted.roots, fetcher, work)
    locked = replace(
        wanted.locked(),
        digest=found.digest,
        size_bytes=len(found.archive),
        remote=found.tree.remote,
    )
    return locked, found.archive


def build_source(
    wanted: WantedSource,
    locked: LockedSource,
    fetcher: FileFetcher,
    target: Path,
    work: Path,
    *,
    check_tag: bool,
) -> None:
    """Brings the archive that is locked to ``target``; one that is there already stays.

    Raises what ``fetch_source`` raises, and IntegrityError[digest-mismatch].
    """
    if target.is_file() and Digest.of_bytes(read_file(target, MAX_ARCHIVE_BYTES)) == locked.digest:
        return
    found = fetch_source(
        wanted.spec, wanted.roots, fetcher, work, pins=locked.pins, check_tag=check_tag
    )
    if found.digest != locked.digest:
        raise IntegrityError(
            "digest-mismatch",
            f"refused source {locked.name} {locked.version}: it does not pack to what is locked",
            context={"expected": locked.digest, "got": found.digest},
            hint="the catalog's keep: or kustomizations: changed since the lock was written, "
            "or upstream did: lock again and review the difference",
        )
    write_file(target, found.archive)


def is_kustomize(file: LockedFile) -> bool:
    """Whether ``file`` is the program that renders kustomizations."""
    return (file.component, file.name, file.kind) == (KUSTOMIZE, PROGRAM, FileKind.FILE)


def kustomize_of(files: Sequence[LockedFile]) -> LockedFile:
    """The kustomize this machine can run; when there is none, another, which says so when run."""
    here = this_platform()
    candidates = [file for file in files if is_kustomize(file)]
    runs_here = [f for f in candidates if f.platform is None or here.serves(f.platform)]
    return (runs_here or candidates)[0]


@contextmanager
def kustomization_renderer(
    release: Release,
    files: Sequence[LockedFile],
    find: Callable[[LockedFile], Path],
    read_source: ReadSource,
    work: Path,
) -> Iterator[RenderKustomization]:
    """Renders kustomizations of the release; each source is unpacked once.

    Raises what ``open_kustomize`` and ``RenderTree.render`` raise, IntegrityError[bad-source].
    """
    if not release.sources:
        yield _nothing_to_render
        return
    program = kustomize_of(files)
    with ExitStack() as stack:
        kustomize = stack.enter_context(
            open_kustomize(
                find(program),
                program.digest or Digest.of_bytes(b""),
                program.platform or this_platform(),
                work,
            )
        )
        trees: Mapping[str, RenderTree] = {
            source.name: stack.enter_context(
                kustomize.tree(
                    unpack_tree(read_source(source), f"source {source.name}"),
                    f"source {source.name} {source.tag}",
                )
            )
            for source in release.sources
        }

        def render(spec: KustomizationSpec) -> bytes:
            return trees[spec.source.name].render(spec.path)

        yield render


def _nothing_to_render(spec: KustomizationSpec) -> bytes:
    raise AssertionError(f"{spec.name}: the release has no sources")
