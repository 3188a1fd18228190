"""A lock → a sealed bundle. Takes only what is locked, by digest; goes on where it was cut off.

1. The lock is complete and was written for this release of this catalog.
2. The folder is ours or empty, no other build is in it, and there is room for everything.
3. No tag moved since the lock was written (unless that is not asked).
4. Manifests, then layers, charts, files and sources, each under its digest; what is compiled is
   compiled, or was, to exactly what is locked.
5. Rendered objects and kubeadm ask for exactly what is locked, and no string is unexplained;
   what the release puts together belongs together, or is accepted with a reason.
6. The wheelhouse, roles, playbooks and the catalog.
7. index.json, bundle.json, the lock's very bytes; then everything is listed in SHA256SUMS.
Against an inventory, 4 fetches and 7 keeps only what the site's registry lacks (against.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.values import Catalog, ChartSpec, Component, Release, SourceSpec
from perimeter_bundle.charts.archive import MAX_CHART_BYTES
from perimeter_bundle.collect.against import choose_base, not_fetched, refuse_other_site
from perimeter_bundle.collect.artifacts import chart_artifact, file_artifact, source_artifact
from perimeter_bundle.collect.assemble import (
    PackedEntry,
    all_sizes,
    bundle_components,
    exact_room,
    image_item,
    packed_item,
    write_index,
)
from perimeter_bundle.collect.built import take_builds
from perimeter_bundle.collect.chart_archives import GitTrees, build_chart
from perimeter_bundle.collect.charts import check_archive
from perimeter_bundle.collect.coherence import gather_facts, judge_release
from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.complete import (
    check_complete,
    discovery_file,
    found_images,
    kubeadm_images,
    render_release,
)
from perimeter_bundle.collect.content import write_content
from perimeter_bundle.collect.finished import check_finished, is_finished
from perimeter_bundle.collect.kustomizations import build_source, kustomization_renderer
from perimeter_bundle.collect.own_wheel import own_wheel
from perimeter_bundle.collect.pull import PulledImage, check_tags, pull_blobs, pull_images
from perimeter_bundle.collect.python_index import write_python_index
from perimeter_bundle.collect.python_packages import fetch_python_packages
from perimeter_bundle.collect.room import BUILD_EXTRA_BYTES, CONTENT_BYTES
from perimeter_bundle.collect.scheduler import FetchTask
from perimeter_bundle.collect.site_choice import plain_references
from perimeter_bundle.collect.site_packages import packages_document, rpm_repositories
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.collect.wanted import wanted_charts, wanted_images, wanted_sources
from perimeter_bundle.collect.wheelhouse import download_wheels
from perimeter_bundle.collect.workspace import (
    Workspace,
    open_workspace,
    refuse_foreign,
)
from perimeter_bundle.discover.stream import MAX_OBJECTS_BYTES
from perimeter_bundle.format import layout
from perimeter_bundle.format.base import Base
from perimeter_bundle.format.disc import disc_errors, flush_disc, refuse_without_room
from perimeter_bundle.format.files import list_tree, read_file, write_file
from perimeter_bundle.format.inventory import VerifiedInventory
from perimeter_bundle.format.manifest import BundleItem, BundleManifest
from perimeter_bundle.format.oci import LAYOUT_VERSION
from perimeter_bundle.format.seal import seal
from perimeter_bundle.format.source_tree import MAX_ARCHIVE_BYTES
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.gobuild.kept import Kept
from perimeter_bundle.gobuild.made import GoSettings
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.lock import GO_BUILD_SCHEME, FileKind, Lock, LockedFile
from perimeter_bundle.review.coherence.judge import refuse_incoherent


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything a build depends on, beside upstream."""

    release: Release
    catalog: Catalog
    lock_bytes: bytes
    out: Path
    environment: Mapping[str, str] = field(repr=False)  # pip's settings; may hold passwords
    skip_tag_check: bool = False
    requirements: Path | None = None  # folder of the requirement files; default: perimeter's own
    build_cache: Path | None = None  # where compiled images are kept; default: until this is done
    deep: bool = False  # hash every byte of a bundle that is finished already
    ca_file: Path | None = None  # for the go command, which fetches by itself
    against: VerifiedInventory | None = None  # what the site holds is left out: a delta


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A sealed bundle; ``identity`` is the digest of its SHA256SUMS."""

    root: Path
    identity: Digest
    manifest: BundleManifest
    size_bytes: int
    left_out_bytes: int = 0  # of a delta: what its base holds


def build_bundle(request: BuildRequest, upstream: Upstream, on_event: OnEvent) -> BuildResult:
    """The bundle that the lock pins, sealed and not signed yet.

    Two builds of the same lock, catalog and perimeter give the same bytes. Raises InputError,
    NetworkError, IntegrityError, HostError; what was fetched until then stays for the next run.
    """
    lock = Lock.parse(request.lock_bytes)
    check_lock(lock, request.release)  # 1
    refuse_other_site(lock, request.against)
    if is_finished(request.out):
        return _finished(request, on_event)
    refuse_foreign(request.out)  # 2
    with (
        disc_errors(request.out),
        open_workspace(request.out, lock, request.lock_bytes) as workspace,
    ):
        if not request.skip_tag_check:
            check_tags(lock, upstream)  # 3
        images = pull_images(lock, upstream, workspace)  # 4
        cache = request.build_cache or workspace.work / "builds"
        settings = GoSettings(Kept(cache), request.environment, request.ca_file)
        images += take_builds(lock, request.release, upstream, workspace, settings)
        base = None
        if request.against:
            base = choose_base(request.against, lock, images, workspace)
        left_out = not_fetched(base, lock, request.release)
        missing = workspace.missing_bytes(_sizes_to_fetch(lock, images, left_out))
        missing += sum(package.size_bytes for package in lock.packages)
        needed = missing + CONTENT_BYTES + BUILD_EXTRA_BYTES
        refuse_without_room(request.out, needed, "the bundle")
        packed_here = _source_tasks(request, lock, upstream, workspace)
        packed_here += _chart_tasks(request, lock, upstream, workspace)
        pull_blobs(lock, images, upstream, workspace, on_event, packed_here, left_out)
        packed = _pack(lock, workspace)
        _check_content(request.release, lock, workspace, on_event)  # 5
        items = _write_content(request, lock, workspace, on_event)  # 6
        manifest = _describe(request, lock, workspace, images, packed, items, base)  # 7
        on_event(Event(EventKind.NOTE, "", "listing every file in SHA256SUMS"))
        known = workspace.journal.proven()
        workspace.finish()
        flush_disc(request.out)  # what is listed as finished is on the disc
        identity = seal(request.out, known=known, on_event=on_event)
    return _result(request.out, identity, manifest, base)


def _result(
    out: Path, identity: Digest, manifest: BundleManifest, base: Base | None
) -> BuildResult:
    return BuildResult(out, identity, manifest, _size(out), base.total_bytes if base else 0)


def _finished(request: BuildRequest, on_event: OnEvent) -> BuildResult:
    """A bundle that is there already, when this build would give the very same."""
    root = content_root()
    with tempfile.TemporaryDirectory(prefix="perimeter-build-") as work:
        own = own_wheel(root, Path(work))
    manifest, identity, base = check_finished(
        request.out,
        request.lock_bytes,
        request.release,
        request.catalog,
        own,
        (_requirements(request) / "install.txt").read_bytes(),
        on_event,
        deep=request.deep,
        against=request.against.digest if request.against else None,
    )
    on_event(Event(EventKind.NOTE, "", f"{request.out} is finished already; nothing was fetched"))
    return _result(request.out, identity, manifest, base)


def _source_tasks(
    request: BuildRequest, lock: Lock, upstream: Upstream, workspace: Workspace
) -> tuple[FetchTask, ...]:
    wanted = {one.spec.name: one for one in wanted_sources(request.release)}
    return tuple(
        FetchTask(
            str(locked.digest),
            str(locked.reference),
            locked.size_bytes,
            partial(
                build_source,
                wanted[locked.name],
                locked,
                upstream.files,
                workspace.blob(_digest(locked.digest)),
                workspace.work,
                check_tag=not request.skip_tag_check,
            ),
        )
        for locked in lock.sources
    )


def _chart_tasks(
    request: BuildRequest, lock: Lock, upstream: Upstream, workspace: Workspace
) -> tuple[FetchTask, ...]:
    wanted = {one.locked().reference: one for one in wanted_charts(request.release)}
    trees = GitTrees(upstream.files, workspace.work, check_tag=not request.skip_tag_check)
    return tuple(
        FetchTask(
            str(locked.digest),
            str(locked.reference),
            locked.size_bytes,
            partial(
                build_chart,
                wanted[locked.reference],
                locked,
                upstream,
                trees.read,
                workspace.blob(_digest(locked.digest)),
            ),
        )
        for locked in lock.charts
        if locked.is_packed_here
    )


def _pack(lock: Lock, workspace: Workspace) -> tuple[PackedEntry, ...]:
    """Charts, files and sources become artifacts; their small blobs are written."""
    packed = []
    for chart in lock.charts:
        digest = _digest(chart.digest)
        data = read_file(workspace.blob(digest), MAX_CHART_BYTES)
        metadata = check_archive(data, chart.name, chart.version, str(chart.reference))
        packed.append(PackedEntry(chart, chart_artifact(chart, digest, metadata)))
    for file in lock.files:
        packed.append(PackedEntry(file, file_artifact(file, _digest(file.digest))))
    for source in lock.sources:
        packed.append(PackedEntry(source, source_artifact(source, _digest(source.digest))))
    for one in packed:
        for data in (one.artifact.manifest, one.artifact.config):
            write_file(workspace.blob(Digest.of_bytes(data)), data, flushed=False)
    return tuple(packed)


def _check_content(release: Release, lock: Lock, workspace: Workspace, on_event: OnEvent) -> None:
    """The completeness gate, on the very bytes that are carried; rendered/ for reviewers."""
    task = "render charts and ask kubeadm"
    on_event(Event(EventKind.START, task))
    charts = {chart.name: workspace.blob(_digest(chart.digest)) for chart in lock.charts}
    manifests = {
        (file.component, file.name): workspace.blob(_digest(file.digest))
        for file in lock.files
        if file.kind is FileKind.MANIFEST
    }

    def read_chart(spec: ChartSpec) -> bytes:
        return read_file(charts[spec.name], MAX_CHART_BYTES)

    def read_manifest(component: Component, name: str) -> bytes:
        return read_file(manifests[component.name, name], MAX_OBJECTS_BYTES)

    def find(file: LockedFile) -> Path:
        return workspace.blob(_digest(file.digest))

    sources = {one.name: workspace.blob(_digest(one.digest)) for one in lock.sources}

    def read_source(spec: SourceSpec) -> bytes:
        return read_file(sources[spec.name], MAX_ARCHIVE_BYTES)

    with kustomization_renderer(release, lock.files, find, read_source, workspace.work) as render:
        rendered = render_release(release, read_chart, read_manifest, render)
    found = check_complete(rendered)
    facts = gather_facts(release, rendered, found)
    judgement = judge_release(release, facts, lock.images, lock)
    refuse_incoherent(judgement, release.name)
    listed = kubeadm_images(release, lock.files, find, workspace.work)
    for_site = lock.site.images if lock.site else frozenset()
    wanted = {str(image.reference) for image in wanted_images(release, listed, found_images(found))}
    wanted -= {str(reference) for reference in plain_references(release)}
    here = {image.reference for image in lock.images if image.built}
    locked = {str(i.reference) for i in lock.images if i.reference not in {*for_site, *here}}
    problems = [f"{name} is needed, not locked" for name in sorted(wanted - locked)]
    problems += [f"{name} is locked, not needed" for name in sorted(locked - wanted)]
    if problems:
        raise InputError(
            "lock-mismatch",
            "the rendered objects and kubeadm ask for other images than the lock has",
            problems=problems,
            hint=f"run perimeter-bundle lock {release.name}",
        )
    workspace.renew(layout.RENDERED)
    write_file(workspace.root / layout.DISCOVERY, discovery_file(found))
    for one in rendered:
        write_file(workspace.root / one.path, one.data)
    workspace.renew(layout.SITE_VALUES)
    for chosen in lock.site.components if lock.site else ():
        if chosen.values:
            write_file(workspace.root / layout.site_values_path(chosen.name), chosen.values_bytes)
        if chosen.packages:
            path = workspace.root / layout.site_packages_path(chosen.name)
            write_file(path, packages_document(chosen, lock))
            for name, data in rpm_repositories(chosen, lock, find).items():
                write_file(workspace.root / name, data)
    write_file(workspace.root / layout.COHERENCE, judgement.to_bytes())
    on_event(Event(EventKind.FINISH, task))


def _write_content(
    request: BuildRequest, lock: Lock, workspace: Workspace, on_event: OnEvent
) -> tuple[BundleItem, ...]:
    root, requirements = content_root(), _requirements(request)
    release = request.release
    wheels = download_wheels(
        requirements,
        release.jump_host_pythons,
        release.platforms,
        workspace.work,
        request.environment,
        on_event,
    )
    carried = fetch_python_packages(lock.packages, workspace.work, request.environment, on_event)
    workspace.renew(layout.CONTENT)
    items = write_content(
        request.out,
        release,
        request.catalog,
        own_wheel(root, workspace.work),
        wheels,
        (requirements / "install.txt").read_bytes(),
    )
    return items + write_python_index(request.out, carried)


def _describe(
    request: BuildRequest,
    lock: Lock,
    workspace: Workspace,
    images: Sequence[PulledImage],
    packed: Sequence[PackedEntry],
    content: Sequence[BundleItem],
    base: Base | None,
) -> BundleManifest:
    """Writes what says what is inside, after everything else is there."""
    root, release = workspace.root, request.release
    _write_papers(lock, workspace)
    sizes = all_sizes(images, packed)
    workspace.keep_only(set(sizes) - set(base.sizes if base else ()))
    (root / layout.BASE).unlink(missing_ok=True)  # of an interrupted build
    if base:
        write_file(root / layout.BASE, base.to_bytes())
    write_file(root / layout.OCI_LAYOUT, LAYOUT_VERSION)
    write_file(root / layout.INDEX, write_index(images, packed))
    write_file(root / layout.LOCK, request.lock_bytes)
    beside = sum(list_tree(root / layout.CONTENT).files.values())
    manifest = BundleManifest(
        release=lock.release,
        number=lock.number,
        minimum_installer=release.minimum_installer,
        components=bundle_components(release),
        items=(
            *(image_item(image, release) for image in images),
            *(packed_item(one, release) for one in packed),
            *content,
        ),
        # what lists and describes the rest is small; a MiB more than is needed does no harm
        room=exact_room(sizes, images, beside + 8 * MIB, base.total_bytes if base else 0),
        base=base.inventory if base else None,
    )
    write_file(root / layout.BUNDLE_MANIFEST, manifest.to_bytes())
    return manifest


def _write_papers(lock: Lock, workspace: Workspace) -> None:
    """What explains compiled images, where a reviewer looks for it."""
    workspace.renew(layout.SBOM)
    for file in lock.files:
        if file.url.startswith(GO_BUILD_SCHEME):
            data = read_file(workspace.blob(_digest(file.digest)), 64 * MIB)
            name = file.url.rpartition("/")[2]
            write_file(workspace.root / layout.SBOM / file.component / name, data)


def _requirements(request: BuildRequest) -> Path:
    return request.requirements or content_root() / "requirements"


def _size(root: Path) -> int:
    return sum(list_tree(root).files.values())


def _sizes_to_fetch(
    lock: Lock, images: Sequence[PulledImage], left_out: Set[Digest]
) -> dict[Digest, int]:
    sizes = {digest: size for image in images for digest, size in image.sizes.items()}
    sizes |= {_digest(chart.digest): chart.size_bytes for chart in lock.charts}
    sizes |= {_digest(file.digest): file.size_bytes for file in lock.files}
    sizes |= {_digest(one.digest): one.size_bytes for one in lock.sources}
    return {digest: size for digest, size in sizes.items() if digest not in left_out}


def _digest(digest: Digest | None) -> Digest:
    if digest is None:
        raise AssertionError("check_lock refuses unresolved locks")
    return digest
