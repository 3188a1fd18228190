"""index.yaml of a chart repository: which versions there are, and where each archive is.

https://helm.sh/docs/topics/chart_repository/#the-index-file
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from perimeter_bundle.charts.versions import same_version
from perimeter_bundle.discover.stream import Tree, TreeError, parse_trees
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, NetworkError

MAX_INDEX_BYTES = 96 * 1024 * 1024  # the largest public repositories come near half of it

_ENTRIES = re.compile(r"^entries:[ \t]*\r?\n", re.MULTILINE)
_NEXT = re.compile(r"^(?: ?[^ \r\n#]|  [^ \r\n#-])", re.MULTILINE)
_NOTHING = ("", "null", "~")


@dataclass(frozen=True, slots=True)
class ChartLocation:
    """Where a repository keeps one version of a chart."""

    url: str
    digest: Digest | None  # of the archive, when the index gives one


@dataclass(frozen=True, slots=True)
class ChartVersions:
    """What an index says about one chart."""

    repository: str
    name: str
    entries: Sequence[Mapping[str, Tree]]

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that can be had, as the index writes it."""
        return tuple(_text(one.get("version")) for one in self.entries if one.get("urls"))

    def locate(self, version: str) -> ChartLocation:
        """Where it is; raises InputError[no-such-chart], NetworkError[bad-chart-index]."""
        exact = [one for one in self.entries if _text(one.get("version")) == version]
        alike = [one for one in self.entries if same_version(_text(one.get("version")), version)]
        chosen = next(iter([*exact, *alike]), None)
        if chosen is None:
            known = ", ".join(_text(one.get("version")) for one in self.entries[:10])
            raise InputError(
                "no-such-chart",
                f"{self.repository} has no version {version} of chart {self.name}",
                context={"newest versions": known},
            )
        what = f"{self.repository}: {self.name} {version}"
        urls = chosen.get("urls")
        if not isinstance(urls, list) or not urls or not isinstance(urls[0], str):
            raise NetworkError("bad-chart-index", f"{what} has no address")
        try:
            url = urljoin(f"{self.repository.rstrip('/')}/", urls[0])
            scheme = urlsplit(url).scheme
        except ValueError as error:
            reason = f"{what} is at no address: {urls[0][:100]!r}"
            raise NetworkError("bad-chart-index", reason) from error
        if scheme not in ("https", "oci"):
            raise NetworkError(
                "bad-chart-index", f"{what} is not served over https", context={"address": url}
            )
        return ChartLocation(url, _digest(_text(chosen.get("digest")), what))


def index_url(repository: str) -> str:
    """Address of the index of a repository."""
    return f"{repository.rstrip('/')}/index.yaml"


def read_index(index: bytes, repository: str, name: str) -> ChartVersions:
    """What the index says about chart ``name``.

    Raises NetworkError[bad-chart-index] for one that cannot be relied on (bombs, keys that stand
    twice), InputError[no-such-chart].
    """
    entries = _entries(index, repository, name)
    versions = entries.get(name)
    if not isinstance(versions, list) or not versions:
        raise InputError(
            "no-such-chart",
            f"{repository} has no chart {name}",
            context={"charts": ", ".join(sorted(map(str, entries))[:20]) or "none"},
        )
    tables = [one for one in versions if isinstance(one, dict)]
    if len(tables) != len(versions):
        raise NetworkError("bad-chart-index", f"{repository}: {name}: a version is no table")
    return ChartVersions(repository, name, tables)


def find_chart(index: bytes, repository: str, name: str, version: str) -> ChartLocation:
    """Where ``repository`` keeps this version; raises what the two steps raise."""
    return read_index(index, repository, name).locate(version)


def _entries(index: bytes, repository: str, name: str) -> Mapping[str, Tree]:
    try:
        text = index.decode("utf-8-sig")
        trees = list(parse_trees(_part(text, name) or text))
    except (TreeError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise NetworkError(
            "bad-chart-index", f"{repository} has no readable index.yaml: {reason}"
        ) from error
    document = trees[0] if len(trees) == 1 else None
    entries = document.get("entries") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise NetworkError(
            "bad-chart-index",
            f"{repository}/index.yaml is not the index of a chart repository",
            hint="does the address need another path, or a login?",
        )
    return entries


def _part(text: str, name: str) -> str:
    """The lines about one chart, as Helm writes an index; empty when it is written otherwise.

    An index of 50 MB holds thousands of charts; reading all of it takes a minute and gigabytes.
    """
    begins = [match.end() for match in _ENTRIES.finditer(text)]
    if len(begins) != 1:
        return ""
    key = re.compile(rf"^  {re.escape(name)}:[ \t]*\r?\n", re.MULTILINE)
    found = list(key.finditer(text, begins[0]))
    if len(found) != 1:
        return ""
    end = _NEXT.search(text, found[0].end())
    return "entries:\n" + text[found[0].start() : end.start() if end else len(text)]


def _digest(text: str, what: str) -> Digest | None:
    """The index writes bare hexadecimal; some tools write the algorithm too."""
    if text in _NOTHING:
        return None
    try:
        return Digest.parse(text if ":" in text else f"sha256:{text}")
    except InputError as error:
        raise NetworkError("bad-chart-index", f"{what}: not a digest: {text[:100]!r}") from error


def _text(value: Tree | None) -> str:
    return value if isinstance(value, str) else ""
