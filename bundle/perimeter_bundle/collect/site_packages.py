"""Packages of the hosts' systems for images that compile at the site: found, locked, listed.

An image that compiles a kernel module installs the headers of the node's kernel when it starts.
Behind an air gap they must be there already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from perimeter_bundle.catalog.site_tags import os_tag
from perimeter_bundle.collect.site_choice import CompilingHosts, SiteChoice, with_packages
from perimeter_bundle.collect.site_lock import SiteRequest
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.layout import site_repository_path
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import FileKind, Lock, LockedFile
from perimeter_bundle.model.locked_site import LockedSiteComponent, SitePackage, SystemKeys
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.ospackages.found import FAMILIES, Family, FoundPackage, Selection
from perimeter_bundle.ospackages.repodata import ServedRpm, write_repodata
from perimeter_bundle.ospackages.repositories import OsRepository, read_repositories
from perimeter_bundle.ospackages.rpm import RpmRepository
from perimeter_bundle.ospackages.rpm_file import read_rpm
from perimeter_bundle.ospackages.signature import read_armoured

PACKAGES_FORMAT = "perimeter-site-packages/1"


@dataclass(frozen=True, slots=True)
class LockedPackages:
    """Files for the lock, which package each is, and the choice with the values they call for."""

    choice: SiteChoice
    files: tuple[LockedFile, ...] = ()
    by_component: Mapping[str, tuple[SitePackage, ...]] = field(default_factory=dict)
    keys: Mapping[str, tuple[SystemKeys, ...]] = field(default_factory=dict)  # the same


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
    names: dict[str, LockedFile] = {}
    listed: dict[str, set[SitePackage]] = {}
    keys: dict[str, set[SystemKeys]] = {}
    for system, architecture in sorted({_system(one) for one in choice.compiling}):
        hosts = [one for one in choice.compiling if _system(one) == (system, architecture)]
        there = [one for one in repositories if one.os_tag == system]
        if not there:
            _warn(hosts, system, upstream)
            continue
        served += hosts
        index = read_repositories(there, architecture, upstream, work)
        for one in hosts:
            found = index.select(
                one.packages.install,
                one.packages.download,
                one.packages.download_if_there,
            )
            problems += _problems(one, found, there)
            keys.setdefault(one.asked.component, set()).update(_keys(there))
            for package in found.packages:
                file = _locked(package, one.asked.component)
                for known in (str(file.reference), f"{system} {_served_as(file)}"):
                    if names.setdefault(known, file).digest != file.digest:
                        raise _same_name(file, names[known])
                files[str(file.reference)] = file
                listed.setdefault(one.asked.component, set()).add(
                    SitePackage(
                        system,
                        package.name,
                        package.version,
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
        keys={name: tuple(sorted(found)) for name, found in keys.items()},
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
                    "file": _served_as(files[one.reference]),
                    "reference": str(one.reference),
                    "digest": str(files[one.reference].digest),
                    "size_bytes": files[one.reference].size_bytes,
                }
                for one in sorted(component.packages)
            ],
        }
    )


def rpm_repositories(
    component: LockedSiteComponent, lock: Lock, find: Callable[[LockedFile], Path]
) -> Mapping[str, bytes]:
    """Indexes and keys of a repository for each system with rpm packages, by path in the bundle.

    ``find`` gives the package itself. Raises IntegrityError[bad-rpm].
    """
    files = {file.reference: file for file in lock.files}
    served: dict[str, list[ServedRpm]] = {}
    for one in sorted(component.packages):
        file = files[one.reference]
        if file.name.startswith(f"{Family.RPM.value}-") and file.digest and file.size_bytes:
            rpm = read_rpm(find(file), str(file.reference))
            served.setdefault(one.system, []).append(
                ServedRpm(_served_as(file), file.digest, file.size_bytes, rpm)
            )
    found: dict[str, bytes] = {}
    for system, packages in served.items():
        folder = site_repository_path(component.name, system)
        for path, data in write_repodata(packages).items():
            found[f"{folder}/{path}"] = data
        keys = sorted(key.data for key in component.keys if key.system == system)
        for number, data in enumerate(keys, 1):
            found[f"{folder}/RPM-GPG-KEY-{number}"] = data
    return found


def _served_as(file: LockedFile) -> str:
    return unquote(file.url.rpartition("/")[2])


def _keys(repositories: Sequence[OsRepository]) -> set[SystemKeys]:
    """dnf checks each package by itself; apt trusts its index, which is another one at the site."""
    return {
        SystemKeys(one.os_tag, read_armoured(one.keyring))
        for one in repositories
        if isinstance(one, RpmRepository)
    }


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
        can_be_carried = one.profile.machine.os_id in FAMILIES
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
    one: CompilingHosts, found: Selection, repositories: Sequence[OsRepository]
) -> list[str]:
    places = "; ".join(each.places for each in repositories)
    return [
        f"profile {one.profile.name} ({one.profile.host_names}): {one.profile.machine.text}: "
        + missing.name
        + (f", which {missing.needed_by} needs" if missing.needed_by else "")
        + f", looked for in {places}"
        + (f"\nthere are {', '.join(missing.there)}" if missing.there else "")
        for missing in found.missing
    ]


def _locked(package: FoundPackage, component: str) -> LockedFile:
    # a name in a registry has no capitals and no +, and a tag neither : nor ~ nor ^
    plain = re.sub(r"[+._-]{2,}|\+", "-plus-", package.name.lower()).strip("-")
    return LockedFile(
        name=f"{package.family.value}-{plain}",
        version=re.sub(r"[^A-Za-z0-9._-]", "_", package.version),
        component=component,
        kind=FileKind.FILE,
        platform=Platform("linux", package.processor) if package.processor else None,
        url=package.url,
        digest=package.digest,
        size_bytes=package.size_bytes,
    )


def _same_name(one: LockedFile, other: LockedFile) -> IntegrityError:
    return IntegrityError(
        "same-name",
        f"two packages would be called {_served_as(one)} or {one.reference}",
        context={"one": one.url, "other": other.url},
        hint="only one of their repositories can be named",
    )
