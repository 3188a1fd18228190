"""perimeter-bundle build: only what is locked, resumable."""

from __future__ import annotations

import os
from pathlib import Path

import click

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

    \b
    Examples:
      perimeter-bundle build 2026.11 --out /srv/bundles/2026.11
      perimeter-bundle build 2026.11 --lock site/images.lock --out DIR --workers 8
    """
    settings = network_settings(ca_file, mirrors, docker_config, workers)
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
        "items": len(manifest.items),
    }


def _text(result: BuildResult) -> str:
    manifest = result.manifest
    return (
        f"{result.root}: release {manifest.release} (number {manifest.number}), "
        f"{len(manifest.items)} items, {human_bytes(result.size_bytes)}\n"
        f"  identity {result.identity}"
    )
