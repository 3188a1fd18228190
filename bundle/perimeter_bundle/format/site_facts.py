"""site-facts.json: what the hosts of a site are, told to the connected side, signed by the site.

Some images carry the operating system or the kernel of a node in their tag; this file says which
there are. It crosses the air gap outwards, so it holds what is needed for that and no address,
serial number or account. docs/formats/site-facts.md describes it.

1. A key that the connected side trusts already signed FILE (signed_file.py).
2. Only then FILE is read: strict JSON, no unknown key, every text of a narrow shape, since texts
   of it become parts of image references.
3. Nothing in it contradicts itself: each host stands there once, each profile has a host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from perimeter_bundle.format.signed_file import read_signed, write_signed
from perimeter_bundle.format.strict_json import MIB, dump_object, parse_object
from perimeter_bundle.format.trust import Trust, TrustedKey
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reader import Reader, Table, repeated

SITE_FACTS_FORMAT = "perimeter-site-facts/1"
SITE_FACTS_FILE = "site-facts.json"
MAX_SITE_FACTS_BYTES = 4 * MIB
MAX_HOSTS = 10_000
MAX_PROBLEMS = 50  # a hostile file shall not fill the screen


class DriverChoice(Enum):
    """Who brings the GPU driver: a container of the GPU operator, or the host's own system."""

    CONTAINER = "container"
    HOST = "host"


class PrecompiledChoice(Enum):
    """Whether driver containers with modules compiled for one kernel are used."""

    NEVER = "never"
    PREFER = "prefer"
    REQUIRE = "require"


class SecureBoot(Enum):
    """Whether the firmware loads signed kernel modules alone."""

    ON = "on"
    OFF = "off"  # also firmware without UEFI
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Gpu:
    """GPUs of one kind in a host: PCI id (``10de:2330``), and the name where it is known."""

    device: str
    name: str
    count: int


@dataclass(frozen=True, slots=True, order=True)
class HostDisc:
    """Room of the file system that holds ``path``."""

    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class SiteHost:
    """One host of a profile."""

    name: str
    discs: tuple[HostDisc, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Machine:
    """What hosts of one profile have in common; everything that a tag can depend on."""

    groups: tuple[str, ...]
    os_id: str  # ID of os-release
    os_version: str  # VERSION_ID, empty for a distribution without versions
    kernel: str  # uname -r
    architecture: str  # as OCI platforms name it: amd64, arm64
    gpus: tuple[Gpu, ...] = ()
    nvidia_driver: str = ""  # version of the driver that is loaded already
    secure_boot: str = SecureBoot.UNKNOWN.value
    runtimes: tuple[str, ...] = ()  # container runtimes that run already

    @property
    def text(self) -> str:
        """For messages: ``ubuntu 22.04, kernel 5.15.0-78-generic, amd64``."""
        os = f"{self.os_id} {self.os_version}".strip()
        return f"{os}, kernel {self.kernel}, {self.architecture}"


@dataclass(frozen=True, slots=True)
class HostProfile:
    """Hosts that are alike; ``name`` is ``gpu-1`` or ``cpu-1`` and so on."""

    name: str
    machine: Machine
    hosts: tuple[SiteHost, ...]

    @property
    def host_names(self) -> str:
        """For messages: ``n1, n2``."""
        return ", ".join(host.name for host in self.hosts)


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """The whole file. ``driver`` and ``precompiled`` are what the site asks for."""

    site: str
    driver: DriverChoice
    precompiled: PrecompiledChoice
    profiles: tuple[HostProfile, ...]

    def to_bytes(self) -> bytes:
        """The file; the same facts always the same bytes."""
        return dump_object(
            {
                "format": SITE_FACTS_FORMAT,
                "site": self.site,
                "gpu": {"driver": self.driver.value, "precompiled": self.precompiled.value},
                "profiles": [_profile_dict(profile) for profile in self.profiles],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> SiteFacts:
        """The facts in ``data``.

        Raises IntegrityError[bad-json] or InputError[bad-site-facts] with every problem found.
        """
        document = parse_object(data, SITE_FACTS_FILE, max_bytes=MAX_SITE_FACTS_BYTES)
        if document.get("format") != SITE_FACTS_FORMAT:
            raise InputError(
                "bad-site-facts",
                "not site facts of a format known here",
                context={
                    "found": repr(document.get("format"))[:100],
                    "expected": SITE_FACTS_FORMAT,
                },
                hint="write the file again with perimeter-install site-facts, or use a newer"
                " perimeter-bundle",
            )
        reader = Reader()
        where = "site facts"
        reader.only(document, where, ("format", "site", "gpu", "profiles"))
        gpu = reader.table(document, "gpu", where)
        reader.only(gpu, "gpu", ("driver", "precompiled"))
        facts = cls(
            site=reader.value(document, "site", where, _shape(_NAME), ""),
            driver=reader.value(gpu, "driver", "gpu", DriverChoice, DriverChoice.CONTAINER),
            precompiled=reader.value(
                gpu, "precompiled", "gpu", PrecompiledChoice, PrecompiledChoice.NEVER
            ),
            profiles=tuple(reader.tables(document, "profiles", _read_profile)),
        )
        problems = reader.problems + _contradictions(facts)
        if problems:
            raise InputError(
                "bad-site-facts",
                f"the site facts cannot be used: {len(problems)} problems",
                problems=[problem[:200] for problem in problems[:MAX_PROBLEMS]],
                hint="write the file again with perimeter-install site-facts; it is never edited",
            )
        return facts


def group_hosts(machines: Iterable[tuple[Machine, SiteHost]]) -> tuple[HostProfile, ...]:
    """Hosts grouped into profiles, sorted by what they have in common and named in that order."""
    alike: dict[Machine, list[SiteHost]] = {}
    for machine, host in machines:
        alike.setdefault(machine, []).append(host)
    counts = {"cpu": 0, "gpu": 0}
    profiles = []
    for machine in sorted(alike):
        kind = "gpu" if machine.gpus or "gpu" in machine.groups else "cpu"
        counts[kind] += 1
        profiles.append(
            HostProfile(f"{kind}-{counts[kind]}", machine, tuple(sorted(alike[machine])))
        )
    return tuple(sorted(profiles, key=lambda profile: profile.name))


_MAKER = object()


@dataclass(frozen=True, slots=True)
class VerifiedSiteFacts:
    """Site facts whose signature held when they were read. Only open_site_facts makes one."""

    facts: SiteFacts
    digest: Digest  # of the file
    signer: TrustedKey
    maker: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.maker is not _MAKER:
            raise TypeError("only open_site_facts() makes VerifiedSiteFacts")


def write_site_facts(
    facts: SiteFacts, path: Path, key_path: Path, password: str | None = None
) -> tuple[Path, str]:
    """Writes ``path`` and its signature; the signature's path and the id of the key.

    Raises what write_signed raises.
    """
    return write_signed(path, facts.to_bytes(), SiteFacts.parse, key_path, password)


def open_site_facts(path: Path, trust: Trust) -> VerifiedSiteFacts:
    """The facts in ``path`` if a key in ``trust`` signed them.

    Raises InputError[no-site-facts], what read_signed raises, and what SiteFacts.parse raises.
    """
    if not path.is_file():
        raise InputError(
            "no-site-facts",
            f"there is no file {path}",
            hint="perimeter-install site-facts writes it at the site; carry it here with its .sig",
        )
    signed = read_signed(path, trust, MAX_SITE_FACTS_BYTES)  # 1
    return VerifiedSiteFacts(
        SiteFacts.parse(signed.data), signed.digest, signed.signer, _MAKER
    )  # 2, 3


def _profile_dict(profile: HostProfile) -> dict[str, object]:
    machine = profile.machine
    return {
        "name": profile.name,
        "groups": list(machine.groups),
        "os_id": machine.os_id,
        "os_version": machine.os_version,
        "kernel": machine.kernel,
        "architecture": machine.architecture,
        "gpus": [
            {"device": gpu.device, "name": gpu.name, "count": gpu.count} for gpu in machine.gpus
        ],
        "nvidia_driver": machine.nvidia_driver,
        "secure_boot": machine.secure_boot,
        "runtimes": list(machine.runtimes),
        "hosts": [
            {
                "name": host.name,
                "discs": [
                    {
                        "path": disc.path,
                        "free_bytes": disc.free_bytes,
                        "total_bytes": disc.total_bytes,
                    }
                    for disc in host.discs
                ],
            }
            for host in profile.hosts
        ],
    }


Value = TypeVar("Value")

_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PROFILE = r"(?:gpu|cpu)-[1-9][0-9]{0,4}"
_WORD = r"[a-z][a-z0-9_-]{0,31}"
_OS_ID = r"[a-z0-9][a-z0-9._-]{0,31}"  # os-release(5)
_OS_VERSION = r"(?:[a-z0-9][a-z0-9._-]{0,31})?"
_KERNEL = r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}"
_ARCHITECTURE = r"[a-z0-9_]{1,32}"
_DEVICE = r"[0-9a-f]{4}:[0-9a-f]{4}"
_DRIVER = r"(?:[0-9][0-9.]{0,31})?"
_PATH = r"/[A-Za-z0-9_./+@-]{0,255}"
_GPU_NAME = r"[ -~]{0,100}"


def _shape(pattern: str) -> Callable[[str], str]:
    """A parser for texts of one shape; the text itself is shown only as far as it is harmless."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text[:60]!r} is not of the shape it must have")
        return text

    return parse


def _text(reader: Reader, table: Table, key: str, where: str, pattern: str) -> str:
    """As ``Reader.value``, for texts that may be empty."""
    if table.get(key) == "" and re.fullmatch(pattern, ""):
        return ""
    return reader.value(table, key, where, _shape(pattern), "")


def _read_profile(reader: Reader, table: Table, where: str) -> HostProfile:
    reader.only(table, where, _PROFILE_KEYS)
    return HostProfile(
        name=reader.value(table, "name", where, _shape(_PROFILE), ""),
        machine=Machine(
            groups=tuple(reader.each(table, "groups", where, _shape(_WORD))),
            os_id=_text(reader, table, "os_id", where, _OS_ID),
            os_version=_text(reader, table, "os_version", where, _OS_VERSION),
            kernel=_text(reader, table, "kernel", where, _KERNEL),
            architecture=_text(reader, table, "architecture", where, _ARCHITECTURE),
            gpus=tuple(_inner(reader, table, "gpus", where, _read_gpu)),
            nvidia_driver=_text(reader, table, "nvidia_driver", where, _DRIVER),
            secure_boot=reader.value(
                table, "secure_boot", where, SecureBoot, SecureBoot.UNKNOWN
            ).value,
            runtimes=tuple(reader.each(table, "runtimes", where, _shape(_WORD))),
        ),
        hosts=tuple(_inner(reader, table, "hosts", where, _read_host)),
    )


def _read_gpu(reader: Reader, table: Table, where: str) -> Gpu:
    reader.only(table, where, ("device", "name", "count"))
    return Gpu(
        device=_text(reader, table, "device", where, _DEVICE),
        name=_text(reader, table, "name", where, _GPU_NAME),
        count=reader.count(table, "count", where),
    )


def _read_host(reader: Reader, table: Table, where: str) -> SiteHost:
    reader.only(table, where, ("name", "discs"))
    return SiteHost(
        name=_text(reader, table, "name", where, _NAME),
        discs=tuple(_inner(reader, table, "discs", where, _read_disc)),
    )


def _read_disc(reader: Reader, table: Table, where: str) -> HostDisc:
    reader.only(table, where, ("path", "free_bytes", "total_bytes"))
    return HostDisc(
        path=_text(reader, table, "path", where, _PATH),
        free_bytes=reader.count(table, "free_bytes", where),
        total_bytes=reader.count(table, "total_bytes", where),
    )


def _inner(
    reader: Reader, table: Table, key: str, where: str, read: Callable[[Reader, Table, str], Value]
) -> list[Value]:
    """Every table of the list at ``key``; the list must be there."""
    if key not in table:
        reader.problems.append(f"{where}: {key} must be a list of tables")
        return []
    return reader.tables(table, key, read)


def _contradictions(facts: SiteFacts) -> list[str]:
    names = [host.name for profile in facts.profiles for host in profile.hosts]
    problems = [f"host {name} stands there twice" for name in repeated(names)]
    problems += [
        f"profile {name} stands there twice"
        for name in repeated(profile.name for profile in facts.profiles)
    ]
    problems += [
        f"profile {profile.name} has no host" for profile in facts.profiles if not profile.hosts
    ]
    if not facts.profiles:
        problems.append("site facts: profiles names none")
    if len(names) > MAX_HOSTS:
        problems.append(f"{len(names)} hosts are more than {MAX_HOSTS}")
    return problems


_PROFILE_KEYS = (
    "name",
    "groups",
    "os_id",
    "os_version",
    "kernel",
    "architecture",
    "gpus",
    "nvidia_driver",
    "secure_boot",
    "runtimes",
    "hosts",
)
