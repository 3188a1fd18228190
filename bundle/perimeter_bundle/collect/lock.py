"""Names → digests: asks upstream once, and writes down what each name stands for.

Published SHA-256 files are believed here because the bytes must match them when they are fetched;
a file without one is fetched once. Images are resolved by their manifests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from perimeter_bundle.catalog.values import ChartSpec, Component, Release, SourceSpec
from perimeter_bundle.collect.built import lock_build
from perimeter_bundle.collect.charts import (
    CHART_CONFIG_TYPE,
    CHART_LAYER_TYPE,
    MAX_CHART_BYTES,
    MAX_INDEX_BYTES,
    find_chart,
    index_url,
)
from perimeter_bundle.collect.checksums import MAX_CHECKSUM_BYTES, find_checksum
from perimeter_bundle.collect.coherence import gather_facts, judge_release
from perimeter_bundle.collect.complete import (
    check_complete,
    found_images,
    kubeadm_images,
    kubeadm_of,
    render_release,
)
from perimeter_bundle.collect.kustomizations import (
    is_kustomize,
    kustomization_renderer,
    kustomize_of,
    lock_source,
)
from perimeter_bundle.collect.python_packages import lock_python_packages, unresolved_packages
from perimeter_bundle.collect.site_choice import plain_references
from perimeter_bundle.collect.site_lock import (
    SiteRequest,
    locked_site,
    resolve_site,
    with_site_images,
)
from perimeter_bundle.collect.site_packages import lock_packages
from perimeter_bundle.collect.sourcing import (
    Sourcing,
    check_known_images,
    find_image,
    sourcing_of,
)
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import (
    WantedBuild,
    WantedChart,
    WantedFile,
    WantedImage,
    WantedSource,
    made_files_of,
    unresolved_image,
    wanted_builds,
    wanted_charts,
    wanted_files,
    wanted_images,
    wanted_sources,
)
from perimeter_bundle.discover.objects import MAX_OBJECTS_BYTES
from perimeter_bundle.format.oci import Descriptor, ImageManifest
from perimeter_bundle.gobuild.kept import Kept
from perimeter_bundle.gobuild.made import GoSettings
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.lock import (
    FileKind,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
    oci_tag,
)
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.judge import Judgement, refuse_incoherent

OnJudgement = Callable[[Judgement], None]
MAX_FILE_BYTES = 8 * 1024**3  # a file without a published checksum is read to its end


def unresolved_lock(release: Release) -> Lock:
    """Every name of the release without a digest; made without a network."""
    builds = wanted_builds(release)
    images = [unresolved_image(image) for image in wanted_images(release)]
    images += [unresolved_image(one.image()) for one in builds]
    files = [file.locked() for file in wanted_files(release)]
    files += [file for one in builds for file in made_files_of(one, release)]
    return Lock(
        release=release.name,
        number=release.number,
        platforms=release.platforms,
        images=tuple(images),
        charts=tuple(chart.locked() for chart in wanted_charts(release)),
        files=tuple(files),
        packages=unresolved_packages(release),
        sources=tuple(source.locked() for source in wanted_sources(release)),
    )


def lock_release(
    release: Release,
    upstream: Upstream,
    work: Path,
    site: SiteRequest | None = None,
    *,
    pip_environment: Mapping[str, str] | None = None,
    on_judgement: OnJudgement = lambda judgement: None,
    go: GoSettings | None = None,
) -> Lock:
    """Every name of the release with its digest and size; with ``site`` also what it needs there.

    ``work`` is a folder for the few things that must be fetched; it must allow programs to run.
    ``pip_environment`` holds pip's settings, for the site's Python packages.
    ``go`` is for images that are compiled; without it nothing of that stays.
    ``on_judgement`` is told what the coherence rules find. Raises NetworkError, IntegrityError,
    InputError[unclassified], [incoherent], HostError.
    """
    locking = _Locking(release, upstream, work, sourcing_of(release))
    files = run_all(
        {str(one.locked().reference): partial(locking.file, one) for one in wanted_files(release)},
        upstream,
        "lock files",
    )
    charts = run_all(
        {one.spec.name: partial(locking.chart, one) for one in wanted_charts(release)},
        upstream,
        "lock charts",
    )
    sources = run_all(
        {one.spec.name: partial(locking.source, one) for one in wanted_sources(release)},
        upstream,
        "lock sources",
    )
    with kustomization_renderer(
        release, files, locking.find_file, locking.read_source, work
    ) as render:
        rendered = render_release(release, locking.read_chart, locking.read_manifest, render)
    choice = resolve_site(release, rendered, site, upstream)
    packages = lock_packages(choice, site, upstream, work)
    found = check_complete(rendered)
    facts = gather_facts(release, rendered, found)
    from_kubeadm = kubeadm_images(release, files, locking.find_file, work)
    by_name = wanted_images(release, from_kubeadm, found_images(found))
    builds = wanted_builds(release)
    check_known_images(release, {*(one.reference for one in by_name), *_bases_of(builds)})
    wanted = with_site_images(by_name, choice, plain_references(release))
    all_named = (*wanted, *(build.image() for build in builds))
    refuse_incoherent(judge_release(release, facts, all_named), release.name, is_complete=False)
    images = run_all(
        {str(one.reference): partial(locking.image, one) for one in wanted},
        upstream,
        "lock images",
    )
    wheels = lock_python_packages(release, work, pip_environment or {}, upstream.files.on_event)
    settings = go or GoSettings(Kept(work / "builds"), {})
    # one after another: the go command uses every processor by itself
    for build in builds:
        made = lock_build(build, release, upstream, locking.sourcing, settings)
        images.append(made.image)
        files += made.files
    lock = Lock(
        release=release.name,
        number=release.number,
        platforms=release.platforms,
        images=tuple(images),
        charts=tuple(charts),
        files=(*files, *packages.files),
        site=locked_site(site, packages.choice, packages.by_component),
        packages=wheels,
        sources=tuple(sources),
    )
    judgement = judge_release(release, facts, lock.images, lock)
    on_judgement(judgement)
    refuse_incoherent(judgement, release.name)
    return lock


def _bases_of(builds: Sequence[WantedBuild]) -> list[ImageReference]:
    return [build.spec.base for build in builds if build.spec.base]


@dataclass(slots=True)
class _Locking:
    """One run; what had to be fetched is kept for the checks that follow."""

    release: Release
    upstream: Upstream
    work: Path
    sourcing: Mapping[ImageReference, Sourcing]
    chart_bytes: dict[str, bytes] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    paths: dict[ImageReference, Path] = field(default_factory=dict)

    def image(self, wanted: WantedImage) -> LockedImage:
        known = self.sourcing.get(wanted.reference, Sourcing())
        found = find_image(wanted.reference, known, self.release.platforms, self.upstream)
        resolved = found.resolved
        return replace(
            unresolved_image(wanted),
            digest=resolved.digest,
            media_type=resolved.media_type,
            manifests={platform: one.digest for platform, one in resolved.manifests.items()},
            size_bytes=resolved.size_bytes,
            found_at=found.found_at,
        )

    def file(self, wanted: WantedFile) -> LockedFile:
        locked = wanted.locked()
        task = str(locked.reference)
        published: Digest | None = None
        if wanted.checksum_url:
            text = self.upstream.files.fetch_small(wanted.checksum_url, MAX_CHECKSUM_BYTES)
            name = urlsplit(wanted.url).path.rpartition("/")[2]
            published = find_checksum(text, name, wanted.checksum_url)
        if published and not self._is_read_now(wanted):
            digest, size = published, self.upstream.files.size_of(wanted.url)
        elif published:
            path = self.work / published.hex
            size = self.upstream.files.fetch(wanted.url, path, published, task=task)
            digest = published
            self.paths[locked.reference] = path
        else:
            limit = MAX_OBJECTS_BYTES if wanted.kind is FileKind.MANIFEST else MAX_FILE_BYTES
            path, digest = self.upstream.files.fetch_unknown(wanted.url, self.work, limit)
            size = path.stat().st_size
            self.paths[locked.reference] = path
        return replace(locked, digest=digest, size_bytes=size)

    def chart(self, wanted: WantedChart) -> LockedChart:
        locked, spec = wanted.locked(), wanted.spec
        url, data = self._chart_of(spec)
        self.chart_bytes[spec.name] = data
        return replace(locked, url=url, digest=Digest.of_bytes(data), size_bytes=len(data))

    def source(self, wanted: WantedSource) -> LockedSource:
        locked, archive = lock_source(wanted, self.upstream.files, self.work)
        self.archives[wanted.spec.name] = archive
        return locked

    def read_source(self, spec: SourceSpec) -> bytes:
        return self.archives[spec.name]

    def read_chart(self, spec: ChartSpec) -> bytes:
        return self.chart_bytes[spec.name]

    def read_manifest(self, component: Component, name: str) -> bytes:
        for wanted in wanted_files(self.release):
            if (wanted.component, wanted.name, wanted.kind) == (component, name, FileKind.MANIFEST):
                return self.paths[wanted.locked().reference].read_bytes()
        raise AssertionError(f"manifest {name} was not locked")

    def find_file(self, file: LockedFile) -> Path:
        return self.paths[file.reference]

    def _is_read_now(self, wanted: WantedFile) -> bool:
        """Whether its bytes are needed now: a manifest, or a program that is run for locking."""
        if wanted.kind is FileKind.MANIFEST:
            return True
        every = [one.locked() for one in wanted_files(self.release)]
        if self.release.sources and is_kustomize(wanted.locked()):
            return kustomize_of(every).reference == wanted.locked().reference
        component = wanted.component
        if wanted.name != component.kubeadm_file:
            return False
        locked = [w.locked() for w in wanted_files(self.release) if w.component == component]
        return kubeadm_of(component, locked).reference == wanted.locked().reference

    def _chart_of(self, spec: ChartSpec) -> tuple[str, bytes]:
        if spec.repository.startswith("oci://"):
            reference, layer = find_oci_chart(self.upstream, spec)
            data = self.upstream.images.fetch_small_blob(reference, layer, MAX_CHART_BYTES)
            return f"oci://{reference}", data
        index = self.upstream.files.fetch_small(
            index_url(spec.repository), MAX_INDEX_BYTES, page_is_fine=True
        )
        location = find_chart(index, spec.repository, spec.name, spec.version)
        data = self.upstream.files.fetch_small(location.url, MAX_CHART_BYTES)
        found = Digest.of_bytes(data)
        if location.digest and location.digest != found:
            raise IntegrityError(
                "digest-mismatch",
                f"refused chart {spec.name} {spec.version}: it is not what its index promises",
                context={"expected": location.digest, "got": found, "from": location.url},
                hint="the repository is inconsistent, or a proxy changed the download",
            )
        return location.url, data


def find_oci_chart(upstream: Upstream, spec: ChartSpec) -> tuple[ImageReference, Descriptor]:
    """Where a registry keeps a chart: its reference, and the layer that is the archive.

    https://helm.sh/docs/topics/registries/
    Raises NetworkError, IntegrityError[not-a-chart].
    """
    base = spec.repository.removeprefix("oci://")
    reference = ImageReference.parse(f"{base}/{spec.name}:{oci_tag(spec.version)}")
    manifest = upstream.images.fetch_manifest(reference).parsed
    layers = [
        layer
        for layer in (manifest.layers if isinstance(manifest, ImageManifest) else ())
        if layer.media_type == CHART_LAYER_TYPE
    ]
    if (
        not isinstance(manifest, ImageManifest)
        or manifest.config.media_type != CHART_CONFIG_TYPE
        or len(layers) != 1
    ):
        raise IntegrityError("not-a-chart", f"{reference} is not a Helm chart")
    return reference, layers[0]
