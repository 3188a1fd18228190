"""The wheels a jump host needs, for each Python it may have, downloaded by pip against hashes.

pip is used as the user set it up (index, certificates, proxy): its environment variables and
configuration files are passed through, nothing else is.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from perimeter_bundle.collect.requirements import Requirement, normalise, parse_requirements
from perimeter_bundle.format.files import write_file
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.registry.transfer import hash_file
from perimeter_bundle.tools.run import clean_environment, run_tool

PIP_TIMEOUT_S = 1800.0
_MAX_METADATA_BYTES = 8 * 1024 * 1024  # a long description follows the headers
REQUIREMENT_FILES = ("install.txt", "pip.txt", "collections.txt")
COLLECTIONS_FILE = "collections.txt"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# glibc 2.28 is the oldest that a supported distribution with Python 3.11 has (RHEL 8)
_GLIBC_MINORS = range(28, 4, -1)
_SHA256 = Digest.of_bytes(b"")  # names the algorithm
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_PASSED_THROUGH = (
    *("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """One downloaded wheel; ``requirements`` is the file that asks for it."""

    path: Path
    name: str
    version: str
    digest: Digest
    size_bytes: int
    licence: str
    requirements: str
    requires: tuple[str, ...] = ()  # other packages, as its metadata says
    requires_python: str = ""


def download_wheels(
    folder: Path,
    pythons: Sequence[str],
    platforms: Sequence[Platform],
    work: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
) -> tuple[Wheel, ...]:
    """Every wheel that the requirement files in ``folder`` ask for, sorted by file name.

    ``work`` is kept between runs: a wheel that is there with the right hash is not fetched again.
    Raises InputError[bad-requirements], HostError[tool-failed] with what pip said,
    IntegrityError[digest-mismatch].
    """
    files = {name: (folder / name).read_bytes() for name in REQUIREMENT_FILES}
    requirements = {name: parse_requirements(data, name) for name, data in files.items()}
    # another set of requirements is another folder: nothing of the old one can stay behind
    state = Digest.of_bytes(repr((sorted(files.items()), pythons, platforms)).encode()).hex[:16]
    target, finished = work / f"wheels-{state}", work / f"wheels-{state}.done"
    target.mkdir(parents=True, exist_ok=True)
    if finished.exists():
        on_event(Event(EventKind.SKIP, "wheels", "downloaded by an earlier run"))
    else:
        wanted = [one for all_ in requirements.values() for one in all_]
        for python in pythons:
            for platform in platforms:
                download_for(wanted, python, platform, target, environment, on_event)
        write_file(finished, b"")
    owner = {
        digest: name for name, all_ in requirements.items() for one in all_ for digest in one.hashes
    }
    wheels = []
    for path in sorted(target.glob("*.whl")):
        digest = hash_file(path, _SHA256)
        if digest not in owner:
            raise IntegrityError(
                "digest-mismatch",
                f"refused {path.name}: no requirement has its hash",
                context={"got": digest, "file": path},
                hint="remove the file and build again",
            )
        wheels.append(read_wheel(path, digest, owner[digest]))
    return tuple(wheels)


def wheel_tags(platform: Platform) -> tuple[str, ...]:
    """Platform tags of wheels that run on ``platform``, the newest first."""
    machine = _MACHINES.get(platform.architecture)
    if platform.os != "linux" or machine is None:
        raise HostError("no-wheels", f"there are no wheels for a jump host of {platform}")
    tags = []
    for minor in _GLIBC_MINORS:
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY and (machine == "x86_64" or minor == 17):
            tags.append(f"{_LEGACY[minor]}_{machine}")
    return tuple(tags)


def download_for(
    requirements: Sequence[Requirement],
    python: str,
    platform: Platform,
    target: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
    *,
    hashed: bool = True,
) -> None:
    """Has pip put the wheels of ``requirements`` for one Python on one platform into ``target``.

    Raises HostError[tool-failed], IntegrityError[digest-mismatch].
    """
    task = f"wheels for Python {python}, {platform}"
    on_event(Event(EventKind.START, task))
    machine = machine_of(platform)
    lines = [one.to_line() for one in requirements if one.applies(python, machine)]
    with tempfile.TemporaryDirectory(prefix="pip-", dir=target.parent) as scratch_name:
        scratch = Path(scratch_name)
        file = scratch / "requirements.txt"
        file.write_text("\n".join([*lines, ""]))
        run_pip(
            [
                *("download", *wheels_only(python, platform)),
                *(("--require-hashes",) if hashed else ()),
                *("--dest", target, "--requirement", file),
            ],
            scratch,
            environment,
            task,
        )
    on_event(Event(EventKind.FINISH, task, done_items=len(lines), total_items=len(lines)))


def machine_of(platform: Platform) -> str:
    """The name that Python has for the processor of a platform."""
    return _MACHINES.get(platform.architecture, platform.architecture)


def wheels_only(python: str, platform: Platform) -> tuple[str, ...]:
    """Options that make pip take wheels for another Python and platform, and nothing else."""
    tags = [word for tag in wheel_tags(platform) for word in ("--platform", tag)]
    return (
        *("--no-deps", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", python, *tags),
    )


def run_pip(
    arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str], task: str
) -> None:
    """Runs pip with the user's own settings of it and nothing else of ``environment``.

    Raises HostError[tool-failed], IntegrityError[digest-mismatch].
    """
    passed = {key: environment[key] for key in _PASSED_THROUGH if key in environment}
    passed |= {key: value for key, value in environment.items() if key.startswith("PIP_")}
    always = ("--disable-pip-version-check", "--no-input")
    try:
        run_tool(
            [sys.executable, "-m", "pip", *always, *arguments],
            folder=folder,
            environment=clean_environment(folder, passed),
            timeout_s=PIP_TIMEOUT_S,
            what=f"download the {task}",
            hint="pip's own settings say where wheels come from: pip config list",
        )
    except HostError as error:
        if any("DO NOT MATCH THE HASHES" in line for line in error.problems):
            raise IntegrityError(
                "digest-mismatch",
                f"refused a package among the {task}: it has none of the locked hashes",
                problems=error.problems,
                hint="the index, or something on the way, changed it",
            ) from error
        raise


def read_wheel(path: Path, digest: Digest, requirements: str) -> Wheel:
    """What a wheel says of itself; raises IntegrityError[bad-wheel]."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            with archive.open(names[0]) as file:
                message = BytesParser().parsebytes(file.read(_MAX_METADATA_BYTES), headersonly=True)
    except (zipfile.BadZipFile, IndexError, OSError, zlib.error, RuntimeError) as error:
        raise IntegrityError("bad-wheel", f"{path.name} is not a wheel: {error}") from error
    return Wheel(
        path=path,
        name=normalise(str(message["Name"])),
        version=str(message["Version"]),
        digest=digest,
        size_bytes=path.stat().st_size,
        licence=wheel_licence(message),
        requirements=requirements,
        requires=tuple(str(line) for line in message.get_all("Requires-Dist", [])),
        requires_python=str(message["Requires-Python"] or ""),
    )


def wheel_licence(metadata: Message) -> str:
    """The licence a package states: an SPDX expression, else its classifiers, else a short text."""
    if metadata["License-Expression"]:
        return str(metadata["License-Expression"])
    prefix = "License :: "
    stated = [str(line) for line in metadata.get_all("Classifier", []) if prefix in str(line)]
    names = sorted({line.rpartition(" :: ")[2] for line in stated} - {"OSI Approved"})
    if names:
        return ", ".join(names)
    text = str(metadata["License"] or "").strip()
    return text if text and "\n" not in text and len(text) <= 80 else "see the wheel"
