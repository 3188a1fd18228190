"""What the components of this repository's catalog render to, without a network.

Kustomizations and manifests come as `../shared/upstream` holds them, rendered; charts are packed
from there and rendered with the catalog's own values.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog
from perimeter_bundle.catalog.values import Catalog, ChartSpec
from perimeter_bundle.collect.charts import render_chart
from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.values import Discovery
from tests.lab.sources import BESIDE

# the rendered file beside the checkout, where its name is not the kustomization's
_RENDERED = {
    "cert-manager": "cert-manager-kubeflow",
    "cluster-local-gateway": "istio-cluster-local-gateway-base",
    "post-install-jobs": "knative-eventing-post-install-jobs",
}


@cache
def catalog() -> Catalog:
    """The catalog of this repository."""
    return load_catalog(content_root() / "manifests")


def upstream(path: str) -> Path:
    """A file of ../shared/upstream; AssertionError, naming it, without it."""
    found = BESIDE / path
    if not found.exists():
        raise AssertionError(f"{found} is missing: put Kubeflow's manifests and renders there")
    return found


@cache
def documents(component: str) -> tuple[tuple[str, bytes], ...]:
    """What the component's kustomizations, charts and manifests render to, each with its source."""
    one = catalog().components[component]
    kustomizations = ((k.name, _kustomization(k.name)) for k in one.kustomizations)
    charts = ((c.name, render_chart(packed_chart(c), c)) for c in one.charts)
    manifests = (
        (m.name, upstream(f"manifests/{one.name}/{m.name}.yaml").read_bytes())
        for m in one.manifests
    )
    parts = (*charts, *manifests, *kustomizations)
    return tuple((f"{component}/{name}", data) for name, data in parts)


@cache
def discovered(component: str) -> Discovery:
    """What discovery says of it, with the component's own rules."""
    return discover(documents(component), catalog().components[component].rules)


def is_seaweedfs(one: dict[str, Any]) -> bool:
    """Whether an object of the pipelines' render belongs to the object store's own folder."""
    of_mesh = one["apiVersion"].partition("/")[0].endswith(".istio.io")
    name = str(one["metadata"]["name"])
    return not of_mesh and (name.startswith("seaweedfs") or name == "mlpipeline-minio-artifact")


def packed_chart(spec: ChartSpec) -> bytes:
    """The chart's archive, stamped with the version the catalog names."""
    folder = upstream(f"charts/{spec.name}")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                if path == folder / "Chart.yaml":
                    data = _stamped(data.decode(), spec.version).encode()
                entry = tarfile.TarInfo(f"{spec.name}/{path.relative_to(folder)}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _stamped(text: str, version: str) -> str:
    """Upstream stamps the GPU operator's chart when it is released; its source says "devel"."""
    if "-devel" not in text:
        return text
    text = re.sub(r"^version: .*$", f"version: {version}", text, flags=re.M)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{version}"', text, flags=re.M)


def _kustomization(name: str) -> bytes:
    if name == "seaweedfs":  # upstream renders it with the pipelines alone
        objects = yaml.load_all(_kustomization("pipelines"), Loader=yaml.CSafeLoader)
        return yaml.dump_all(one for one in objects if is_seaweedfs(one)).encode()
    name = _RENDERED.get(name, name)
    packed = BESIDE / "rendered" / f"{name}.yaml.gz"
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    return upstream(f"rendered/{name}.yaml").read_bytes()
