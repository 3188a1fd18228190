"""What every playbook gets to know of the bundle; docs/apply.md has the table roles are written to.

Pure: the catalog's folder is read once by ``read_catalog`` and handed in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import PLAYBOOK_KINDS, BundleItem, BundleManifest, ItemKind
from perimeter_bundle.format.oci import OciIndex, parse_manifest
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.platform import Platform
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.endpoints import endpoints
from perimeter_installer.run.secrets import Secrets
from perimeter_installer.site.model import Site

Variables = dict[str, object]


@dataclass(frozen=True, slots=True)
class ChartNotes:
    """What the catalog says about installing a chart."""

    values_file: str = ""  # absolute path, or empty
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """All of a bundle that variables are made of."""

    root: Path
    manifest: BundleManifest
    charts: Mapping[str, ChartNotes] = field(default_factory=dict)  # chart name → notes
    image_digests: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes by path in the bundle
    left_out: Mapping[Digest, int] = field(default_factory=dict)  # of a delta: in the registry


def facts_of(bundle: VerifiedBundle) -> BundleFacts:
    """Reads what variables need out of a verified bundle."""
    return BundleFacts(
        root=bundle.root.absolute(),
        manifest=bundle.manifest,
        charts=_read_catalog(bundle.root.absolute() / layout.CATALOG),
        image_digests={
            item.name: _digests(bundle, item) for item in bundle.manifest.items_of(ItemKind.IMAGE)
        },
        sizes=bundle.sizes,
        left_out=bundle.base.sizes if bundle.base else {},
    )


def bundle_variables(facts: BundleFacts, site: Site, state_folder: Path) -> Variables:
    """Everything public, under the names in docs/apply.md."""
    manifest = facts.manifest
    replicas = endpoints(site, None)
    images = manifest.items_of(ItemKind.IMAGE)
    catalog = facts.root / layout.CATALOG
    return {
        "perimeter_bundle_dir": str(facts.root),
        "perimeter_catalog_dir": str(catalog),
        "perimeter_state_dir": str(state_folder),
        "perimeter_python": sys.executable,
        "perimeter_release": manifest.release,
        "perimeter_release_number": manifest.number,
        "perimeter_architecture": _architecture(_first_platform(manifest)),
        "perimeter_component_versions": {one.name: one.version for one in manifest.components},
        "perimeter_components": {
            one.name: {
                "version": one.version,
                "phase": one.phase,
                "licence": one.licence,
                "folder": str(catalog / one.name),
            }
            for one in manifest.components
        },
        "perimeter_files": _files(facts, replicas),
        "perimeter_manifests": {
            short_name(item): _payload(facts, item) for item in manifest.items_of(ItemKind.MANIFEST)
        },
        "perimeter_charts": {
            short_name(item): {
                **_payload(facts, item),
                "component": item.component,
                "values_file": facts.charts.get(short_name(item), ChartNotes()).values_file,
                "namespace": facts.charts.get(short_name(item), ChartNotes()).namespace,
            }
            for item in manifest.items_of(ItemKind.CHART)
        },
        "perimeter_images": {item.name: str(item.digest) for item in images},
        "perimeter_image_digests": {
            item.name: [str(digest) for digest in facts.image_digests.get(item.name, ())]
            for item in images
        },
        "perimeter_image_hosts": sorted({item.reference.host for item in images}),
        "perimeter_registry_urls": [replica.url for replica in replicas],
        "perimeter_registry_prefix": replicas[0].prefix if replicas else "",
    }


def secret_variables(secrets: Secrets) -> Variables:
    """What tasks handle with ``no_log``, and the CA's public certificate."""
    return {
        "perimeter_ca_certificate": secrets.ca.certificate,
        "perimeter_registry_certificates": {
            host: {"certificate": pair.certificate, "key": pair.key}
            for host, pair in secrets.registry_certificates.items()
        },
        "perimeter_registry_username": secrets.registry_username,
        "perimeter_registry_password": secrets.registry_password,
        "perimeter_minio_root_user": secrets.minio_root_user,
        "perimeter_minio_root_password": secrets.minio_root_password,
    }


def _files(facts: BundleFacts, replicas: tuple[RegistryEndpoint, ...]) -> Variables:
    """Each file under ``component/name`` and, for one platform, ``component/name@architecture``."""
    first = _architecture(_first_platform(facts.manifest))
    files: Variables = {}
    for item in facts.manifest.items_of(ItemKind.FILE):
        architecture = _architecture(item.platforms[0]) if item.platforms else ""
        entry = {
            **_payload(facts, item),
            "architecture": architecture,
            "repository": item.reference.name,
            "urls": [one.blob_url(item.reference.name, item.payload) for one in replicas],
        }
        name = short_name(item)
        if architecture:
            files[f"{name}@{architecture}"] = entry
        if architecture in ("", first):
            files[name] = entry
    return files


def playbook_items(bundle: VerifiedBundle) -> Iterator[BundleItem]:
    """The items whose payload playbooks are given a path to."""
    left_out = bundle.base.sizes if bundle.base else {}
    for kind in PLAYBOOK_KINDS:
        yield from (one for one in bundle.manifest.items_of(kind) if one.payload not in left_out)


def _payload(facts: BundleFacts, item: BundleItem) -> Variables:
    path = layout.blob_path(item.payload)
    return {
        "version": item.version,
        "sha256": item.payload.hex,
        "size_bytes": facts.left_out.get(item.payload) or facts.sizes.get(path, item.size_bytes),
        "blob": "" if item.payload in facts.left_out else str(facts.root / path),
    }


def short_name(item: BundleItem) -> str:
    """``kubernetes/kubeadm`` of perimeter.internal/files/kubernetes/kubeadm; a chart's own name."""
    return item.reference.repository.partition("/")[2]


def _first_platform(manifest: BundleManifest) -> str:
    for item in manifest.items_of(ItemKind.IMAGE):
        if item.platforms:
            return item.platforms[0]
    return "linux/amd64"


def _architecture(platform: str) -> str:
    return Platform.parse(platform).architecture


def _digests(bundle: VerifiedBundle, item: BundleItem) -> tuple[Digest, ...]:
    """The index and every platform manifest the bundle carries of it."""
    parsed = parse_manifest(bundle.read(layout.blob_path(item.digest)))
    children = parsed.manifests if isinstance(parsed, OciIndex) else ()
    present = [one.digest for one in children if layout.blob_path(one.digest) in bundle.sizes]
    return tuple(dict.fromkeys((item.digest, *present)))


def _read_catalog(folder: Path) -> dict[str, ChartNotes]:
    """Chart name → notes, from each component.yaml the bundle carries."""
    notes: dict[str, ChartNotes] = {}
    for path in sorted(folder.glob("*/component.yaml")):
        try:
            document = yaml.safe_load(path.read_bytes())
            for chart in document.get("charts") or ():
                values = chart.get("values") or ""
                notes[chart["name"]] = ChartNotes(
                    values_file=str(path.parent / values) if values else "",
                    namespace=chart.get("namespace") or "",
                )
        except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise IntegrityError(
                "bad-catalog",
                f"{path} in the bundle is not a component",
                hint="the bundle was built wrongly; build it again",
            ) from error
    return notes
