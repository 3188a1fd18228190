"""The upstream folder beside the checkout: rendered components, charts, and the truth by hand."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

from tests.lab.sources import BESIDE

CORE = "kubeflow-core"
WHOLE = "kubeflow-all"


def upstream_folder() -> Path:
    """The folder; fails, naming it, when it is not there."""
    if not (BESIDE / "images.csv").is_file():
        raise AssertionError(
            f"{BESIDE} is missing: put the upstream manifests there (see its README in docs)"
        )
    return BESIDE


def truth_by_component() -> dict[str, set[str]]:
    """Complete references of the core, found by hand."""
    truth: dict[str, set[str]] = defaultdict(set)
    with (upstream_folder() / "images.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["set"] == CORE:
                truth[row["component"]].add(row["normalized"])
    return dict(truth)


def rendered_files() -> dict[str, Path]:
    """Every rendered component, chart and manifest, by name."""
    root = upstream_folder()
    paths = [
        *root.glob("rendered/*.yaml"),
        *root.glob("rendered/*.yaml.gz"),
        *root.glob("rendered-charts/*.yaml"),
        *root.glob("manifests/*/*.y*ml"),
    ]
    return {_name(path, root): path for path in sorted(paths)}


def read_rendered(path: Path) -> bytes:
    """Its YAML."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _name(path: Path, root: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".yaml").removesuffix(".yml")
    folder = path.relative_to(root).parts[0]
    return name if folder == "rendered" else f"{folder}/{name}"
