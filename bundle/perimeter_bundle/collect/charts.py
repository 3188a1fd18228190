"""Helm charts: whether an archive is the one asked for, and rendering."""

from __future__ import annotations

import json
from collections.abc import Mapping

from perimeter_bundle.catalog.values import ChartSpec
from perimeter_bundle.charts.archive import unpack_chart
from perimeter_bundle.charts.declared import read_about
from perimeter_bundle.charts.vendor import missing_dependencies
from perimeter_bundle.model.errors import IntegrityError


def check_archive(data: bytes, name: str, version: str, what: str) -> Mapping[str, object]:
    """What its Chart.yaml says; raises IntegrityError[bad-chart] unless it is safe to unpack."""
    folder, files = unpack_chart(data, what)
    found = read_about(files, what)
    problems = []
    if (found.get("name"), str(found.get("version"))) != (name, version):
        problems.append(f"it says to be {found.get('name')} {found.get('version')}")
    if folder != name:
        problems.append(f"its folder is called {folder[:100]!r}")
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
    what = f"chart {spec.name} {spec.version}"
    missing = missing_dependencies(unpack_chart(data, what)[1], what)
    if missing:
        raise IntegrityError(
            "chart-dependencies",
            f"{what} needs charts that are not inside its archive",
            problems=missing,
            hint="perimeter-bundle lock puts them in: lock again",
        )
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
