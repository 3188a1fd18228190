"""A chart that was put into the archive of another one, as a lock pins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.reader import Reader
from perimeter_bundle.model.toml_writer import TomlValue

_KEYS = ("place", "name", "version", "asked", "repository", "url", "digest", "size_bytes")


@dataclass(frozen=True, slots=True)
class LockedDependency:
    """One dependency; two that ask for the same chart in other words share a ``place``."""

    place: str  # below the chart's folder: charts/bank-1.0.0.tgz, or a folder when it was completed
    name: str
    version: str
    asked: str  # the range in Chart.yaml
    repository: str  # as Chart.yaml names it: https://…, oci://…, file://…
    url: str  # where the archive itself is
    digest: Digest  # of that archive; of one that is packed here for file://
    size_bytes: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a build finds it by: whose it is, and what was asked for."""
        return self.place.rpartition("/")[0], self.name, self.asked, self.repository


def dependency_pairs(one: LockedDependency) -> dict[str, TomlValue]:
    """The keys of its table."""
    return {
        "place": one.place,
        "name": one.name,
        "version": one.version,
        "asked": one.asked,
        "repository": one.repository,
        "url": one.url,
        "digest": str(one.digest),
        "size_bytes": one.size_bytes,
    }


def read_dependency(reader: Reader, table: Mapping[str, object], where: str) -> LockedDependency:
    """The value of a table; problems are noted by ``reader``."""
    reader.only(table, where, _KEYS)
    return LockedDependency(
        place=reader.value(table, "place", where, _place, "charts/x"),
        name=reader.text(table, "name", where),
        version=reader.text(table, "version", where),
        asked=reader.text(table, "asked", where),
        repository=reader.text(table, "repository", where),
        url=reader.text(table, "url", where),
        digest=reader.value(table, "digest", where, Digest.parse, Digest.of_bytes(b"")),
        size_bytes=reader.count(table, "size_bytes", where),
    )


def _place(text: str) -> str:
    parts = text.split("/")
    if "charts" not in parts or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{text[:200]!r} is no place of a chart in a chart")
    return text
