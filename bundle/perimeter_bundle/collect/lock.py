"""Names → digests: asks upstream once, and writes down what each name stands for.

What must be read for that is fetched and rendered by reading.py; images are resolved by their
manifests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.built import lock_build
from perimeter_bundle.collect.coherence import gather_facts, judge_release
from perimeter_bundle.collect.complete import (
    check_complete,
    found_images,
    kubeadm_images,
)
from perimeter_bundle.collect.go_toolchain import GoSource
from perimeter_bundle.collect.python_packages import lock_python_packages, unresolved_packages
from perimeter_bundle.collect.reading import FetchedObjects, fetch_objects, files_to_read
from perimeter_bundle.collect.site_choice import SiteChoice, plain_references
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
    WantedFile,
    WantedImage,
    made_files_of,
    unresolved_image,
    wanted_builds,
    wanted_charts,
    wanted_files,
    wanted_images,
    wanted_sources,
)
from perimeter_bundle.gobuild.kept import Kept
from perimeter_bundle.gobuild.made import GoSettings
from perimeter_bundle.model.lock import (
    Lock,
    LockedImage,
)
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.facts import Facts
from perimeter_bundle.review.coherence.judge import Judgement, refuse_incoherent

OnJudgement = Callable[[Judgement], None]


def unresolved_lock(release: Release, wanted: Sequence[WantedImage] | None = None) -> Lock:
    """The names of the catalog without a digest; nothing is fetched for them.

    ``wanted`` are the images when more is known than what the catalog lists.
    """
    builds = wanted_builds(release)
    listed = wanted_images(release) if wanted is None else wanted
    images = [unresolved_image(image) for image in listed]
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
    locking = _Locking(release, upstream, sourcing_of(release))
    named = _read_names(release, wanted_files(release), site, upstream, work)
    fetched, files = named.fetched, named.fetched.files
    packages = lock_packages(named.choice, site, upstream, work)
    images = run_all(
        {str(one.reference): partial(locking.image, one) for one in named.images},
        upstream,
        "lock images",
    )
    wheels = lock_python_packages(release, work, pip_environment or {}, upstream.files.on_event)
    settings = go or GoSettings(Kept(work / "builds"), {})
    # one after another: the go command uses every processor by itself
    source = GoSource(files, upstream.files, settings.environment, work, lambda d: work / d.hex)
    for build in wanted_builds(release):
        made = lock_build(build, release, upstream, locking.sourcing, settings, source)
        images.append(made.image)
        files = (*files, *made.files)
    lock = Lock(
        release=release.name,
        number=release.number,
        platforms=release.platforms,
        images=tuple(images),
        charts=fetched.charts,
        files=(*files, *packages.files),
        site=locked_site(site, packages.choice, packages.by_component, packages.keys),
        packages=wheels,
        sources=fetched.sources,
    )
    judgement = judge_release(release, named.facts, lock.images, lock)
    on_judgement(judgement)
    refuse_incoherent(judgement, release.name)
    return lock


def name_release(
    release: Release,
    upstream: Upstream,
    work: Path,
    *,
    on_judgement: OnJudgement = lambda judgement: None,
) -> Lock:
    """Every name that ``lock_release`` would resolve, with its reasons and without a digest.

    Charts, manifests, sources, kubeadm and kustomize are fetched; no registry is asked for an image
    and nothing is compiled. Raises what ``lock_release`` raises.
    """
    named = _read_names(release, files_to_read(release), None, upstream, work)
    lock = unresolved_lock(release, named.images)
    on_judgement(judge_release(release, named.facts, lock.images))
    return lock


@dataclass(frozen=True, slots=True)
class _Named:
    """What is known of a release before any image is asked for."""

    fetched: FetchedObjects
    choice: SiteChoice
    facts: Facts
    images: tuple[WantedImage, ...]  # what no registry has, and what is compiled, left out


def _read_names(
    release: Release,
    files: Sequence[WantedFile],
    site: SiteRequest | None,
    upstream: Upstream,
    work: Path,
) -> _Named:
    fetched = fetch_objects(release, files, upstream, work)
    choice = resolve_site(release, fetched.rendered, site, upstream)
    found = check_complete(fetched.rendered)
    facts = gather_facts(release, fetched.rendered, found)
    from_kubeadm = kubeadm_images(release, fetched.files, fetched.find_file, work)
    by_name = wanted_images(release, from_kubeadm, found_images(found))
    builds = wanted_builds(release)
    check_known_images(release, {*(one.reference for one in by_name), *_bases_of(builds)})
    images = with_site_images(by_name, choice, plain_references(release))
    all_named = (*images, *(build.image() for build in builds))
    refuse_incoherent(judge_release(release, facts, all_named), release.name, is_complete=False)
    return _Named(fetched, choice, facts, images)


def _bases_of(builds: Sequence[WantedBuild]) -> list[ImageReference]:
    return [build.spec.base for build in builds if build.spec.base]


@dataclass(frozen=True, slots=True)
class _Locking:
    """One run: the release, and what the catalog knows about its images."""

    release: Release
    upstream: Upstream
    sourcing: Mapping[ImageReference, Sourcing]

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
