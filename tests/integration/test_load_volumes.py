"""Loading straight from volumes into a real registry: no second copy of a blob is ever made."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.bundles import make_bundle
from tests.support.distribution import Distribution

from perimeter_bundle.format.verify import BlobBytes, open_bundle
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import ignore_events
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import bundle_content
from perimeter_installer.load.push import fill_replica
from perimeter_installer.load.registry import PushClient


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


def client_of(registry: Distribution) -> PushClient:
    endpoint = RegistryEndpoint.parse("n1", registry.url, ca_pem=registry.ca.certificate)
    return PushClient(endpoint, sleep=lambda seconds: None)
