"""Helm charts: where a repository keeps one, whether an archive is the one asked for, rendering."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urljoin, urlsplit

import yaml

from perimeter_bundle.catalog.values import ChartSpec
from perimeter_bundle.collect.chart_dependencies import refuse_missing_dependencies
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, NetworkError

MAX_INDEX_BYTES = 96 * 1024 * 1024  # the largest public repositories come near half of it
MAX_CHART_BYTES = 32 * 1024 * 1024
MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_CHART_ENTRIES = 20_000

CHART_CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER_TYPE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class ChartLocation:
    """Where a classic repository keeps one version of a chart."""

    url: str
    digest: Digest | None  # of the archive, when the index gives one


def index_url(repository: str) -> str:
    """Address of the index of a classic repository."""
    return f"{repository.rstrip('/')}/index.yaml"


def find_chart(index: bytes, repository: str, name: str, version: str) -> ChartLocation:
    """Where ``repository`` keeps this version, after its index.yaml.

    https://helm.sh/docs/topics/chart_repository/#the-index-file
    Raises NetworkError[bad-chart-index], InputError[no-such-chart].
    """
    entries = _index_entries(index, repository)
    versions = entries.get(name)
    if not isinstance(versions, list) or not versions:
        raise InputError(
            "no-such-chart",
            f"{repository} has no chart {name}",
            context={"charts": ", ".join(sorted(map(str, entries))[:20]) or "none"},
        )
    candidates = [entry for entry in versions if isinstance(entry, dict)]
    chosen = next((entry for entry in candidates if str(entry.get("version")) == version), None)
    if chosen is None:
        known = ", ".join(str(entry.get("version")) for entry in candidates[:10])
        raise InputError(
            "no-such-chart",
            f"{repository} has no version {version} of chart {name}",
            context={"newest versions": known},
        )
    urls = chosen.get("urls")
    if not isinstance(urls, list) or not urls or not isinstance(urls[0], str):
        raise NetworkError("bad-chart-index", f"{repository}: {name} {version} has no address")
    url = urljoin(f"{repository.rstrip('/')}/", urls[0])
    if urlsplit(url).scheme != "https":
        raise NetworkError(
            "bad-chart-index",
            f"{repository}: {name} {version} is not served over https",
            context={"address": url},
        )
    return ChartLocation(url, _index_digest(chosen.get("digest")))


def check_archive(data: bytes, name: str, version: str, what: str) -> Mapping[str, object]:
    """What its Chart.yaml says; raises IntegrityError[bad-chart] unless it is safe to unpack."""
    problems: list[str] = []
    metadata: object = None
    unpacked = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(_gunzip(data)), mode="r:") as archive:
            for count, member in enumerate(archive, 1):
                unpacked += member.size
                if count > MAX_CHART_ENTRIES or unpacked > MAX_UNPACKED_BYTES:
                    problems.append("it holds more than any honest chart")
                    break
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    problems.append(f"path {member.name[:100]!r} climbs out")
                elif not (member.isfile() or member.isdir()):
                    problems.append(f"{member.name[:100]!r} is neither a file nor a folder")
                elif path.parts == (name, "Chart.yaml") and member.isfile():
                    reader = archive.extractfile(member)
                    metadata = yaml.safe_load(reader.read()) if reader else None
    except (tarfile.TarError, OSError, EOFError, yaml.YAMLError, ValueError) as error:
        problems.append(f"not a chart archive: {str(error)[:200]}")
    found = metadata if isinstance(metadata, dict) else {}
    if not problems and (found.get("name"), str(found.get("version"))) != (name, version):
        problems.append(f"it says to be {found.get('name')} {found.get('version')}")
    if problems:
        raise IntegrityError(
            "bad-chart", f"refused {what}: it is not chart {name} {version}", problems=problems
        )
    # dates and the like as text: what it says is written into the chart's OCI configuration
    return {str(key): json.loads(json.dumps(value, default=str)) for key, value in found.items()}


def render_chart(data: bytes, spec: ChartSpec) -> bytes:
    """The chart's objects with the catalog's values, CRDs first, as one YAML file.

    Rendered by Helm's own engine, offline, twice: a chart that makes something up (a password)
    would give other bytes each time. Raises IntegrityError[chart-dependencies],
    [chart-not-rendered], [chart-random].
    """
    refuse_missing_dependencies(_gunzip(data), spec)
    first = render_once(data, spec)
    if render_once(data, spec) != first:
        raise IntegrityError(
            "chart-random",
            f"chart {spec.name} {spec.version} renders differently each time",
            hint="set the values it makes up by itself, such as a Secret that exists already",
        )
    return first


def render_once(data: bytes, spec: ChartSpec) -> bytes:
    """As ``render_chart``, without asking whether it gives the same again."""
    # brings an 85 MB library and Go's runtime along: only for commands that render
    import helm_python

    try:
        with helm_python.Chart.load_archive(data) as chart:
            crds = [(crd["name"], crd["data"]) for crd in chart.crds]
            rendered = chart.render(
                dict(spec.values),
                name=spec.release_name,
                namespace=spec.namespace,
                is_install=True,
            )
    except helm_python.HelmError as error:
        raise IntegrityError(
            "chart-not-rendered",
            f"chart {spec.name} {spec.version} cannot be rendered",
            context={"helm says": str(error)[:1000]},
            hint=f"are the values right? {spec.values_path or 'there is no values file'}",
        ) from error
    parts = sorted(crds) + sorted(rendered.items())
    lines = []
    for path, text in parts:
        if text.strip() and not path.endswith("NOTES.txt"):
            lines.append(f"---\n# Source: {path}\n{text.strip()}\n")
    return "".join(lines).encode()


def _gunzip(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise ValueError("it unpacks to more than any honest chart")
    return unpacked


def _index_entries(index: bytes, repository: str) -> Mapping[str, object]:
    try:
        document = yaml.load(index, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise NetworkError(
            "bad-chart-index", f"{repository} has no readable index.yaml: {reason}"
        ) from error
    entries = document.get("entries") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise NetworkError(
            "bad-chart-index",
            f"{repository}/index.yaml is not the index of a chart repository",
            hint="does the address need another path, or a login?",
        )
    return entries


def _index_digest(value: object) -> Digest | None:
    """The index writes bare hexadecimal; some tools write the algorithm too."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return Digest.parse(value if ":" in value else f"sha256:{value}")
    except InputError as error:
        raise NetworkError("bad-chart-index", f"not a digest: {value[:100]!r}") from error
