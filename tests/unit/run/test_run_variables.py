"""What playbooks get to know of a bundle: the table in docs/apply.md."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import BUSYBOX, MINIO, make_bundle
from tests.support.sites import make_site

from perimeter_bundle.format import layout
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_installer.run.secrets import open_secrets
from perimeter_installer.run.variables import (
    BundleFacts,
    bundle_variables,
    facts_of,
    secret_variables,
)
from perimeter_installer.site.model import Site

COMPONENT = b"name: minio\ncharts:\n  - {name: minio, namespace: store, values: values.yaml}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site")


@pytest.fixture
def bundle(tmp_path: Path) -> VerifiedBundle:
    made = make_bundle(
        tmp_path / "bundle", extra_files={f"{layout.CATALOG}/minio/component.yaml": COMPONENT}
    )
    return open_bundle(made.root, made.trust)


def variables(bundle: VerifiedBundle, site: Site) -> dict[str, object]:
    return bundle_variables(facts_of(bundle), site, Path("/state"))


def test_the_documented_table_is_what_playbooks_get(bundle: VerifiedBundle, site: Site) -> None:
    text = (Path(__file__).parents[3] / "docs" / "apply.md").read_text()
    table = text.partition("## Variables every playbook gets")[2].partition("A file:")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `perimeter_")]
    documented = {
        name for row in rows for name in re.findall(r"`(perimeter_\w+)`", row.split("|")[1])
    }
    given = {*variables(bundle, site), *secret_variables(open_secrets(site, check=True))}
    assert documented == given | {
        "perimeter_kubeconfig",
        "perimeter_values_dir",
        "perimeter_wanted_dir",
    }


def test_a_file_has_its_address_on_every_replica(bundle: VerifiedBundle, site: Site) -> None:
    digest = Digest.of_bytes(b"\x7fELF kubeadm")
    repository = "perimeter.internal/files/kubernetes/kubeadm"
    files = variables(bundle, site)["perimeter_files"]
    assert isinstance(files, dict)
    assert files["kubernetes/kubeadm"] == {
        "version": "v1.34.4",
        "architecture": "",
        "sha256": digest.hex,
        "size_bytes": 12,
        "blob": str(bundle.root / layout.blob_path(digest)),
        "repository": repository,
        "urls": [
            f"https://10.99.0.11:5000/v2/{repository}/blobs/{digest}",
            f"https://10.99.0.12:5000/v2/{repository}/blobs/{digest}",
        ],
    }


def test_each_architecture_has_its_own_key_and_the_first_the_plain_one(
    bundle: VerifiedBundle, site: Site
) -> None:
    (kubeadm,) = [item for item in bundle.manifest.items if item.name.endswith("v1.34.4-amd64")]
    arm = replace(
        kubeadm,
        name=kubeadm.name.replace("-amd64", "-arm64"),
        payload=Digest.of_bytes(b"arm"),
        platforms=("linux/arm64",),
    )
    amd = replace(kubeadm, platforms=("linux/amd64",))
    facts = BundleFacts(
        bundle.root,
        replace(
            bundle.manifest,
            items=(*(item for item in bundle.manifest.items if item is not kubeadm), arm, amd),
        ),
    )
    files = bundle_variables(facts, site, Path("/state"))["perimeter_files"]
    assert isinstance(files, dict)
    assert files["kubernetes/kubeadm"]["sha256"] == kubeadm.payload.hex
    assert files["kubernetes/kubeadm@amd64"] == files["kubernetes/kubeadm"]
    assert files["kubernetes/kubeadm@arm64"]["sha256"] == arm.payload.hex


def test_images_name_every_digest_under_which_they_may_run(
    bundle: VerifiedBundle, site: Site
) -> None:
    found = variables(bundle, site)
    minio, busybox = bundle.manifest.find(MINIO), bundle.manifest.find(BUSYBOX)
    assert found["perimeter_images"] == {MINIO: str(minio.digest), BUSYBOX: str(busybox.digest)}
    assert found["perimeter_image_digests"] == {
        MINIO: [str(minio.digest), str(minio.payload)],
        BUSYBOX: [str(busybox.digest)],
    }
    assert found["perimeter_image_hosts"] == ["docker.io", "quay.io"]


def test_a_chart_comes_with_what_the_catalog_says(bundle: VerifiedBundle, site: Site) -> None:
    charts = variables(bundle, site)["perimeter_charts"]
    assert isinstance(charts, dict)
    assert charts["minio"]["namespace"] == "store"
    assert charts["minio"]["values_file"].endswith("/content/manifests/minio/values.yaml")
    assert Path(charts["minio"]["blob"]).read_bytes() == b"a chart, packed"


def test_an_external_registry_has_its_project_in_every_address(
    bundle: VerifiedBundle, site: Site
) -> None:
    registry = replace(site.registry, mode="external", url="https://harbor.example/project")
    found = variables(bundle, replace(site, registry=registry))
    assert found["perimeter_registry_prefix"] == "project/"
    assert found["perimeter_registry_urls"] == ["https://harbor.example"]
    files = found["perimeter_files"]
    assert isinstance(files, dict)
    (url,) = files["kubernetes/kubeadm"]["urls"]
    assert url.startswith("https://harbor.example/v2/project/perimeter.internal/files/")


def test_everything_is_json(bundle: VerifiedBundle, site: Site) -> None:
    secrets = open_secrets(site, check=True)
    assert json.loads(json.dumps({**variables(bundle, site), **secret_variables(secrets)}))


def test_public_variables_hold_no_secret(bundle: VerifiedBundle, site: Site) -> None:
    secrets = open_secrets(site)
    shown = json.dumps(variables(bundle, site))
    assert not [value for value in secrets.values if value in shown]


def test_refuses_a_catalog_that_is_none(tmp_path: Path) -> None:
    made = make_bundle(
        tmp_path, extra_files={f"{layout.CATALOG}/minio/component.yaml": b"charts: [1]"}
    )
    with pytest.raises(IntegrityError, match="is not a component") as raised:
        facts_of(open_bundle(made.root, made.trust))
    assert raised.value.code == "bad-catalog"
