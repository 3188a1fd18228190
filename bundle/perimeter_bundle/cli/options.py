"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release, with_platforms
from perimeter_bundle.catalog.values import Catalog, Release
from perimeter_bundle.catalog.workloads import load_workloads, with_workloads
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import MAX_LOCK_BYTES
from perimeter_bundle.registry.settings import DEFAULT_WORKERS, RegistrySettings, settings_from

P = ParamSpec("P")
R = TypeVar("R")

LOCK_NAME = "images.lock"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The release a command works on."""

    catalog: Catalog
    release: Release


def release_options(command: Callable[P, R]) -> Callable[P, R]:
    """RELEASE, --catalog and --platform."""
    command = click.option(
        "--platform",
        "platforms",
        multiple=True,
        metavar="OS/ARCH",
        help="Collect for this platform; may be repeated.  [default: the release's own]",
    )(command)
    return click.argument("release_name", metavar="RELEASE")(catalog_option(command))


def catalog_option(command: Callable[P, R]) -> Callable[P, R]:
    """--catalog: which components and releases there are."""
    return click.option(
        "--catalog",
        "catalog_path",
        type=click.Path(path_type=Path),
        envvar="PERIMETER_CATALOG",
        help="Folder of components and releases.  [default: perimeter's own]",
    )(command)


def catalog_root() -> Path:
    """Where perimeter's own catalog is."""
    return content_root() / "manifests"


def workloads_option(command: Callable[P, R]) -> Callable[P, R]:
    """--workloads: what a site adds to the release."""
    return click.option(
        "--workloads",
        "workloads_path",
        type=click.Path(path_type=Path),
        envvar="PERIMETER_WORKLOADS",
        help="Images and Python packages the site brings itself (workloads.yaml).",
    )(command)


def network_options(command: Callable[P, R]) -> Callable[P, R]:
    """--ca-file, --mirror, --docker-config and --workers."""
    command = click.option(
        "--workers",
        type=int,
        default=DEFAULT_WORKERS,
        show_default=True,
        help="How many transfers run at once.",
    )(command)
    command = click.option(
        "--docker-config",
        type=click.Path(path_type=Path),
        help="Credentials as docker login writes them.  [default: where docker and podman look]",
    )(command)
    command = click.option(
        "--mirror",
        "mirrors",
        multiple=True,
        metavar="HOST=URL",
        help="Ask URL before HOST, for images and files; may be repeated.",
    )(command)
    return click.option(
        "--ca-file",
        type=click.Path(path_type=Path),
        envvar="PERIMETER_CA_FILE",
        help="Certificates (PEM) to trust in addition to the system's.",
    )(command)


def lock_option(help_text: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """--lock: which images.lock."""
    return click.option(
        "--lock",
        "lock_path",
        type=click.Path(path_type=Path),
        envvar="PERIMETER_LOCK",
        help=f"{help_text}  [default: ./{LOCK_NAME}, else perimeter's own]",
    )


def build_cache_option(command: Callable[P, R]) -> Callable[P, R]:
    """--build-cache: where compiled images are kept."""
    return click.option(
        "--build-cache",
        type=click.Path(path_type=Path),
        envvar="PERIMETER_BUILD_CACHE",
        help="Folder for images that are compiled here.  [default: ~/.cache/perimeter/builds]",
    )(command)


def build_cache(path: Path | None) -> Path:
    """The folder that is meant when none is named."""
    if path is not None:
        return path.absolute()
    caches = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(caches) if caches.startswith("/") else Path.home() / ".cache"
    return folder / "perimeter" / "builds"


def choose(
    release_name: str,
    catalog_path: Path | None,
    platforms: Sequence[str],
    workloads_path: Path | None = None,
) -> Chosen:
    """The release of that name with what the site adds to it; raises InputError."""
    catalog = load_catalog(catalog_path or catalog_root())
    release = load_release(catalog, release_name)
    if platforms:
        release = with_platforms(release, platforms)
    if workloads_path is not None:
        release = with_workloads(release, load_workloads(workloads_path))
    return Chosen(catalog, release)


def network_settings(
    ca_file: Path | None, mirrors: Sequence[str], docker_config: Path | None, workers: int
) -> RegistrySettings:
    """The settings that the options and this process's environment stand for."""
    return settings_from(
        environment=os.environ,
        ca_file=ca_file,
        mirrors=mirrors,
        docker_config=docker_config,
        workers=workers,
    )


def find_lock(lock_path: Path | None) -> Path:
    """Which lock is meant when none is named: the one here, else perimeter's own."""
    if lock_path is not None:
        return lock_path
    here = Path(LOCK_NAME)
    return here if here.is_file() else content_root() / LOCK_NAME


def read_lock(path: Path, release_name: str) -> bytes:
    """The bytes of a lock; raises InputError[no-lock]."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_LOCK_BYTES + 1)
    except OSError as error:
        raise InputError(
            "no-lock",
            f"cannot read the lock {path}: {error.strerror}",
            hint=f"write it with perimeter-bundle lock {release_name} --out {path}",
        ) from error
