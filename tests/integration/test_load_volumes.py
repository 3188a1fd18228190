"""Loading straight from volumes into a real registry: no second copy of a blob is ever made."""

from __future__ import annotations

import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bundles import BUSYBOX, make_bundle
from tests.support.distribution import Distribution

from perimeter_bundle.format import layout
from perimeter_bundle.format.base import Base, LeftOut
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.manifest import BundleManifest
from perimeter_bundle.format.verify import BlobBytes, open_bundle
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.format.volumes.repair import repair
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.events import ignore_events
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import bundle_content, fill_replicas
from perimeter_installer.load.push import fill_replica
from perimeter_installer.load.registry import PushClient

LAYER = Digest.of_bytes(b"layer of busybox")


def test_a_registry_is_filled_from_volumes_and_a_damaged_one_is_never_stored(
    tmp_path: Path,
) -> None:
    made = make_bundle(tmp_path / "made")
    pack(PackRequest(made.root, tmp_path / "volumes", 20_000))
    subprocess.run(["tar", "xf", "volumes/2026.11.v001.tar"], cwd=tmp_path, check=True)
    root, volumes = tmp_path / "2026.11", [tmp_path / "volumes"]
    bundle = open_bundle(root, made.trust, volumes=volumes, blobs=BlobBytes.LATER)
    content = bundle_content(bundle)
    lying = [need for need in content.blobs if len(bundle.extents(need.digest)) > 1]
    lying += [
        need for need in content.blobs if bundle.extents(need.digest)[0].path.suffix == ".tar"
    ]
    assert lying
    extent = bundle.extents(lying[0].digest)[-1]
    good = extent.path.read_bytes()
    with Distribution(tmp_path / "registry") as registry:
        bad = bytearray(good)
        bad[extent.offset] ^= 1
        extent.path.write_bytes(bad)
        with closing(client_of(registry)) as client, pytest.raises(IntegrityError):
            fill_replica(client, content, bundle.extents, ignore_events)
        extent.path.write_bytes(good)
        names = [(name, need.digest) for need in content.blobs for name in need.names]
        with closing(client_of(registry)) as client:
            assert not any(client.head_blob(name, lying[0].digest) for name, _ in names)
            assert fill_replica(client, content, bundle.extents, ignore_events).complete
            for name, digest in names:
                path = client._wire.target(client.endpoint.blob_url(name, digest)) or ""
                data = client._wire.read(path, "read a blob", lambda answer: answer.read())
                assert Digest.of_bytes(data or b"") == digest
    assert not (root / "blobs" / "sha256" / lying[0].digest.hex).exists()


def test_a_delta_of_which_a_volume_was_lost_is_repaired_and_fills_a_registry_with_its_base(
    tmp_path: Path,
) -> None:
    made = make_bundle(tmp_path / "made")
    whole = bundle_content(open_bundle(made.root, made.trust))
    base = next(need for need in whole.blobs if need.digest == LAYER)
    layer = made.file(layout.blob_path(LAYER))
    held = layer.rename(tmp_path / "layer")
    left_out = LeftOut(LAYER, base.size_bytes, base.names[0], (BUSYBOX,))
    inventory = Digest.of_bytes(b"inventory")
    told = Base(inventory, "plant", "2026-11-23T04:30:00Z", (left_out,))
    made.file(layout.BASE).write_bytes(told.to_bytes())
    manifest = BundleManifest.parse(made.file(layout.BUNDLE_MANIFEST).read_bytes())
    changed = replace(manifest, base=inventory)
    made.file(layout.BUNDLE_MANIFEST).write_bytes(changed.to_bytes())
    made.reseal()

    folder = tmp_path / "volumes"
    report = pack(PackRequest(made.root, folder, 320_000, parity=1))
    assert report.total > 2
    subprocess.run(["tar", "xf", "volumes/2026.11.v001.tar"], cwd=tmp_path, check=True)
    lost = report.volumes[-1]
    before = lost.path.read_bytes()
    lost.path.unlink()
    with pytest.raises(IntegrityError) as missing:
        open_bundle(tmp_path / "2026.11", made.trust, volumes=[folder])
    assert missing.value.context == {"volumes that are not here": str(lost.listing.number)}
    assert repair(folder).rebuilt == (lost.path,)
    assert lost.path.read_bytes() == before

    bundle = open_bundle(tmp_path / "2026.11", made.trust, volumes=[folder])
    content = bundle_content(bundle)
    with Distribution(tmp_path / "registry") as registry:
        endpoint = RegistryEndpoint.parse("n1", registry.url, ca_pem=registry.ca.certificate)
        with pytest.raises(HostError) as refused:
            fill_replicas(bundle, (endpoint,))
        assert refused.value.code == "base-missing"
        assert str(LAYER) in str(refused.value.problems)
        with closing(client_of(registry)) as client:
            extents = (Extent(held, 0, base.size_bytes),)
            client.push_blob(base.names[0], LAYER, extents, base.size_bytes, lambda sent: None)
            filled = fill_replicas(bundle, (endpoint,))
            assert filled.replicas[0].complete
            for need in content.blobs:
                for name in need.names:
                    assert client.head_blob(name, need.digest) in (need.size_bytes, -1)


def client_of(registry: Distribution) -> PushClient:
    endpoint = RegistryEndpoint.parse("n1", registry.url, ca_pem=registry.ca.certificate)
    return PushClient(endpoint, sleep=lambda seconds: None)
