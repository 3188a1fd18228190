"""Rendered charts and manifests of a release, and the gate: every string is explained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.values import ChartSpec, Component, Release
from perimeter_bundle.collect.charts import check_archive, render_chart
from perimeter_bundle.collect.kustomizations import RenderKustomization
from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.kubeadm import list_kubeadm_images, this_platform
from perimeter_bundle.discover.rules import NO_RULES
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.format.discovery_file import DISCOVERY_FORMAT
from perimeter_bundle.format.layout import RENDERED
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import FileKind, LockedFile
from perimeter_bundle.model.reference import ImageReference

ReadChart = Callable[[ChartSpec], bytes]  # the archive
ReadManifest = Callable[[Component, str], bytes]  # the YAML, by the manifest's name
Found = Mapping[str, Discovery]  # by component
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


def check_complete(rendered: Iterable[Rendered]) -> Found:
    """What discovery finds for each component, when nothing is left unexplained.

    Raises InputError[unclassified] with every string that looks like an image and that no rule
    explains, and every rule of the catalog that matches nothing.
    """
    found: dict[str, Discovery] = {}
    problems: list[str] = []
    by_component: dict[str, list[Rendered]] = {}
    for one in rendered:
        by_component.setdefault(one.component.name, []).append(one)
    for name, parts in by_component.items():
        found[name] = discover_parts(parts)
        problems += [str(one) for one in found[name].unclassified]
        problems += [f"{name}: rule matches nothing: {one}" for one in found[name].unused_rules]
    if problems:
        raise InputError(
            "unclassified",
            "strings look like images and no rule says what they are, or rules match nothing",
            problems=problems,
            hint="say what they are under rules: in the component.yaml, as docs/discovery.md shows",
        )
    return found


def discover_parts(parts: Sequence[Rendered]) -> Discovery:
    """What discovery finds in the objects of one component, by its rules."""
    documents = ((f"{one.component.name}/{one.name}", one.data) for one in parts)
    return discover(documents, parts[0].component.rules if parts else NO_RULES)


def found_images(found: Found) -> tuple[tuple[str, ImageReference, str], ...]:
    """Component, image and the reason for everything that was found."""
    return tuple(
        (name, image.reference, f"{image.evidence[0].rule}: {image.evidence[0].place}")
        for name, discovery in sorted(found.items())
        for image in discovery.images
    )


def discovery_file(found: Found) -> bytes:
    """manifest/discovery.json: every image, string and rule, for the reviewer and for ``why``."""
    components = {name: discovery.to_dict() for name, discovery in found.items()}
    document = {"format": DISCOVERY_FORMAT, "components": components}
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


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
