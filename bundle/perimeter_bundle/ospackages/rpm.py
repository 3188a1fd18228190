"""A repository of rpm packages read: repomd.xml, then a chain of digests to each package.

1. A key of the given keyring signed repomd.xml (repomd.xml.asc); or, where the distribution signs
   packages alone, the header of each package that is taken, which holds the digest of the rest.
2. It is not older than the revision that was asked for: a mirror cannot turn time back.
3. The primary index has the digest that repomd.xml names.
4. Each package has the SHA-256 that the index names; the lock has it, ``build`` fetches by it.

With signed packages alone the index is a stranger's word: it can offer an older package that the
distribution signed once, but none that it never did, and ``at_least`` proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from perimeter_bundle.collect.sourcing import GONE
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import IntegrityError, NetworkError, TrustError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.ospackages.found import Family, FoundPackage, Selection
from perimeter_bundle.ospackages.rpm_closure import Universe, rpm_closure
from perimeter_bundle.ospackages.rpm_file import read_rpm
from perimeter_bundle.ospackages.rpm_index import (
    CODE,
    NOARCH,
    Repomd,
    RpmPackage,
    read_primary,
    read_repomd,
)
from perimeter_bundle.ospackages.signature import check_detached
from perimeter_bundle.ospackages.unpack import fetch_index, unpack_index

MAX_REPOMD_BYTES = MIB
MAX_SIGNATURE_BYTES = 64 * 1024
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


class Signed(Enum):
    """What the distribution signs."""

    METADATA = "metadata"
    PACKAGES = "packages"


@dataclass(frozen=True, slots=True)
class RpmRepository:
    """Where packages of one system are; ``keyring`` is a file with the distribution's keys."""

    os_tag: str  # rhel9.6, rocky9, sles15.6
    urls: tuple[str, ...]  # https://…, without a slash at the end; asked in order
    keyring: Path
    signed: Signed = Signed.METADATA
    at_least: int = 0  # revision

    @property
    def places(self) -> str:
        """For messages."""
        return " ".join(self.urls)


@dataclass(slots=True)
class RpmIndex:
    """A PackageIndex; packages of repositories that sign nothing else are fetched and checked."""

    universe: Universe
    signed_alone: dict[str, RpmRepository]  # by address of a package
    processor: str
    upstream: Upstream
    work: Path
    _checked: set[str] = field(default_factory=set)

    def select(
        self, install: Sequence[str], download: Sequence[str], if_there: Sequence[str]
    ) -> Selection:
        """See PackageIndex; raises TrustError[bad-signature], IntegrityError and NetworkError."""
        found = rpm_closure(self.universe, install, download, if_there)
        if not found.missing:  # else nothing will be taken
            for package in found.packages:
                if package.url in self.signed_alone and package.url not in self._checked:
                    self._check(package, self.signed_alone[package.url])
        return Selection(tuple(map(self._found, found.packages)), found.missing)

    def _check(self, package: RpmPackage, repository: RpmRepository) -> None:
        path = self.work / "package.rpm"
        path.unlink(missing_ok=True)
        self.upstream.files.fetch(package.url, path, package.digest, package.size_bytes)
        rpm = read_rpm(path, package.url)
        if not rpm.signature:
            raise TrustError(
                "bad-signature",
                f"{package.url} is not signed",
                hint="take a repository whose repomd.xml is signed, or whose packages are",
            )
        check_detached(rpm.signed, rpm.signature, repository.keyring, self.work, package.url)
        name = (rpm.text(1000), rpm.text(1001), rpm.text(1002), rpm.text(1022), rpm.number(1003))
        evr = package.evr
        listed = (package.name, evr.version, evr.release, package.architecture, evr.epoch)
        problem = rpm.payload_problem
        if rpm.number(1106):
            problem = "it is a source package"
        if name != listed:
            problem = f"the index calls it {package.full_name}, it is {'-'.join(map(str, name))}"
        if problem:
            raise IntegrityError("bad-rpm", f"refused {package.url}: {problem}")
        path.unlink()
        self._checked.add(package.url)

    def _found(self, package: RpmPackage) -> FoundPackage:
        return FoundPackage(
            Family.RPM,
            package.name,
            str(package.evr),
            package.architecture,
            "" if package.architecture == NOARCH else self.processor,
            package.url,
            package.digest,
            package.size_bytes,
        )


def read_rpm_repositories(
    repositories: Sequence[RpmRepository], processor: str, upstream: Upstream, work: Path
) -> RpmIndex:
    """Every package for ``processor`` (amd64).

    Raises TrustError[bad-signature], IntegrityError, HostError[tool-missing] without gpgv or zstd,
    and NetworkError.
    """
    packages: list[RpmPackage] = []
    signed_alone: dict[str, RpmRepository] = {}
    for repository in repositories:
        found = _read(repository, ARCHITECTURES.get(processor, processor), upstream, work)
        if repository.signed is Signed.PACKAGES:
            signed_alone |= {package.url: repository for package in found}
        packages += found
    return RpmIndex(Universe(packages), signed_alone, processor, upstream, work)


def _read(
    repository: RpmRepository, architecture: str, upstream: Upstream, work: Path
) -> list[RpmPackage]:
    """From the first place that is there and new enough."""

    def read(url: str) -> list[RpmPackage]:
        repomd = _repomd(url, repository, upstream, work)
        primary = f"{url}/{quote(repomd.primary.path, safe='/+~')}"
        packed = fetch_index(
            primary, repomd.primary.digest, repomd.primary.size_bytes, "repomd.xml", upstream, CODE
        )  # 3
        data = unpack_index(packed, primary, work, CODE)
        return [
            replace(package, url=f"{url}/{quote(package.location, safe='/+~')}")
            for package in read_primary(data, architecture, primary)
        ]

    return _first(repository.urls, read, upstream)


def _first(
    urls: Sequence[str], read: Callable[[str], list[RpmPackage]], upstream: Upstream
) -> list[RpmPackage]:
    said: list[str] = []
    for url in urls:
        try:
            return read(url)
        except (NetworkError, IntegrityError) as error:
            if error.code not in {*GONE, "metadata-too-old"}:
                raise
            error.problems = (*error.problems, *said)
            if url == urls[-1]:
                raise
            said.append(f"{url}: {error.message}")
            upstream.files.on_event(Event(EventKind.WARNING, url, said[-1]))
    raise AssertionError("unreachable: there is one address at least")


def _repomd(url: str, repository: RpmRepository, upstream: Upstream, work: Path) -> Repomd:
    address = f"{url}/repodata/repomd.xml"
    data = upstream.files.fetch_small(address, MAX_REPOMD_BYTES)
    if repository.signed is Signed.METADATA:
        signature = upstream.files.fetch_small(f"{address}.asc", MAX_SIGNATURE_BYTES)
        check_detached(data, signature, repository.keyring, work, address)  # 1
    repomd = read_repomd(data, address)
    if repomd.revision < repository.at_least:  # 2
        raise IntegrityError(
            "metadata-too-old",
            f"{address} is older than at_least allows",
            context={"at least": repository.at_least, "found": repomd.revision},
            hint="the mirror is behind, or someone turned it back: name another one",
        )
    return repomd
