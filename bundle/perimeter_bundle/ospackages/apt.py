"""A signed apt repository read: InRelease by gpgv, then a chain of SHA-256 to each package.

1. InRelease is signed by a key of the given keyring; only what gpgv gives back is read.
2. The index has the digest that InRelease names.
3. Each package has the digest that the index names; the lock has it, ``build`` fetches by it.

An old InRelease replayed by a mirror is not noticed: that takes a clock both sides trust. It can
only lead to an older package that its distribution signed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.ospackages.deb_index import (
    CODE,
    DebPackage,
    by_name,
    closure,
    read_packages,
    read_release,
)
from perimeter_bundle.ospackages.found import (
    Family,
    FoundPackage,
    MissingPackage,
    Selection,
    nearest,
)
from perimeter_bundle.ospackages.signature import check_clearsigned
from perimeter_bundle.ospackages.unpack import fetch_index, unpack_index

MAX_RELEASE_BYTES = 4 * MIB
_PACKED = ("Packages.xz", "Packages.gz")
_ALL = "all"


@dataclass(frozen=True, slots=True)
class AptRepository:
    """Where packages of one system are; ``keyring`` is a file with the distribution's keys."""

    os_tag: str  # ubuntu22.04, debian12
    url: str  # https://…, without a slash at the end
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: Path

    @property
    def places(self) -> str:
        """For messages."""
        return f"{self.url} {' '.join(self.suites)}"


@dataclass(frozen=True, slots=True)
class AptIndex:
    """A PackageIndex: every package, with its address, by name and by what it provides."""

    packages: Mapping[str, Sequence[DebPackage]]

    def select(
        self, install: Sequence[str], download: Sequence[str], if_there: Sequence[str]
    ) -> Selection:
        """See PackageIndex; raises IntegrityError[bad-apt-index]."""
        found = closure(self.packages, install, download, if_there)
        return Selection(
            tuple(map(_found, found.packages)),
            tuple(
                MissingPackage(name, by, nearest(name, self.packages)) for name, by in found.missing
            ),
        )


def _found(package: DebPackage) -> FoundPackage:
    return FoundPackage(
        Family.DEB,
        package.name,
        str(package.version),
        package.architecture,
        "" if package.architecture == _ALL else package.architecture,
        package.url,
        package.digest,
        package.size_bytes,
    )


def read_apt_repositories(
    repositories: Sequence[AptRepository], architecture: str, upstream: Upstream, work: Path
) -> AptIndex:
    """Every package for ``architecture`` (amd64).

    Raises TrustError[bad-signature], IntegrityError, HostError[tool-missing] without gpgv, and
    NetworkError.
    """
    found: list[DebPackage] = []
    for repository in repositories:
        for suite in repository.suites:
            base = f"{repository.url}/dists/{suite}"
            release = _release(base, repository.keyring, upstream, work)
            for component in repository.components:
                path = f"{component}/binary-{architecture}"
                data = _index(base, path, release, upstream, work)
                found += [
                    replace(package, url=f"{repository.url}/{quote(package.filename, safe='/+~')}")
                    for package in read_packages(data, f"{base}/{path}/Packages")
                    if package.architecture in (architecture, _ALL)
                ]
    return AptIndex(by_name(found))


def _release(
    base: str, keyring: Path, upstream: Upstream, work: Path
) -> Mapping[str, tuple[Digest, int]]:
    url = f"{base}/InRelease"
    signed = upstream.files.fetch_small(url, MAX_RELEASE_BYTES)
    plain = check_clearsigned(signed, keyring, work, url)  # 1
    return read_release(plain.decode("utf-8", errors="replace"), url)


def _index(
    base: str,
    path: str,
    release: Mapping[str, tuple[Digest, int]],
    upstream: Upstream,
    work: Path,
) -> bytes:
    name = next((f"{path}/{packed}" for packed in _PACKED if f"{path}/{packed}" in release), None)
    if name is None:
        raise IntegrityError(
            CODE,
            f"{base} has no index {path}/Packages",
            hint="are suite, component and architecture right?",
        )
    digest, size = release[name]
    url = f"{base}/{name}"
    return unpack_index(
        fetch_index(url, digest, size, "InRelease", upstream, CODE),
        url,
        work,
        CODE,  # 2
    )
