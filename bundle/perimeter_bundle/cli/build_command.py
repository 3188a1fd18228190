"""perimeter-bundle build: only what is locked, resumable."""

from __future__ import annotations

import os
from pathlib import Path

import click

from perimeter_bundle.cli.against_options import against_options, inventory_at
from perimeter_bundle.cli.options import build_cache as build_cache_folder
from perimeter_bundle.cli.options import (
    build_cache_option,
    choose,
    find_lock,
    lock_option,
    network_options,
    network_settings,
    read_lock,
    release_options,
    workloads_option,
)
from perimeter_bundle.collect.build import BuildRequest, BuildResult, build_bundle
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.collect.workload_images import workload_upstream
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes


@click.command()
@release_options
@lock_option("The pins to build from.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the bundle: new, empty, or an interrupted build of it.",
)
@click.option(
    "--skip-tag-check",
    is_flag=True,
    help="Build what is locked even if a tag stands for something else now.",
)
@click.option(
    "--deep",
    is_flag=True,
    help="Hash every byte of a bundle that is finished already, not sizes and manifests alone.",
)
@against_options
@workloads_option
@build_cache_option
@network_options
@common_options
def build(
    output: Output,
    release_name: str,
    catalog_path: Path | None,
    platforms: tuple[str, ...],
    lock_path: Path | None,
    out: Path,
    skip_tag_check: bool,
    deep: bool,
    against_path: Path | None,
    trust_path: Path | None,
    workloads_path: Path | None,
    build_cache: Path | None,
    ca_file: Path | None,
    mirrors: tuple[str, ...],
    docker_config: Path | None,
    workers: int,
) -> None:
    """Fetches everything a lock pins and makes a bundle of it.

    Everything is fetched by digest. An interrupted build goes on where it stopped when the same
    command is run again; a finished bundle is known by its sizes and manifests. The wheels for the
    jump host are fetched by pip, with its own settings (pip.conf, PIP_INDEX_URL, PIP_CERT …).
    Images that are built from source are taken from the build cache when they are what the lock
    pins, else compiled again, which must give the same bytes. The same lock gives the same bytes.

    With --against the bundle is a delta: layers of images and files of nodes that every replica of
    the site's registry holds are not fetched and not carried. It installs only where they are.

    \b
    Examples:
      perimeter-bundle build 2026.11 --out /srv/bundles/2026.11
      perimeter-bundle build 2026.11 --lock site/images.lock --out DIR --workers 8
      perimeter-bundle build 2026.12 --out DIR --against inventory.json --trust site.pub
    """
    settings = network_settings(ca_file, mirrors, docker_config, workers)
    against = inventory_at(against_path, trust_path)
    chosen = choose(release_name, catalog_path, platforms, workloads_path)
    request = BuildRequest(
        release=chosen.release,
        catalog=chosen.catalog,
        lock_bytes=read_lock(find_lock(lock_path), release_name),
        out=out,
        environment=dict(os.environ),
        skip_tag_check=skip_tag_check,
        deep=deep,
        build_cache=build_cache_folder(build_cache),
        ca_file=ca_file,
        against=against,
    )
    with (
        output.reporter() as reporter,
        workload_upstream(
            open_upstream(settings, reporter.on_event), chosen.release.workloads, os.environ
        ) as upstream,
    ):
        result = build_bundle(request, upstream, reporter.on_event)
    output.result(_to_dict(result), _text(result))
    output.next_step(f"perimeter-bundle sign {out} --key KEY   (keygen makes one)")


def _to_dict(result: BuildResult) -> dict[str, object]:
    manifest = result.manifest
    return {
        "bundle": str(result.root),
        "release": manifest.release,
        "number": manifest.number,
        "identity": str(result.identity),
        "size_bytes": result.size_bytes,
        "left_out_bytes": result.left_out_bytes,
        "items": len(manifest.items),
    }


def _text(result: BuildResult) -> str:
    manifest = result.manifest
    delta = ""
    if manifest.base:
        left_out = human_bytes(result.left_out_bytes)
        delta = f"\n  a delta: {left_out} are left out, the site's registry holds them"
    return (
        f"{result.root}: release {manifest.release} (number {manifest.number}), "
        f"{len(manifest.items)} items, {human_bytes(result.size_bytes)}{delta}\n"
        f"  identity {result.identity}"
    )
