"""A real Docker engine: an image is loaded into it, locked, built into a bundle, verified."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.docker_engine import DockerEngine
from tests.support.local_images import layer_tar, saved_files, tar_of
from tests.support.mini_upstream import mini_upstream, tls_server

from perimeter_bundle.catalog.workload_values import WorkloadImage
from perimeter_bundle.catalog.workloads import load_workloads, with_workloads
from perimeter_bundle.collect.build import BuildRequest, build_bundle
from perimeter_bundle.collect.lock import lock_release
from perimeter_bundle.collect.workload_images import Opener, workload_upstream
from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.imagesource.local import LocalImage
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import ImageOrigin
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.stop import Stop

NAME = "registry.example.org/team/train:1.4"
LAYERS = (layer_tar("one"), layer_tar("two"))


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    # a short path: the name of a socket has at most 107 bytes
    with (
        tempfile.TemporaryDirectory(prefix="dockerd-") as folder,
        DockerEngine(Path(folder)) as engine,
    ):
        yield engine


def load(engine: DockerEngine, *layers: bytes) -> None:
    client = engine.client()
    client.images.load(tar_of(saved_files(layers, [NAME])))
    client.close()


def image_of(origin: ImageOrigin, engine: DockerEngine, folder: Path, name: str = "") -> LocalImage:
    path = folder / "saved.tar" if origin is ImageOrigin.DOCKER_ARCHIVE else None
    image = WorkloadImage(ImageReference.parse(NAME), "why", "MIT", origin, path, name)
    opener = Opener(Stop(), ignore_events, folder, {"DOCKER_HOST": engine.host})
    return LocalImage(image.shown, lambda: opener.open(image), opener.stop, ignore_events)


def test_an_image_of_the_engine_is_locked_built_and_verified(
    engine: DockerEngine, tmp_path: Path
) -> None:
    load(engine, *LAYERS)
    (tmp_path / "workloads.yaml").write_text(
        f"images: [{{reference: '{NAME}', from: 'docker-engine:', why: trains}}]\n"
    )
    environment = {"DOCKER_HOST": engine.host}
    out, work = tmp_path / "out", tmp_path / "work"
    work.mkdir()
    server, ca_file = tls_server(tmp_path / "tls")
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        release = with_workloads(mini.release(), load_workloads(tmp_path / "workloads.yaml"))
        with workload_upstream(mini.upstream(), release.workloads, environment) as upstream:
            lock = lock_release(release, upstream, work)
        request = BuildRequest(
            release=release,
            catalog=mini.catalog(),
            lock_bytes=lock.to_bytes(),
            out=out,
            environment=mini.pip_environment,
            requirements=mini.requirements,
        )
        with workload_upstream(mini.upstream(), release.workloads, environment) as upstream:
            build_bundle(request, upstream, ignore_events)
        load(engine, LAYERS[0], layer_tar("changed since"))
        with (
            workload_upstream(mini.upstream(), release.workloads, environment) as upstream,
            pytest.raises(IntegrityError) as caught,
        ):
            build_bundle(
                BuildRequest(
                    release=release,
                    catalog=mini.catalog(),
                    lock_bytes=lock.to_bytes(),
                    out=tmp_path / "other",
                    environment=mini.pip_environment,
                    requirements=mini.requirements,
                ),
                upstream,
                ignore_events,
            )
    assert caught.value.code == "tag-moved"
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    item = bundle.manifest.find(NAME)
    assert (item.source, item.component) == ("docker-engine of the builder", "workloads")
    for layer in LAYERS:  # the engine unpacked them and packed them again: the same bytes
        assert (out / blob_path(Digest.of_bytes(layer))).read_bytes() == layer


def test_engine_and_archive_give_the_same_digest_each_time(
    engine: DockerEngine, tmp_path: Path
) -> None:
    load(engine, *LAYERS)
    (tmp_path / "saved.tar").write_bytes(tar_of(saved_files(LAYERS, [NAME])))
    reference = ImageReference.parse(NAME)
    found = [
        image_of(origin, engine, tmp_path).resolve(reference, (LINUX_AMD64,)).digest
        for origin in (ImageOrigin.DOCKER_ENGINE, ImageOrigin.DOCKER_ENGINE)
    ]
    image = image_of(ImageOrigin.DOCKER_ARCHIVE, engine, tmp_path)
    assert {*found, image.resolve(reference, (LINUX_AMD64,)).digest} == {found[0]}


def test_an_image_that_the_engine_lacks_is_named(engine: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        image_of(ImageOrigin.DOCKER_ENGINE, engine, tmp_path, "nobody/has:it").fetch_manifest(
            ImageReference.parse(NAME)
        )
    assert caught.value.code == "no-such-image"
    assert "nobody/has:it" in caught.value.message
