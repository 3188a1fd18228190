"""A source of the bundle rendered again with the site's values, by the bundle's own kustomize.

1. The source's archive and kustomize's archive are hashed once more when they are read.
2. The tree is unpacked as strictly as it was packed; an overlay with the site's patches is added.
3. kustomize runs without a network of its own where the system allows it, with no git in reach.
4. What comes out must pass the gate (render_gate.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.manifest import BundleItem, ItemKind
from perimeter_bundle.format.source_tree import unpack_tree
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_installer.run.bundled_program import bundled_program, run_alone
from perimeter_installer.run.render_gate import refuse_missing

OVERLAY = "perimeter-site"  # folder of the overlay in the unpacked tree


@dataclass(frozen=True, slots=True)
class SiteRender:
    """What is rendered: a component's kustomization in a source, and the site's patches."""

    component: str
    name: str  # of the kustomization, as in manifest/rendered/<component>/<name>.yaml
    source: str
    path: str
    patches: Sequence[Mapping[str, object]] = ()  # whole objects, merged over what is rendered


def render_for_site(bundle: VerifiedBundle, wanted: SiteRender) -> bytes:
    """The objects with the site's values; raises when one needs an image the bundle lacks.

    Raises InputError[not-in-bundle], [bad-manifest-file], IntegrityError[bad-source],
    [bad-discovery], [not-rendered], [image-not-in-bundle], HostError[cannot-run].
    """
    item = _source(bundle, wanted.source)
    files = unpack_tree(bundle.read(blob_path(item.payload)), item.name)  # 1, 2
    if any(path.partition("/")[0] == OVERLAY for path in files):
        raise IntegrityError("bad-source", f"{item.name} holds a folder called {OVERLAY}")
    with tempfile.TemporaryDirectory(prefix="perimeter-render-") as name:
        root = Path(name)
        tree, program = root / "tree", root / "kustomize"
        program.write_bytes(bundled_program(bundle, "kustomize"))
        program.chmod(0o700)
        for path, data in {**files, **_overlay(wanted)}.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        what = f"{wanted.source}: {wanted.path}"
        objects = run_alone([program, "build", tree / OVERLAY], root, what)  # 3
    refuse_missing(bundle, objects, wanted.component, wanted.name)  # 4
    return objects


def _source(bundle: VerifiedBundle, name: str) -> BundleItem:
    for item in bundle.manifest.items_of(ItemKind.SOURCE):
        if item.reference.repository == f"sources/{name}":
            return item
    raise InputError("not-in-bundle", f"source {name} is not in this bundle")


def _overlay(wanted: SiteRender) -> dict[str, bytes]:
    """A kustomization over the one that is wanted; each patch is a file of its own."""
    patches = {f"patch-{number}.yaml": one for number, one in enumerate(wanted.patches)}
    kustomization: dict[str, object] = {"resources": [f"../{wanted.path}"]}
    if patches:
        kustomization["patches"] = [{"path": name} for name in patches]
    files = {"kustomization.yaml": kustomization, **patches}
    return {
        f"{OVERLAY}/{name}": yaml.safe_dump(data, sort_keys=True).encode()
        for name, data in files.items()
    }
