"""A site's own images from lock to bundle: registry, layout and archive, moved and missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.images import index_image
from tests.support.local_images import layer_tar, layout_files, saved_files, tar_of, write_folder
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workloads import load_workloads, with_workloads
from perimeter_bundle.cli.main import cli
from perimeter_bundle.collect.build import BuildRequest, BuildResult, build_bundle
from perimeter_bundle.collect.lock import lock_release
from perimeter_bundle.collect.workload_images import workload_upstream
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import ImageOrigin, Lock
from perimeter_bundle.terminal.guard import run_guarded

TRAIN = "registry.example.org/team/train:1.4"
OLD = "registry.example.org/team/old:2"
LAYERS = (layer_tar("one"), layer_tar("two"))


@dataclass(frozen=True, slots=True)
class Site:
    """A mini upstream and a workloads.yaml with an image from each place."""

    mini: MiniUpstream
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "workloads.yaml"

    def release(self) -> Release:
        return with_workloads(self.mini.release(), load_workloads(self.file))

    def lock(self) -> Lock:
        work = self.folder / "lock-work"
        work.mkdir(exist_ok=True)
        release = self.release()
        with workload_upstream(self.mini.upstream(), release.workloads, {}) as upstream:
            return lock_release(release, upstream, work)

    def build(self, lock: Lock, out: Path, *, skip_tag_check: bool = False) -> BuildResult:
        release = self.release()
        request = BuildRequest(
            release=release,
            catalog=self.mini.catalog(),
            lock_bytes=lock.to_bytes(),
            out=out,
            environment=self.mini.pip_environment,
            skip_tag_check=skip_tag_check,
            requirements=self.mini.requirements,
        )
        with workload_upstream(self.mini.upstream(), release.workloads, {}) as upstream:
            return build_bundle(request, upstream, ignore_events)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    server, ca_file = tls_server(tmp_path / "tls")
    folder = tmp_path / "site"
    write_folder(folder / "train", layout_files(index_image(("linux/amd64", "linux/s390x"))))
    (folder / "old.tar").write_bytes(tar_of(saved_files(LAYERS, [OLD])))
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        mini.serve_image("library/python", "3.12", index_image(("linux/amd64", "linux/ppc64le")))
        (folder / "workloads.yaml").write_text(
            "images:\n"
            f"  - reference: {mini.host}/library/python:3.12\n"
            "    why: pipelines start from it\n"
            f"  - {{reference: '{TRAIN}', from: 'oci-layout:./train:1.4', why: trains,"
            " licence: MIT}\n"
            f"  - {{reference: '{OLD}', from: 'docker-archive:old.tar', why: serves}}\n"
        )
        yield Site(mini, folder)


def test_images_of_every_origin_are_locked_built_and_verified(site: Site, tmp_path: Path) -> None:
    lock = site.lock()
    origins = {str(image.reference): image.origin for image in lock.images}
    assert origins[TRAIN] is ImageOrigin.OCI_LAYOUT
    assert origins[OLD] is ImageOrigin.DOCKER_ARCHIVE
    assert origins[f"{site.mini.host}/library/python:3.12"] is ImageOrigin.REGISTRY
    out = tmp_path / "out"
    site.build(lock, out)
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    train = bundle.manifest.find(TRAIN)
    assert train.digest == index_image(("linux/amd64", "linux/s390x")).digest
    assert (train.component, train.licence, train.source, train.why) == (
        "workloads",
        "MIT",
        "oci-layout of the builder",
        ("workloads.yaml: trains",),
    )
    assert bundle.manifest.find(OLD).source == "docker-archive of the builder"
    assert not any(str(site.folder).encode() in p.read_bytes() for p in out.glob("manifest/*.*"))


def test_the_same_images_give_the_same_lock_and_bundle(site: Site, tmp_path: Path) -> None:
    lock = site.lock()
    assert site.lock().to_bytes() == lock.to_bytes()
    first = site.build(lock, tmp_path / "first")
    assert site.build(lock, tmp_path / "second").identity == first.identity


def test_an_archive_that_changed_since_the_lock_is_refused(site: Site, tmp_path: Path) -> None:
    lock = site.lock()
    files = saved_files((LAYERS[0], layer_tar("evil")), [OLD])
    (site.folder / "old.tar").write_bytes(tar_of(files))
    with pytest.raises(IntegrityError) as caught:
        site.build(lock, tmp_path / "out")
    assert caught.value.code == "tag-moved"
    assert caught.value.problems[0].startswith(f"{OLD}: locked sha256:")
    with pytest.raises(IntegrityError) as caught:
        site.build(lock, tmp_path / "out", skip_tag_check=True)
    assert caught.value.code == "moved"


def test_an_archive_that_is_gone_is_one_clear_error(site: Site, tmp_path: Path) -> None:
    lock = site.lock()
    (site.folder / "old.tar").unlink()
    with pytest.raises(InputError) as caught:
        site.build(lock, tmp_path / "out")
    assert caught.value.code == "no-image-source"


def test_a_bundle_is_not_built_with_other_workloads_than_were_locked(
    site: Site, tmp_path: Path
) -> None:
    with_them, without = site.lock(), site.mini.lock()
    with pytest.raises(InputError) as caught:
        site.mini.build(with_them, tmp_path / "out")
    assert caught.value.hint == "give the same file with --workloads FILE"
    with pytest.raises(InputError) as caught:
        site.build(without, tmp_path / "out")
    assert "perimeter-bundle lock mini --workloads FILE" in str(caught.value.hint)


def test_plan_lock_and_inspect_show_what_the_site_brings(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            run_guarded(cli, list(arguments))
        assert caught.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    chosen = ("--catalog", str(site.mini.catalog_root), "--workloads", str(site.file))
    network = ("--ca-file", str(site.mini.ca_file))
    asked = json.loads(run("plan", "mini", "--no-lock", "--json", *chosen, *network))
    sizes = {item["name"]: item["size_bytes"] for item in asked["items"]}
    assert sizes[OLD] > len(LAYERS[0]) + len(LAYERS[1])
    assert f"  + {TRAIN}\n" in run("lock", "mini", *chosen, *network)
    planned = json.loads(run("plan", "mini", "--json", *chosen))
    items = {item["name"]: item for item in planned["items"]}
    assert items[TRAIN]["component"] == "workloads"
    assert items[TRAIN]["source"] == "oci-layout"
    site.build(Lock.parse(Path("images.lock").read_bytes()), tmp_path / "out")
    listed = run("inspect", "out")
    assert listed.index(TRAIN) > listed.index("what the site brings (workloads.yaml):")
    inspected = json.loads(run("inspect", "out", "--json"))
    assert inspected["workloads"] == [f"{site.mini.host}/library/python:3.12", OLD, TRAIN]
