"""Packages of the hosts' systems for images that compile at the site: found, locked, listed.

An image that compiles a kernel module installs the headers of the node's kernel when it starts.
Behind an air gap they must be there already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.site_tags import os_tag
from perimeter_bundle.collect.site_choice import CompilingHosts, SiteChoice, with_packages
from perimeter_bundle.collect.site_lock import SiteRequest
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import FileKind, Lock, LockedFile
from perimeter_bundle.model.locked_site import LockedSiteComponent, SitePackage
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.ospackages.apt import AptRepository, read_repositories
from perimeter_bundle.ospackages.deb_index import Closure, DebPackage, closure

APT_SYSTEMS = ("debian", "ubuntu")
PACKAGES_FORMAT = "perimeter-site-packages/1"


@dataclass(frozen=True, slots=True)
class LockedPackages:
    """Files for the lock, which package each is, and the choice with the values they call for."""

    choice: SiteChoice
    files: tuple[LockedFile, ...] = ()
    by_component: Mapping[str, tuple[SitePackage, ...]] = field(default_factory=dict)


def lock_packages(
    choice: SiteChoice, request: SiteRequest | None, upstream: Upstream, work: Path
) -> LockedPackages:
    """Every package the hosts' images will install, out of the request's repositories.

    Without a repository for a system its hosts are warned of, with the names of the packages.
    Raises InputError[no-driver-packages], and what read_repositories raises.
    """
    repositories = request.repositories if request else ()
    served, problems = [], []
    files: dict[str, LockedFile] = {}
    listed: dict[str, set[SitePackage]] = {}
    for system, architecture in sorted({_system(one) for one in choice.compiling}):
        hosts = [one for one in choice.compiling if _system(one) == (system, architecture)]
        there = [one for one in repositories if one.os_tag == system]
        if not there:
            _warn(hosts, system, upstream)
            continue
        served += hosts
        index = read_repositories(there, architecture, upstream, work)
        for one in hosts:
            found = closure(
                index,
                one.packages.install,
                one.packages.download,
                one.packages.download_if_there,
            )
            problems += _problems(one, found, there)
            for package in found.packages:
                file = _locked(package, one.asked.component)
                files[str(file.reference)] = file
                listed.setdefault(one.asked.component, set()).add(
                    SitePackage(
                        system,
                        package.name,
                        str(package.version),
                        package.architecture,
                        file.reference,
                    )
                )
    if problems:
        raise InputError(
            "no-driver-packages",
            "packages that hosts need to compile their driver are in none of the repositories",
            problems=problems,
            hint="name suites that still have this kernel, or give the hosts one they have; then"
            " write the site facts again",
        )
    return LockedPackages(
        choice=_with_values(choice, served),
        files=tuple(files[name] for name in sorted(files)),
        by_component={name: tuple(sorted(found)) for name, found in listed.items()},
    )


def packages_document(component: LockedSiteComponent, lock: Lock) -> bytes:
    """What a bundle says of the packages: enough to build a repository of them at the site."""
    files = {file.reference: file for file in lock.files}
    return dump_object(
        {
            "format": PACKAGES_FORMAT,
            "packages": [
                {
                    "system": one.system,
                    "name": one.name,
                    "version": one.version,
                    "architecture": one.architecture,
                    "file": files[one.reference].url.rpartition("/")[2],
                    "reference": str(one.reference),
                    "digest": str(files[one.reference].digest),
                    "size_bytes": files[one.reference].size_bytes,
                }
                for one in sorted(component.packages)
            ],
        }
    )


def _with_values(choice: SiteChoice, served: Sequence[CompilingHosts]) -> SiteChoice:
    """One value of a chart is for all hosts, so it is set only when all of them are served."""
    if not served or len(served) < len(choice.compiling):
        return choice
    return with_packages(choice)


def _system(one: CompilingHosts) -> tuple[str, str]:
    return os_tag(one.profile.machine), one.profile.machine.architecture


def _warn(hosts: Iterable[CompilingHosts], system: str, upstream: Upstream) -> None:
    for one in hosts:
        names = ", ".join(one.packages.needed)
        can_be_carried = one.profile.machine.os_id in APT_SYSTEMS
        carried = "; with --os-repositories they are carried" if can_be_carried else ""
        upstream.files.on_event(
            Event(
                EventKind.WARNING,
                one.asked.component,
                f"profile {one.profile.name} ({one.profile.host_names}) compiles its driver and"
                f" needs {names} from a repository for {system} at the site{carried}",
            )
        )


def _problems(
    one: CompilingHosts, found: Closure, repositories: Sequence[AptRepository]
) -> list[str]:
    places = "; ".join(f"{each.url} {' '.join(each.suites)}" for each in repositories)
    return [
        f"profile {one.profile.name} ({one.profile.host_names}): {one.profile.machine.text}: "
        + name
        + (f", which {needed_by} needs" if needed_by else "")
        + f", looked for in {places}"
        for name, needed_by in found.missing
    ]


def _locked(package: DebPackage, component: str) -> LockedFile:
    is_for_all = package.architecture == "all"
    return LockedFile(
        # a name in a registry has no +, and a tag neither : nor ~
        name="deb-" + re.sub(r"[+.-]{2,}|\+", "-plus-", package.name).strip("-"),
        version=re.sub(r"[^A-Za-z0-9._-]", "_", str(package.version)),
        component=component,
        kind=FileKind.FILE,
        platform=None if is_for_all else Platform("linux", package.architecture),
        url=package.url,
        digest=package.digest,
        size_bytes=package.size_bytes,
    )
