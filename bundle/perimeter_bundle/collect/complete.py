"""Rendered charts and manifests of a release, and the gate: every image they name is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.values import ChartSpec, Component, Release
from perimeter_bundle.collect.charts import check_archive, render_chart
from perimeter_bundle.collect.kustomizations import RenderKustomization
from perimeter_bundle.discover.images import find_images, missing_images
from perimeter_bundle.discover.kubeadm import list_kubeadm_images, this_platform
from perimeter_bundle.format.layout import RENDERED
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import FileKind, LockedFile
from perimeter_bundle.model.reference import ImageReference

ReadChart = Callable[[ChartSpec], bytes]  # the archive
ReadManifest = Callable[[Component, str], bytes]  # the YAML, by the manifest's name
FindFile = Callable[[LockedFile], Path]  # where the bytes lie


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects of a component as they will be applied with the catalog's values."""

    component: Component
    name: str
    data: bytes
    chart: Mapping[str, object] = field(default_factory=dict)  # Chart.yaml; empty: no chart

    @property
    def path(self) -> str:
        """Where a reviewer finds it in a bundle."""
        return f"{RENDERED}/{self.component.name}/{self.name}.yaml"


def render_release(
    release: Release,
    read_chart: ReadChart,
    read_manifest: ReadManifest,
    render_kustomization: RenderKustomization,
) -> tuple[Rendered, ...]:
    """Every chart and kustomization rendered, every manifest as upstream wrote it.

    Raises IntegrityError[bad-chart], [chart-not-rendered], [chart-random], [not-rendered].
    """
    rendered = []
    for component in release.components:
        for chart in component.charts:
            data = read_chart(chart)
            about = check_archive(data, chart.name, chart.version, f"chart {chart.name}")
            rendered.append(Rendered(component, chart.name, render_chart(data, chart), about))
        for manifest in component.manifests:
            data = read_manifest(component, manifest.name)
            rendered.append(Rendered(component, manifest.name, data))
        for one in component.kustomizations:
            rendered.append(Rendered(component, one.name, render_kustomization(one)))
    return tuple(rendered)


def check_complete(rendered: Iterable[Rendered]) -> None:
    """Raises InputError[catalog-incomplete] when an image is named that its component lacks."""
    problems: list[str] = []
    for one in rendered:
        what = f"{one.component.name}/{one.name}"
        listed = [image.reference for image in one.component.images]
        listed += [image.reference for image in one.component.built_images]
        problems += missing_images(find_images(one.data, what), listed)
    if problems:
        raise InputError(
            "catalog-incomplete",
            "images are needed that the catalog does not list; they would be missing at the site",
            problems=problems,
            hint="add them under images: in the component.yaml, with the reason",
        )


def kubeadm_images(
    release: Release, files: Sequence[LockedFile], find: FindFile, work: Path
) -> tuple[tuple[str, ImageReference], ...]:
    """Component and image for what each locked kubeadm of the release asks for."""
    found = []
    for component in release.components:
        if component.kubeadm_file:
            file = kubeadm_of(component, files)
            listed = list_kubeadm_images(
                find(file),
                file.digest or Digest.of_bytes(b""),
                component.version,
                file.platform or this_platform(),
                work,
            )
            found += [(component.name, reference) for reference in listed]
    return tuple(found)


def kubeadm_of(component: Component, files: Sequence[LockedFile]) -> LockedFile:
    """The kubeadm this machine can run; when there is none, another, which says so when run."""
    candidates = [
        file
        for file in files
        if file.component == component.name
        and file.name == component.kubeadm_file
        and file.kind is FileKind.FILE
    ]
    here = this_platform()
    runs_here = [f for f in candidates if f.platform is None or here.serves(f.platform)]
    return (runs_here or candidates)[0]
