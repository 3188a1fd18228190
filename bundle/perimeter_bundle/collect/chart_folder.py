"""A Helm chart of the user's own, as a folder or archive, rendered with its default values."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import yaml

from perimeter_bundle.catalog.values import ChartSpec
from perimeter_bundle.charts.archive import MAX_CHART_BYTES, unpack_chart
from perimeter_bundle.charts.vendor import missing_dependencies
from perimeter_bundle.collect.charts import render_once
from perimeter_bundle.format.files import read_file
from perimeter_bundle.model.errors import InputError, IntegrityError

CHART_FILE = "Chart.yaml"


def is_chart(path: Path) -> bool:
    """Whether ``path`` is a chart's folder or archive."""
    return (path / CHART_FILE).is_file() or (path.is_file() and path.name.endswith(".tgz"))


def render_own_chart(
    path: Path, on_note: Callable[[str], None] = lambda text: None
) -> tuple[str, bytes]:
    """The chart's name and its objects; ``on_note`` is told which charts it lacks.

    Raises InputError[bad-chart-folder], IntegrityError[chart-not-rendered].
    """
    if path.is_dir():
        name, data = _name(path), _packed(path)
    else:
        name, data = path.name.removesuffix(".tgz"), read_file(path, MAX_CHART_BYTES)
    spec = ChartSpec(
        name=name,
        version="",
        repository="",
        licence="",
        namespace="default",
        release_name="release",
        values_path=None,
        values={},
    )
    rendered = render_once(data, spec)
    missing = _missing(data, name)
    if missing:
        on_note(
            f"{path} lacks charts that it names, so their images are not shown: "
            f"{', '.join(missing)}; helm dependency build fetches them"
        )
    return name, rendered


def _missing(data: bytes, name: str) -> tuple[str, ...]:
    try:
        return missing_dependencies(unpack_chart(data, name)[1], f"chart {name}")
    except IntegrityError:
        return ()  # Helm, which is less strict, has rendered it


def _name(folder: Path) -> str:
    try:
        found = yaml.safe_load((folder / CHART_FILE).read_bytes())
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise InputError(
            "bad-chart-folder", f"cannot read {folder / CHART_FILE}: {error}"
        ) from error
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError("bad-chart-folder", f"{folder / CHART_FILE} has no name")
    return name


def _packed(folder: Path) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                entry = tarfile.TarInfo(f"chart/{path.relative_to(folder).as_posix()}")
                data = path.read_bytes()
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    if raw.tell() > MAX_CHART_BYTES:
        raise InputError("bad-chart-folder", f"{folder} is larger than any chart")
    return raw.getvalue()
