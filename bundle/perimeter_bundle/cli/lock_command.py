"""perimeter-bundle lock: names → digests → images.lock."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from perimeter_bundle.cli.options import (
    LOCK_NAME,
    build_cache_option,
    choose,
    network_options,
    network_settings,
    read_lock,
    release_options,
    workloads_option,
)
from perimeter_bundle.cli.options import build_cache as build_cache_folder
from perimeter_bundle.cli.site_options import (
    os_repositories_option,
    precompiled_option,
    site_options,
    site_request,
)
from perimeter_bundle.collect.compare import LockDifference, diff_locks
from perimeter_bundle.collect.lock import lock_release, name_release
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.collect.workload_images import workload_upstream
from perimeter_bundle.format.disc import disc_errors
from perimeter_bundle.format.files import write_file
from perimeter_bundle.gobuild.kept import Kept
from perimeter_bundle.gobuild.made import GoSettings
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.locked_site import LockedSite
from perimeter_bundle.review.coherence.judge import Judgement
from perimeter_bundle.terminal.options import Output, common_options


@click.command()
@release_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(LOCK_NAME),
    show_default=True,
    help="Where to write the lock; what it changes is shown.",
)
@click.option(
    "--unresolved",
    is_flag=True,
    help="Write names without digests; no registry is asked for images.",
)
@click.option("--accept-moved", is_flag=True, help="Accept names that stand for other bytes now.")
@workloads_option
@site_options
@precompiled_option
@os_repositories_option
@build_cache_option
@network_options
@common_options
def lock(
    output: Output,
    release_name: str,
    catalog_path: Path | None,
    platforms: tuple[str, ...],
    out: Path,
    unresolved: bool,
    accept_moved: bool,
    workloads_path: Path | None,
    site_facts_path: Path | None,
    trust_path: Path | None,
    precompiled: str | None,
    os_repositories_path: Path | None,
    build_cache: Path | None,
    ca_file: Path | None,
    mirrors: tuple[str, ...],
    docker_config: Path | None,
    workers: int,
) -> None:
    """Resolves every name of a release to a digest and writes images.lock.

    Images are resolved by their manifests, files by the SHA-256 that upstream publishes (or by
    fetching them once); kubeadm itself is asked which images it needs. Every chart is rendered,
    and an image that it names and the catalog does not list is refused. A name that stands for
    other bytes than in the lock before is refused unless --accept-moved is given; one that stands
    for other bytes than the catalog knows is refused in any case. An image that is gone from its
    registry is looked for at the alternates of the catalog, and said to have been found there.
    Images that are built from source are compiled here and kept in the build cache.
    Parts that do not belong together are refused unless the release accepts them with a reason.

    With --unresolved the same names are found and written without digests: charts, manifests,
    sources, kubeadm and kustomize are fetched for that, no registry is asked for an image, and
    build refuses the lock.

    With --site-facts images whose tags depend on the hosts (GPU drivers) are taken for exactly the
    systems and kernels of the site; when there is none for a host, nothing is locked.

    \b
    Examples:
      perimeter-bundle lock 2026.11
      perimeter-bundle lock 2026.11 --out site/images.lock --mirror docker.io=https://mirror.example
      perimeter-bundle lock 2026.11 --unresolved --out names.lock
      perimeter-bundle lock 2026.11 --site-facts site-facts.json --trust site.pub
    """
    settings = network_settings(ca_file, mirrors, docker_config, workers)
    site = site_request(site_facts_path, trust_path, precompiled, os_repositories_path)
    if site and unresolved:
        raise InputError("bad-option", "--unresolved and --site-facts exclude each other")
    chosen = choose(release_name, catalog_path, platforms, workloads_path)
    before = Lock.parse(read_lock(out, release_name)) if out.exists() else None
    judgements: list[Judgement] = []
    with (
        output.reporter() as reporter,
        disc_errors(Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="perimeter-lock-") as name,
        ExitStack() as stack,
    ):
        work, upstream = Path(name), open_upstream(settings, reporter.on_event)
        if unresolved:
            now = name_release(chosen.release, upstream, work, on_judgement=judgements.append)
        else:
            whole = workload_upstream(upstream, chosen.release.workloads, os.environ)
            now = lock_release(
                chosen.release,
                stack.enter_context(whole),
                work,
                site,
                pip_environment=os.environ,
                on_judgement=judgements.append,
                go=GoSettings(Kept(build_cache_folder(build_cache)), dict(os.environ), ca_file),
            )
    difference = diff_locks(before, now)
    _refuse_moved(difference, accept_moved)
    with disc_errors(out):
        write_file(out, now.to_bytes())
    output.result(
        {**_to_dict(out, now, difference), "coherence": judgements[0].to_list()},
        "\n".join([_text(out, now, difference), *judgements[0].lines()]),
    )
    more = f" --workloads {workloads_path}" if workloads_path else ""
    following = (
        f"review {out}, then perimeter-bundle build {release_name} --lock {out}{more} --out DIR"
    )
    if now.unresolved():
        following = f"perimeter-bundle lock {release_name}{more}, where the registries can be asked"
    output.next_step(following)


def _refuse_moved(difference: LockDifference, accept: bool) -> None:
    if difference.moved and not accept:
        raise IntegrityError(
            "moved",
            f"{len(difference.moved)} names stand for other bytes than in the lock before",
            problems=[f"{one.name}: was {one.before}, is {one.now}" for one in difference.moved],
            hint="find out why upstream changed them; --accept-moved takes them over",
        )


def _to_dict(out: Path, now: Lock, difference: LockDifference) -> dict[str, object]:
    return {
        "out": str(out),
        "release": now.release,
        "number": now.number,
        "images": len(now.images),
        "charts": len(now.charts),
        "files": len(now.files),
        "site": _site_dict(now.site),
        "packages": len(now.packages),
        "sources": len(now.sources),
        "unresolved": list(now.unresolved()),
        "found_elsewhere": [
            {"name": str(image.reference), "found_at": str(image.found_at)}
            for image in now.images
            if image.found_at
        ],
        "compiled": [str(image.reference) for image in now.images if image.built],
        "added": list(difference.added),
        "removed": list(difference.removed),
        "resolved": list(difference.resolved),
        "moved": [
            {"name": one.name, "before": str(one.before), "now": str(one.now)}
            for one in difference.moved
        ],
    }


def _site_dict(site: LockedSite | None) -> dict[str, object] | None:
    if site is None:
        return None
    return {
        "name": site.name,
        "facts": str(site.facts),
        "images": sorted(str(image) for image in site.images),
    }


def _text(out: Path, now: Lock, difference: LockDifference) -> str:
    counts = f"{len(now.images)} images, {len(now.charts)} charts, {len(now.files)} files"
    if now.packages:
        counts += f", {len(now.packages)} Python packages"
    lines = [f"{out}: release {now.release} (number {now.number}): {counts}"]
    if now.site:
        lines.append(f"  for site {now.site.name}: {len(now.site.images)} images of its own")
    lines += [f"  + {name}" for name in difference.added]
    lines += [f"  - {name}" for name in difference.removed]
    lines += [f"  = {name} has a digest now" for name in difference.resolved]
    for one in difference.moved:
        lines.append(f"  ! {one.name} MOVED\n      was {one.before}\n      is  {one.now}")
    for image in now.images:
        if image.found_at:
            lines.append(f"  @ {image.reference} is gone from there, found at {image.found_at}")
        if image.built:
            lines.append(f"  * {image.reference} was compiled with {image.built.toolchain}")
    if difference.is_empty:
        lines.append("  nothing changed")
    if now.unresolved():
        lines.append(f"  {len(now.unresolved())} names have no digest: this lock cannot be built")
    return "\n".join(lines)
