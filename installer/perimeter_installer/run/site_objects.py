"""What the site's values make of the bundle's charts and manifests, before anything is changed.

1. playbooks/render.yml asks each role for the values it will install with, and changes nothing.
2. Charts are rendered by the bundle's own Helm, manifests merged as manifest_apply merges them.
3. What comes out must pass the gate (render_gate.py).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.phases import is_installed
from perimeter_installer.plan.steps import Step
from perimeter_installer.run.bundled_program import bundled_program, run_alone
from perimeter_installer.run.kube_objects import check_objects, read_objects, with_overlays
from perimeter_installer.run.private import write_private
from perimeter_installer.run.render_gate import refuse_missing
from perimeter_installer.run.step_runner import StepRunner
from perimeter_installer.run.variables import short_name
from perimeter_installer.site.model import Site

RENDER_STEP = Step(
    name="render",
    playbook="render.yml",
    hosts=("localhost",),
    title="Objects with the site's values",
    why="they may need nothing that the bundle lacks",
)


@dataclass(frozen=True, slots=True)
class SiteObjects:
    """One chart or manifest as it will be applied; YAML."""

    component: str
    name: str  # as in manifest/rendered/<component>/<name>.yaml
    objects: bytes


def refuse_unknown_values(manifest: BundleManifest, site: Site) -> None:
    """Raises InputError[unknown-chart] for values of charts that this release does not install."""
    phases = {one.name: one.phase for one in manifest.components}
    charts = {
        short_name(item)
        for item in manifest.items_of(ItemKind.CHART)
        if is_installed(item.component, phases.get(item.component, ""))
    }
    unknown = sorted(set(site.values) - charts)
    if unknown:
        raise InputError(
            "unknown-chart",
            f"{site.path}: values: release {manifest.release} installs no chart "
            + ", ".join(unknown),
            hint=f"charts that take values: {', '.join(sorted(charts)) or 'none'}",
        )


def render_and_gate(bundle: VerifiedBundle, runner: StepRunner) -> tuple[SiteObjects, ...]:
    """Renders all that the steps will apply, and writes it below rendered/ of the state folder.

    With ``runner.check`` nothing is written there. Raises IntegrityError[image-not-in-bundle],
    [not-rendered], InputError[not-in-bundle], [overlay-without-object], HostError[cannot-run].
    """
    runner.run(RENDER_STEP)  # 1
    found = []
    for path in sorted(runner.wanted_folder.glob("*.json")):
        one = _rendered(bundle, json.loads(path.read_bytes()))  # 2
        refuse_missing(bundle, one.objects, one.component, one.name)  # 3
        said = f"{one.component}/{one.name} needs no image that the bundle lacks"
        runner.on_event(Event(EventKind.NOTE, RENDER_STEP.name, said))
        found.append(one)
    if not runner.check:
        for one in found:
            target = runner.state.rendered / one.component / f"{one.name}.yaml"
            write_private(target, one.objects)
    return tuple(found)


def _rendered(bundle: VerifiedBundle, wanted: dict[str, Any]) -> SiteObjects:
    """Of what a role wrote: the values of a chart, or what is merged over a manifest."""
    if "chart" in wanted:
        item = _item(bundle, ItemKind.CHART, wanted["chart"])
        return SiteObjects(item.component, wanted["chart"], _chart(bundle, item, wanted))
    item = _item(bundle, ItemKind.MANIFEST, wanted["manifest"])
    given = read_objects([bundle.read(blob_path(item.payload))], item.name)
    merged = with_overlays(given, check_objects(wanted["overlays"], "overlays"))
    data = yaml.safe_dump_all(merged, sort_keys=True, explicit_start=True).encode()
    return SiteObjects(item.component, wanted["manifest"].rpartition("/")[2], data)


def _chart(bundle: VerifiedBundle, item: BundleItem, wanted: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="perimeter-render-") as name:
        folder = Path(name)
        program, archive = folder / "helm", folder / "chart.tgz"
        program.write_bytes(bundled_program(bundle, "helm"))
        program.chmod(0o700)
        archive.write_bytes(bundle.read(blob_path(item.payload)))
        write_private(folder / "values.json", json.dumps(wanted["values"]).encode())
        words = ["template", wanted["release"], archive, "--namespace", wanted["namespace"]]
        words += ["--include-crds", "--values", folder / "values.json"]
        return run_alone([program, *words], folder, f"chart {wanted['chart']}")


def _item(bundle: VerifiedBundle, kind: ItemKind, name: str) -> BundleItem:
    for item in bundle.manifest.items_of(kind):
        if short_name(item) == name:
            return item
    raise InputError("not-in-bundle", f"{kind.value} {name} is not in this bundle")
