"""Charts inside a chart: Helm leaves out what is not in the archive, so what is missing is refused.

https://helm.sh/docs/topics/charts/#chart-dependencies
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import yaml

from perimeter_bundle.catalog.values import ChartSpec
from perimeter_bundle.model.errors import IntegrityError

MAX_VALUES_BYTES = 4 * 1024 * 1024


def refuse_missing_dependencies(unpacked: bytes, spec: ChartSpec) -> None:
    """Raises IntegrityError[chart-dependencies] when a chart that is switched on is not inside.

    ``unpacked`` is the chart's tar, which was checked to be one.
    """
    inside, own, values = _look(unpacked, spec.name)
    missing = []
    for one in _dependencies(own):
        name, version = str(one.get("name")), str(one.get("version"))
        packed = any(name == known or known.startswith(f"{name}-") for known in inside)
        if not packed and _is_on(one, values, spec.values):
            missing.append(f"{name} {version} from {one.get('repository') or 'nowhere'}")
    if missing:
        raise IntegrityError(
            "chart-dependencies",
            f"chart {spec.name} {spec.version} needs charts that are not inside its archive",
            problems=sorted(missing),
            hint="use an archive that `helm package` made with them, "
            "or switch them off in the values",
        )


def _look(unpacked: bytes, name: str) -> tuple[set[str], object, object]:
    """Names below charts/ (archives without .tgz), Chart.yaml and values.yaml."""
    inside: set[str] = set()
    documents: dict[str, object] = {}
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if parts[:2] == (name, "charts") and len(parts) > 2:
                inside.add(parts[2].removesuffix(".tgz"))
            elif len(parts) == 2 and parts[1] in ("Chart.yaml", "values.yaml", "requirements.yaml"):
                reader = archive.extractfile(member) if member.isfile() else None
                if reader is None or member.size > MAX_VALUES_BYTES:
                    continue
                try:
                    documents[parts[1]] = yaml.safe_load(reader.read())
                except (yaml.YAMLError, ValueError, RecursionError):
                    continue  # Helm says better what is wrong with it
    old, new = documents.get("requirements.yaml"), documents.get("Chart.yaml")
    own = new if any(_dependencies(new)) else old
    return inside, own, documents.get("values.yaml")


def _dependencies(document: object) -> Iterator[Mapping[object, object]]:
    found = document.get("dependencies") if isinstance(document, dict) else None
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield one


def _is_on(one: Mapping[object, object], own: object, given: Mapping[str, object]) -> bool:
    """As Helm decides: the first path of ``condition`` that is there, then ``tags``, else on."""
    condition = one.get("condition")
    for path in str(condition).split(",") if isinstance(condition, str) else ():
        for values in (given, own):
            found = _at(values, path.strip())
            if isinstance(found, bool):
                return found
    tags = one.get("tags")
    switches = [
        found
        for tag in (tags if isinstance(tags, list) else ())
        for found in (_at(given, f"tags.{tag}"), _at(own, f"tags.{tag}"))
        if isinstance(found, bool)
    ]
    return any(switches) if switches else True


def _at(values: object, path: str) -> object:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
