"""perimeter-bundle inspect: what a bundle says it carries, and under which licences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from perimeter_bundle.cli.bundle_argument import bundle_argument, refuse_missing_bundle
from perimeter_bundle.format.base import MAX_BASE_BYTES, Base
from perimeter_bundle.format.files import list_tree, read_file
from perimeter_bundle.format.layout import BASE, BUNDLE_MANIFEST, COHERENCE, LOCK, SIGNATURES, SUMS
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, BundleItem, BundleManifest
from perimeter_bundle.format.sums import MAX_SUMS_BYTES
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import (
    GO_BUILD_SCHEME,
    GO_MODULE_SCHEME,
    MAX_LOCK_BYTES,
    WORKLOADS,
    Lock,
)
from perimeter_bundle.model.phases import CARRIED, is_installed
from perimeter_bundle.review.coherence.judge import MAX_COHERENCE_BYTES, Judgement
from perimeter_bundle.review.why import ChartAnswer, explain_charts
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes, text_table

_RAW_SIGNATURE = ".sig"


@click.command()
@bundle_argument
@common_options
def inspect(output: Output, bundle_path: Path) -> None:
    """Lists what a bundle says it carries: source, size, licence and reason of each item.

    Nothing is verified here; that is what verify does.

    \b
    Examples:
      perimeter-bundle inspect /srv/bundles/2026.11
      perimeter-bundle inspect /srv/bundles/2026.11 --json
    """
    refuse_missing_bundle(bundle_path)
    manifest = BundleManifest.parse(read_file(bundle_path / BUNDLE_MANIFEST, MAX_MANIFEST_BYTES))
    sums = read_file(bundle_path / SUMS, MAX_SUMS_BYTES)
    signers = [
        name.removesuffix(_RAW_SIGNATURE)
        for name in list_tree(bundle_path / SIGNATURES, missing_ok=True).files
        if name.endswith(_RAW_SIGNATURE)
    ]
    identity = Digest.of_bytes(sums)
    judgement = _judgement(bundle_path)
    base = _base(bundle_path)
    carried_bytes = sum(list_tree(bundle_path).files.values())
    inside = _dependencies(bundle_path)
    output.result(
        {
            **_to_dict(manifest, identity, signers),
            "dependencies": [answer.to_dict() for answer in inside],
            **_coherence_dict(judgement),
            **_delta_dict(base, carried_bytes),
        },
        _text(manifest, identity, signers)
        + _inside_text(inside)
        + _coherence_text(judgement)
        + _delta_text(base, carried_bytes),
    )
    output.next_step(f"perimeter-bundle verify {bundle_path} --trust KEYS")


def _judgement(bundle: Path) -> Judgement | None:
    """What the builder found; None in bundles that were made before it looked."""
    path = bundle / COHERENCE
    return Judgement.parse(read_file(path, MAX_COHERENCE_BYTES)) if path.exists() else None


def _base(bundle: Path) -> Base | None:
    """What a delta leaves out; None in a whole release."""
    path = bundle / BASE
    return Base.parse(read_file(path, MAX_BASE_BYTES)) if path.exists() else None


def _delta_dict(base: Base | None, carried_bytes: int) -> dict[str, object]:
    if base is None:
        return {}
    return {
        "delta": {
            **base.to_dict(),
            "left_out_blobs": len(base.blobs),
            "left_out_bytes": base.total_bytes,
            "carried_bytes": carried_bytes,
        }
    }


def _delta_text(base: Base | None, carried_bytes: int) -> str:
    """The base, and what each image and file leaves to it."""
    if base is None:
        return ""
    left: dict[str, list[int]] = {}
    for blob in base.blobs:
        for item in blob.items:
            left.setdefault(item, []).append(blob.size_bytes)
    rows = [(item, str(len(all_)), human_bytes(sum(all_))) for item, all_ in sorted(left.items())]
    whole = carried_bytes + base.total_bytes
    return "\n".join(
        [
            "",
            "",
            f"a delta on {base.about} (inventory {base.inventory}):",
            f"{human_bytes(carried_bytes)} of {human_bytes(whole)} are carried;"
            f" {len(base.blobs)} blobs, {human_bytes(base.total_bytes)}, are left out",
            "",
            text_table(["left out, at the site already", "blobs", "size"], rows),
        ]
    )


def _dependencies(bundle: Path) -> tuple[ChartAnswer, ...]:
    """Charts that lie in other charts."""
    return explain_charts("*", Lock.parse(read_file(bundle / LOCK, MAX_LOCK_BYTES)))


def _inside_text(inside: tuple[ChartAnswer, ...]) -> str:
    rows = [
        (one.dependency.name, one.dependency.version, one.chart.name, one.dependency.url)
        for one in inside
    ]
    if not rows:
        return ""
    return "\n\n" + text_table(["chart in a chart", "version", "in", "from"], rows)


def _coherence_dict(judgement: Judgement | None) -> dict[str, object]:
    return {} if judgement is None else {"coherence": judgement.to_list()}


def _coherence_text(judgement: Judgement | None) -> str:
    return "" if judgement is None else "\n".join(["", "", *judgement.lines()])


def _to_dict(manifest: BundleManifest, identity: Digest, signers: list[str]) -> dict[str, object]:
    return {
        "release": manifest.release,
        "number": manifest.number,
        "identity": str(identity),
        "minimum_installer": manifest.minimum_installer,
        "signed_by_key_ids": sorted(signers),
        "verified": False,
        "components": [
            {
                "name": component.name,
                "version": component.version,
                "licence": component.licence,
                "source": component.source,
                "phase": component.phase,
                "installed": is_installed(component.name, component.phase),
            }
            for component in manifest.components
        ],
        "items": [_item(item) for item in manifest.items],
        "workloads": [item.name for item in manifest.items if item.component == WORKLOADS],
        "licences": dict(sorted(_licences(manifest).items())),
        "room": {
            "bundle_bytes": manifest.room.bundle_bytes,
            "registry_bytes": manifest.room.registry_bytes,
            "node_bytes": manifest.room.node_bytes,
        },
    }


def _item(item: BundleItem) -> dict[str, object]:
    return {
        "kind": item.kind.value,
        "name": item.name,
        "version": item.version,
        "digest": str(item.digest),
        "payload": str(item.payload),
        "size_bytes": item.size_bytes,
        "platforms": list(item.platforms),
        "source": item.source,
        "licence": item.licence,
        "component": item.component,
        "why": list(item.why),
    }


def _text(manifest: BundleManifest, identity: Digest, signers: list[str]) -> str:
    headings = ["kind", "name", "size", "licence", "component"]
    rows = [_row(item) for item in manifest.items if item.component != WORKLOADS]
    own = [_row(item)[:-1] for item in manifest.items if item.component == WORKLOADS]
    components = [
        (
            one.name,
            one.version,
            one.phase,
            one.licence,
            "" if is_installed(one.name, one.phase) else CARRIED,
        )
        for one in manifest.components
    ]
    licences = [(text, str(count)) for text, count in sorted(_licences(manifest).items())]
    return "\n".join(
        [
            f"release {manifest.release} (number {manifest.number}), not verified here",
            f"identity {identity}",
            f"signatures: {', '.join(sorted(signers)) or 'none'}",
            "",
            text_table(["component", "version", "phase", "licence", ""], components),
            "",
            text_table(headings, rows),
            *(["", "what the site brings (workloads.yaml):", ""] if own else []),
            *([text_table(headings[:-1], own)] if own else []),
            "",
            *_compiled(manifest),
            text_table(["licence", "items"], licences),
        ]
    )


def _compiled(manifest: BundleManifest) -> list[str]:
    """What was compiled by the builder, from what, and the items that explain it."""
    made = (GO_MODULE_SCHEME, GO_BUILD_SCHEME)
    rows = [(one.name, one.source) for one in manifest.items if one.source.startswith(made)]
    table = text_table(["compiled by the builder, and what explains it", "source"], rows)
    return [table, ""] if rows else []


def _row(item: BundleItem) -> tuple[str, ...]:
    return (
        item.kind.value,
        item.name.rpartition("/")[2] if item.kind.value == "wheel" else item.name,
        human_bytes(item.size_bytes),
        item.licence,
        item.component,
    )


def _licences(manifest: BundleManifest) -> Counter[str]:
    return Counter(item.licence for item in manifest.items)
