"""Repositories of any family, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.ospackages.apt import AptRepository, read_apt_repositories
from perimeter_bundle.ospackages.found import PackageIndex
from perimeter_bundle.ospackages.rpm import RpmRepository, read_rpm_repositories

OsRepository: TypeAlias = AptRepository | RpmRepository


def read_repositories(
    repositories: Sequence[OsRepository], processor: str, upstream: Upstream, work: Path
) -> PackageIndex:
    """The packages of one system for ``processor`` (amd64); a system is of one family.

    Raises TrustError[bad-signature], IntegrityError, HostError[tool-missing], NetworkError.
    """
    rpm = [one for one in repositories if isinstance(one, RpmRepository)]
    if rpm:
        return read_rpm_repositories(rpm, processor, upstream, work)
    apt = [one for one in repositories if isinstance(one, AptRepository)]
    return read_apt_repositories(apt, processor, upstream, work)
