"""A site's own Python packages: which wheels, for whom, complete, by hash.

Nothing is taken that workloads.yaml does not list; what listed packages need of others must be
listed, too, or the site would find out with no way to get it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.requirements import (
    Requirement,
    evaluate_marker,
    marker_environment,
    normalise,
)
from perimeter_bundle.collect.wheelhouse import (
    Wheel,
    download_for,
    machine_of,
    read_wheel,
    run_pip,
    wheels_only,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.locked_package import LockedPackage, PythonTarget
from perimeter_bundle.registry.answer import shown_url
from perimeter_bundle.registry.transfer import hash_file

_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)")
_NEEDED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = Digest.of_bytes(b"")  # names the algorithm
_WORKLOADS_FILE = "workloads.yaml"


@dataclass(frozen=True, slots=True)
class CarriedPackage:
    """A locked wheel and the file that is it."""

    locked: LockedPackage
    wheel: Wheel


def package_targets(release: Release) -> tuple[PythonTarget, ...]:
    """Every Python on every platform that the packages are for."""
    python = release.workloads.python
    platforms = python.platforms or release.platforms
    return tuple(PythonTarget(one, platform) for one in python.pythons for platform in platforms)


def unresolved_packages(release: Release) -> tuple[LockedPackage, ...]:
    """One entry without a digest for each requirement."""
    return tuple(
        LockedPackage(name, version, "", tuple(targets), "", None, 0)
        for (name, version), targets in _wanted(release).items()
    )


def package_problems(lock: Lock, release: Release) -> list[str]:
    """Where the lock and workloads.yaml ask for different packages, or for other Pythons."""
    locked: dict[tuple[str, str], set[PythonTarget]] = {}
    for package in lock.packages:
        locked.setdefault((package.name, package.version), set()).update(package.targets)
    wanted = _wanted(release)
    problems = []
    for key in sorted(wanted.keys() | locked.keys()):
        name = "==".join(key)
        if key not in locked:
            problems.append(f"{name} is in {_WORKLOADS_FILE}, not in the lock")
        elif key not in wanted:
            problems.append(f"{name} is in the lock, not in {_WORKLOADS_FILE}")
        else:
            for target in sorted(locked[key] ^ set(wanted[key])):
                where = "not " if target not in locked[key] else "only "
                problems.append(f"{name} is {where}locked for Python {target}")
    return problems + list(_other_hashes(lock, release))


def lock_python_packages(
    release: Release, work: Path, environment: Mapping[str, str], on_event: OnEvent
) -> tuple[LockedPackage, ...]:
    """Every wheel for each Python on each platform, with its digest, size and address.

    Raises InputError[no-wheel], [packages-incomplete], HostError[tool-failed] with what pip said,
    IntegrityError.
    """
    found: dict[str, LockedPackage] = {}
    problems: list[str] = []
    for target in package_targets(release):
        requirements = _for_target(release, target)
        with tempfile.TemporaryDirectory(prefix="packages-", dir=work) as folder:
            wheels = _download(requirements, target, Path(folder), environment, on_event)
            problems += _missing(wheels, target, release.workloads.python.provided)
            urls = _addresses(wheels, target, Path(folder), environment, on_event)
        for requirement in requirements:
            wheel = wheels[requirement.name]
            url = urls.get(wheel.digest, "")
            locked = _locked(requirement, wheel, target, url)
            known = found.setdefault(locked.filename, locked)
            if known.digest != locked.digest:
                raise _two_files(known, locked)
            targets = {*known.targets, target}
            found[locked.filename] = replace(known, targets=tuple(targets))
    if problems:
        raise InputError(
            "packages-incomplete",
            f"packages of {_WORKLOADS_FILE} need others that it does not list",
            problems=problems,
            hint="uv pip compile --generate-hashes writes all of them into a requirements file; "
            "what the images have already goes under python.provided",
        )
    return tuple(found.values())


def fetch_python_packages(
    packages: Sequence[LockedPackage],
    work: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
) -> tuple[CarriedPackage, ...]:
    """The locked wheels, in ``work``, which is kept between runs.

    Raises IntegrityError[digest-mismatch], HostError[tool-failed] with what pip said.
    """
    folder = work / "python-packages"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in packages if not _is_there(folder, one)]
    for target in sorted({target for one in missing for target in one.targets}):
        wanted = [_pinned(one) for one in missing if target in one.targets]
        download_for(wanted, target.python, target.platform, folder, environment, on_event)
    carried = []
    for one in packages:
        if not _is_there(folder, one):
            raise IntegrityError(
                "digest-mismatch",
                f"refused {one.filename}: pip brought another file",
                context={"expected": one.digest},
                hint=f"lock again: the index has other files for {one.name}=={one.version} now",
            )
        carried.append(CarriedPackage(one, read_wheel(folder / one.filename, _digest(one), "")))
    return tuple(carried)


def _wanted(release: Release) -> dict[tuple[str, str], list[PythonTarget]]:
    wanted: dict[tuple[str, str], list[PythonTarget]] = {}
    for target in package_targets(release):
        for requirement in _for_target(release, target):
            wanted.setdefault((requirement.name, requirement.version), []).append(target)
    return wanted


def _for_target(release: Release, target: PythonTarget) -> tuple[Requirement, ...]:
    """What is asked for on one Python; raises InputError[bad-workloads] for a name asked twice."""
    machine = machine_of(target.platform)
    wanted: dict[str, Requirement] = {}
    for requirement in release.workloads.python.requirements:
        if requirement.applies(target.python, machine):
            if requirement.name in wanted:
                raise InputError(
                    "bad-workloads",
                    f"{_WORKLOADS_FILE} asks twice for {requirement.name} on Python {target}",
                    hint="list it once, or with markers that exclude each other",
                )
            wanted[requirement.name] = requirement
    return tuple(wanted.values())


def _download(
    requirements: Sequence[Requirement],
    target: PythonTarget,
    folder: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
) -> dict[str, Wheel]:
    """The wheels by name; one for each requirement."""
    for hashed in (True, False):
        group = [one for one in requirements if bool(one.hashes) is hashed]
        if group:
            try:
                download_for(
                    *(group, target.python, target.platform, folder, environment, on_event),
                    hashed=hashed,
                )
            except HostError as error:
                raise _no_wheel(error, target) from error
    wheels = {}
    for path in sorted(folder.glob("*.whl")):
        wheel = read_wheel(path, hash_file(path, _SHA256), "")
        wheels[wheel.name] = wheel
    absent = [one.name for one in requirements if one.name not in wheels]
    if absent:
        raise IntegrityError(
            "bad-wheel",
            f"pip brought no wheel that calls itself {', '.join(absent)}",
            context={"for": f"Python {target}"},
        )
    return wheels


def _missing(
    wheels: Mapping[str, Wheel], target: PythonTarget, provided: Sequence[str]
) -> Iterator[str]:
    """What the wheels need on this Python and nobody lists."""
    environment = marker_environment(target.python, machine_of(target.platform))
    for name, wheel in sorted(wheels.items()):
        for text in wheel.requires:
            needed = _NEEDED.match(text)
            if needed is None or not _applies(text.partition(";")[2], environment):
                continue
            other = normalise(needed[0])
            if other not in wheels and other not in provided:
                yield f"{name} {wheel.version} needs {other} on Python {target}"


def _applies(marker: str, environment: Mapping[str, str]) -> bool:
    try:
        return not marker.strip() or evaluate_marker(marker, environment)
    except ValueError:  # a comparison nobody here understands is about something exotic
        return False


def _addresses(
    wheels: Mapping[str, Wheel],
    target: PythonTarget,
    folder: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
) -> dict[Digest, str]:
    """Where pip has each wheel from, by digest; what it does not say is left out.

    https://pip.pypa.io/en/stable/reference/installation-report/
    """
    file, report = folder / "found.txt", folder / "report.json"
    lines = [f"{one.name}=={one.version} --hash={one.digest}" for _, one in sorted(wheels.items())]
    file.write_text("\n".join([*lines, ""]))
    task = f"addresses of the packages for Python {target}"
    try:
        run_pip(
            [
                *("install", "--quiet", "--dry-run", "--ignore-installed", "--report", report),
                *("--target", folder / "nowhere", "--require-hashes", "--requirement", file),
                *wheels_only(target.python, target.platform),
            ],
            folder,
            environment,
            task,
        )
        entries = json.loads(report.read_bytes())["install"]
        return dict(_address(entry["download_info"]) for entry in entries)
    except (PerimeterError, OSError, ValueError, LookupError, TypeError) as error:
        reason = error.message if isinstance(error, PerimeterError) else type(error).__name__
        on_event(Event(EventKind.WARNING, task, f"pip does not tell the {task}: {reason}"))
        return {}


def _address(download_info: Mapping[str, object]) -> tuple[Digest, str]:
    archive, url = download_info["archive_info"], str(download_info["url"])
    hashes = archive["hashes"] if isinstance(archive, dict) else {}
    shown = shown_url(url) if url.startswith(("https://", "http://")) else ""
    return Digest.parse(f"sha256:{hashes['sha256']}"), shown


def _locked(
    requirement: Requirement, wheel: Wheel, target: PythonTarget, url: str
) -> LockedPackage:
    return LockedPackage(
        name=requirement.name,
        version=requirement.version,
        filename=wheel.path.name,
        targets=(target,),
        url=url,
        digest=wheel.digest,
        size_bytes=wheel.size_bytes,
    )


def _other_hashes(lock: Lock, release: Release) -> Iterator[str]:
    """Locked wheels that the requirement files do not allow any more."""
    allowed: dict[tuple[str, str], set[Digest]] = {}
    for one in release.workloads.python.requirements:
        allowed.setdefault((one.name, one.version), set()).update(one.hashes)
    for package in lock.packages:
        hashes = allowed.get((package.name, package.version))
        if hashes and package.digest and package.digest not in hashes:
            yield f"{package.filename}: the locked hash is not in the requirements file"


def _is_there(folder: Path, package: LockedPackage) -> bool:
    path = folder / package.filename
    return path.is_file() and hash_file(path, _SHA256) == package.digest


def _pinned(package: LockedPackage) -> Requirement:
    return Requirement(package.name, package.version, "", frozenset({_digest(package)}))


def _digest(package: LockedPackage) -> Digest:
    if package.digest is None:
        raise AssertionError("check_lock refuses unresolved locks")
    return package.digest


def _no_wheel(error: HostError, target: PythonTarget) -> PerimeterError:
    names = sorted({name for line in error.problems for name in _NOT_FOUND.findall(line)})
    if not names:
        return error
    return InputError(
        "no-wheel",
        f"there is no wheel of {', '.join(names)} for Python {target}",
        problems=error.problems,
        hint="sdists are not taken: they run code while building. Choose a version that has "
        "wheels, or build one yourself and name its folder with PIP_FIND_LINKS",
    )


def _two_files(one: LockedPackage, other: LockedPackage) -> IntegrityError:
    return IntegrityError(
        "two-wheels",
        f"the index has two different files called {one.filename}",
        context={"one": one.digest, "other": other.digest},
    )
