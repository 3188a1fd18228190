"""A signed apt repository read: InRelease by gpgv, then a chain of SHA-256 to each package.

1. InRelease is signed by a key of the given keyring; only what gpgv gives back is read.
2. The index has the digest that InRelease names.
3. Each package has the digest that the index names; the lock has it, ``build`` fetches by it.

An old InRelease replayed by a mirror is not noticed: that takes a clock both sides trust. It can
only lead to an older package that its distribution signed once.
"""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError, TrustError
from perimeter_bundle.ospackages.deb_index import DebPackage, by_name, read_packages, read_release
from perimeter_bundle.tools.run import clean_environment, run_tool

MAX_RELEASE_BYTES = 4 * MIB
MAX_INDEX_BYTES = 64 * MIB
MAX_UNPACKED_BYTES = 512 * MIB
GPGV_TIMEOUT_S = 60.0
_PACKED = ("Packages.xz", "Packages.gz")


@dataclass(frozen=True, slots=True)
class AptRepository:
    """Where packages of one system are; ``keyring`` is a file gpgv reads."""

    os_tag: str  # ubuntu22.04, debian12
    url: str  # https://…, without a slash at the end
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: Path


def read_repositories(
    repositories: Sequence[AptRepository], architecture: str, upstream: Upstream, work: Path
) -> Mapping[str, Sequence[DebPackage]]:
    """Every package for ``architecture`` (amd64), with its address, by name.

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
                data = _index(base, path, release, upstream)
                found += [
                    replace(package, url=f"{repository.url}/{quote(package.filename, safe='/+~')}")
                    for package in read_packages(data, f"{base}/{path}/Packages")
                    if package.architecture in (architecture, "all")
                ]
    return by_name(found)


def _release(
    base: str, keyring: Path, upstream: Upstream, work: Path
) -> Mapping[str, tuple[Digest, int]]:
    url = f"{base}/InRelease"
    signed, plain = work / "InRelease", work / "Release"
    signed.write_bytes(upstream.files.fetch_small(url, MAX_RELEASE_BYTES))
    plain.unlink(missing_ok=True)
    try:
        run_tool(
            ["gpgv", "--keyring", keyring, "--output", plain, signed],
            folder=work,
            environment=clean_environment(work),
            timeout_s=GPGV_TIMEOUT_S,
            what=f"checking the signature of {url}",
        )
    except HostError as error:
        if error.code == "tool-missing":
            error.hint = "install gpgv"
            raise
        raise TrustError(
            "bad-signature",
            f"{url} is not signed by a key in {keyring.name}",
            problems=error.problems,
            hint="is the keyring that of this distribution? its keys change from time to time",
        ) from error
    return read_release(plain.read_text(encoding="utf-8", errors="replace"), url)  # 1


def _index(
    base: str, path: str, release: Mapping[str, tuple[Digest, int]], upstream: Upstream
) -> bytes:
    name = next((f"{path}/{packed}" for packed in _PACKED if f"{path}/{packed}" in release), None)
    if name is None:
        raise IntegrityError(
            "bad-apt-index",
            f"{base} has no index {path}/Packages",
            hint="are suite, component and architecture right?",
        )
    digest, size = release[name]
    url = f"{base}/{name}"
    if size > MAX_INDEX_BYTES:
        raise IntegrityError("bad-apt-index", f"{url} is larger than any honest one")
    data = upstream.files.fetch_small(url, size)
    found = Digest.of_bytes(data)
    if found != digest:  # 2
        raise IntegrityError(
            "digest-mismatch",
            f"refused {url}: it is not what InRelease promises",
            context={"expected": digest, "got": found},
            hint="the mirror may just be taking over a new state: try again in some minutes",
        )
    return _unpacked(data, url)


def _unpacked(data: bytes, url: str) -> bytes:
    try:
        opened = lzma.open if url.endswith(".xz") else gzip.open
        with opened(io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise IntegrityError("bad-apt-index", f"{url} cannot be unpacked: {error}") from error
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise IntegrityError("bad-apt-index", f"{url} unpacks to more than any honest index")
    return unpacked
