"""The registry client against a real Distribution registry with TLS and a login."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tests.support.distribution import Distribution
from tests.support.images import TestImage, index_image, single_image
from tests.support.transfers import Recorder

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, NetworkError
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.part_file import part_path
from perimeter_bundle.registry.settings import RegistrySettings

LOGIN = ("puller", "very-secret")
ARM64 = Platform("linux", "arm64")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distribution]:
    with Distribution(tmp_path_factory.mktemp("registry"), login=LOGIN) as running:
        yield running


@pytest.fixture
def settings(registry: Distribution, tmp_path: Path) -> RegistrySettings:
    ca, config = tmp_path / "ca.pem", tmp_path / "config.json"
    ca.write_text(registry.ca.certificate)
    packed = base64.b64encode(":".join(LOGIN).encode()).decode()
    config.write_text(json.dumps({"auths": {host(registry): {"auth": packed}}}))
    return RegistrySettings(ca_file=ca, docker_config=config)


def host(registry: Distribution) -> str:
    return registry.url.removeprefix("https://")


def client(settings: RegistrySettings) -> RegistryClient:
    return RegistryClient(settings, transport=Recorder().transport(settings))


def push(registry: Distribution, image: TestImage, repository: str, tag: str) -> ImageReference:
    """Pushes as any client does: blobs, then manifests, the tag last."""
    ca = registry.folder / "ca.pem"
    ca.write_text(registry.ca.certificate)
    base = f"{registry.url}/v2/{repository}"
    with requests.Session() as session:
        session.auth, session.verify, session.trust_env = LOGIN, str(ca), False
        for digest, data in image.blobs.items():
            started = session.post(f"{base}/blobs/uploads/", timeout=10)
            started.raise_for_status()
            address = requests.compat.urljoin(registry.url, started.headers["Location"])
            session.put(
                address, params={"digest": str(digest)}, data=data, timeout=30
            ).raise_for_status()
        for digest, raw in image.manifests.items():
            names = [str(digest)] + [tag] * (digest == image.digest)
            for name in names:
                media_type = json.loads(raw)["mediaType"]
                session.put(
                    f"{base}/manifests/{name}",
                    data=raw,
                    headers={"Content-Type": media_type},
                    timeout=10,
                ).raise_for_status()
    return ImageReference.parse(f"{host(registry)}/{repository}:{tag}")


def test_an_index_comes_whole_with_the_platforms_asked_for(
    registry: Distribution, settings: RegistrySettings, tmp_path: Path
) -> None:
    image = index_image(["linux/amd64", "linux/arm64"])
    reference = push(registry, image, "team/app", "1.0")
    subject = client(settings)
    resolved = subject.resolve(reference, [LINUX_AMD64])
    for blob in resolved.descriptors:
        subject.fetch_blob(reference, blob, tmp_path / blob.digest.hex)

    assert (resolved.digest, resolved.raw) == (image.digest, image.top)
    assert list(resolved.manifests) == [LINUX_AMD64]
    assert len(resolved.descriptors) == 3
    for blob in resolved.descriptors:
        assert (tmp_path / blob.digest.hex).read_bytes() == image.blobs[blob.digest]


def test_a_single_manifest_is_known_by_its_configuration(
    registry: Distribution, settings: RegistrySettings
) -> None:
    reference = push(registry, single_image(), "team/single", "1.0")
    resolved = client(settings).resolve(reference, [LINUX_AMD64])
    assert not resolved.is_index
    with pytest.raises(InputError, match="has nothing for linux/arm64") as caught:
        client(settings).resolve(reference, [ARM64])
    assert caught.value.context == {"there is": "linux/amd64"}


@pytest.mark.parametrize("cut", [1, 1_000_000, 4_999_999])
def test_a_half_fetched_layer_goes_on_where_it_was_cut(
    registry: Distribution, settings: RegistrySettings, tmp_path: Path, cut: int
) -> None:
    layer = random.Random(5).randbytes(5_000_000)
    reference = push(registry, single_image(layers=[layer]), "team/large", "1.0")
    digest = Digest.of_bytes(layer)
    target = tmp_path / digest.hex
    part_path(target, digest).write_bytes(layer[:cut])
    recorder = Recorder()
    subject = RegistryClient(settings, recorder.on_event, transport=recorder.transport(settings))
    blob = next(
        blob
        for blob in subject.resolve(reference, [LINUX_AMD64]).descriptors
        if blob.digest == digest
    )
    subject.fetch_blob(reference, blob, target)
    assert target.read_bytes() == layer
    assert recorder.events[0].done_bytes == cut


def test_a_mirror_serves_another_hosts_images(
    registry: Distribution, settings: RegistrySettings
) -> None:
    image = single_image()
    push(registry, image, "proxy/minio/minio", "x")
    mirrored = RegistrySettings(
        ca_file=settings.ca_file,
        docker_config=settings.docker_config,
        mirrors={"quay.io": (f"{registry.url}/proxy",)},
    )
    reference = ImageReference.parse("quay.io/minio/minio:x")
    assert client(mirrored).resolve(reference, [LINUX_AMD64]).digest == image.digest


def test_what_is_not_there_is_said_with_the_registrys_reason(
    registry: Distribution, settings: RegistrySettings
) -> None:
    push(registry, single_image(), "team/app", "1.0")
    reference = ImageReference.parse(f"{host(registry)}/team/app:none")
    with pytest.raises(NetworkError) as caught:
        client(settings).resolve(reference, [LINUX_AMD64])
    assert (caught.value.code, caught.value.context["reason"]) == ("not-found", "MANIFEST_UNKNOWN")


def test_without_a_login_it_says_how_to_get_one(
    registry: Distribution, settings: RegistrySettings
) -> None:
    anonymous = RegistrySettings(ca_file=settings.ca_file)
    reference = ImageReference.parse(f"{host(registry)}/team/app:1.0")
    with pytest.raises(NetworkError, match="wants a login") as caught:
        client(anonymous).resolve(reference, [LINUX_AMD64])
    assert caught.value.code == "unauthorized"
    assert caught.value.hint == (
        f"run docker login {host(registry)}, or name a config.json with --docker-config"
    )


def test_a_wrong_password_is_not_repeated_in_the_error(
    registry: Distribution, settings: RegistrySettings, tmp_path: Path
) -> None:
    packed = base64.b64encode(b"puller:wrong-secret").decode()
    config = tmp_path / "wrong.json"
    config.write_text(json.dumps({"auths": {host(registry): {"auth": packed}}}))
    wrong = RegistrySettings(ca_file=settings.ca_file, docker_config=config)
    reference = ImageReference.parse(f"{host(registry)}/team/app:1.0")
    with pytest.raises(NetworkError, match="was refused") as caught:
        client(wrong).resolve(reference, [LINUX_AMD64])
    assert caught.value.code == "unauthorized"
    assert "wrong-secret" not in str(caught.value)
    assert packed not in str(caught.value)


def test_a_registry_of_an_unknown_authority_is_refused_at_once(registry: Distribution) -> None:
    recorder = Recorder()
    subject = RegistryClient(RegistrySettings(), transport=recorder.transport(RegistrySettings()))
    with pytest.raises(NetworkError, match="certificate is not trusted") as caught:
        subject.resolve(ImageReference.parse(f"{host(registry)}/team/app:1.0"), [LINUX_AMD64])
    assert caught.value.code == "tls-untrusted"
    assert "--ca-file" in (caught.value.hint or "")
    assert recorder.pauses == []
