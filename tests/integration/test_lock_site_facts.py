"""From signed site facts to a bundle with the driver that fits, as a user types it.

The GPU operator's own rendered ClusterPolicy asks; a small upstream over TLS has the images, and a
real Distribution registry lists tags page by page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.test_build_bundle_cli import Ended, Runner
from tests.support.apt_repository import AptKeys, serve_repository
from tests.support.distribution import Distribution
from tests.support.images import TestImage, single_image
from tests.support.lying_server import Lie
from tests.support.mini_upstream import mini_upstream, tls_server
from tests.unit.collect.test_site_choice import CONTROL, UBUNTU, cluster_policy, facts

from perimeter_bundle.catalog.os_repositories import load_os_repositories
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.layout import blob_path, site_packages_path, site_values_path
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.site_facts import (
    DriverChoice,
    Machine,
    PrecompiledChoice,
    write_site_facts,
)
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_installer.load.registry import PushClient, RegistryEndpoint

ORDINARY = "595.91.07-ubuntu22.04"
COMPILED = "595-5.15.0-78-generic-ubuntu22.04"
NOBLE = replace(UBUNTU, os_version="24.04", kernel="6.8.0-40-generic")
SWITCHES = ("gds", "gdrcopy", "vgpuManager")
COMPONENT = """\
name: gpu
title: GPU operator
version: v26.7.0
licence: Apache-2.0
source: https://github.com/NVIDIA/gpu-operator
phase: gpu
manifests:
  - {{name: policy, url: "{url}/files/policy.yaml"}}
site_tags:
  - name: driver
    image: "{host}/nvidia/driver"
    version: "595.91.07"
    tag: "{{version}}-{{os_tag}}"
    precompiled_tag: "{{branch}}-{{kernel}}-{{os_tag}}"
    choice: gpu
    only_groups: [gpu]
    why: the driver of the GPUs
    evidence: resolveDriverTag in controllers/object_controls.go
    render: {{object: "ClusterPolicy/*", path: spec.driver}}
    not_precompiled_with: [spec.gds.enabled, spec.gdrcopy.enabled, spec.vgpuManager.enabled]
    values:
      precompiled: {{driver: {{usePrecompiled: true, version: "{{branch}}"}}}}
      host: {{driver: {{enabled: false}}}}
      packages: {{driver: {{repoConfig: {{configMapName: perimeter-driver-repositories}}}}}}
    packages:
      ubuntu:
        install: ["linux-headers-{{kernel}}"]
        download: ["linux-image-{{kernel}}"]
        download_if_there: ["linux-modules-{{kernel}}"]
"""
REPOSITORIES = """apt:
  - system: ubuntu22.04
    url: {url}/ubuntu
    suites: [jammy]
    components: [main]
    keyring: archive.gpg
"""
K = UBUNTU.kernel
PACKAGES = {
    f"linux-headers-{K}": ("5.15.0-78.85", "linux-headers-5.15.0-78 (= 5.15.0-78.85), libc6"),
    "linux-headers-5.15.0-78": ("5.15.0-78.85", ""),
    f"linux-image-{K}": ("5.15.0-78.85", "initramfs-tools"),
    f"linux-modules-{K}": ("5.15.0-78.85", ""),
    "libc6": ("2:2.35-0ubuntu3.1", "libstdc++6"),
    "libstdc++6": ("12~rc", ""),
    "unrelated": ("1", ""),
}


class Site:
    """A builder with a small upstream, and site facts for it."""

    def __init__(self, run: Runner, folder: Path) -> None:
        self.run, self.folder, self.mini = run, folder, run.mini
        generate_key(folder / "site.key")
        policy = cluster_policy()
        policy["spec"]["driver"]["repository"] = f"{self.mini.host}/nvidia"
        self.serve_policy(policy)
        component = COMPONENT.format(url=self.mini.server.url, host=self.mini.host)
        (self.mini.catalog_root / "gpu").mkdir()
        (self.mini.catalog_root / "gpu" / "component.yaml").write_text(component)
        release = self.mini.catalog_root / "releases" / "mini.yaml"
        # no chart: what is tested here needs none, and Helm's engine takes seconds to load
        release.write_text(release.read_text().replace("shop]", "gpu]"))

    def serve_policy(self, policy: dict[str, Any]) -> None:
        """The object with the driver and its switches; its other images are not served here."""
        spec = policy["spec"]
        driver = {key: value for key, value in spec["driver"].items() if key != "manager"}
        switches = {name: {"enabled": spec[name]["enabled"]} for name in SWITCHES}
        served = policy | {"spec": {"driver": driver, **switches}}
        self.mini.server.serve("/files/policy.yaml", yaml.safe_dump(served).encode())

    def serve_tags(self, *tags: str) -> None:
        for tag in tags:
            self.mini.serve_image("nvidia/driver", tag, single_image(layers=(tag.encode(),)))
        listed = json.dumps({"name": "nvidia/driver", "tags": list(tags)}).encode()
        self.mini.server.serve("/v2/nvidia/driver/tags/list", listed)

    def write(self, *machines: Machine, **choices: Any) -> None:
        path = self.folder / "site-facts.json"
        write_site_facts(facts(*machines, **choices), path, self.folder / "site.key")

    def lock(self, *more: str) -> Ended:
        return self.run(
            "lock", "mini", "--site-facts", "site-facts.json", "--trust", "site.pub", *more
        )

    def serve_packages(self, packages: dict[str, tuple[str, str]]) -> AptKeys:
        keys = AptKeys(self.folder)
        serve_repository(
            self.mini.server.serve, keys, packages, all_names=("linux-headers-5.15.0-78",)
        )
        (self.folder / "os.yaml").write_text(REPOSITORIES.format(url=self.mini.server.url))
        return keys

    def name(self, tag: str) -> str:
        return f"{self.mini.host}/nvidia/driver:{tag}"


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    server, ca_file = tls_server(tmp_path / "tls")
    monkeypatch.chdir(tmp_path)
    with server:
        run = Runner(mini_upstream(server, tmp_path / "mini", ca_file), capsys)
        yield Site(run, tmp_path)


def locked(site: Site) -> Lock:
    return Lock.parse((site.folder / "images.lock").read_bytes())


def images_of(site: Site) -> set[str]:
    """What was locked for the site alone."""
    part = locked(site).site
    assert part is not None
    return {str(image) for image in part.images}


def test_the_precompiled_driver_is_locked_and_its_values_travel_in_the_bundle(site: Site) -> None:
    site.serve_tags(ORDINARY, COMPILED)
    site.write(UBUNTU, CONTROL)
    ended = site.lock()
    assert ended.status == 0, ended.err
    assert "for site plant: 1 images of its own" in ended.out
    lock = locked(site)
    assert images_of(site) == {site.name(COMPILED)}
    image = next(one for one in lock.images if str(one.reference) == site.name(COMPILED))
    assert image.why == (
        "gpu: site-facts profile gpu-1 (ubuntu 22.04, kernel 5.15.0-78-generic, amd64):"
        " the driver of the GPUs",
    )
    built = site.mini.build(lock, site.folder / "bundle")
    values = (built.root / site_values_path("gpu")).read_text()
    assert values == "driver:\n  usePrecompiled: true\n  version: '595'\n"
    assert built.manifest.find(site.name(COMPILED)).component == "gpu"
    assert site.name(ORDINARY) not in (built.root / "index.json").read_text()


def test_the_ordinary_driver_is_locked_where_no_other_is_or_none_is_wanted(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    assert site.lock().status == 0
    assert images_of(site) == {site.name(ORDINARY)}
    site.serve_tags(ORDINARY, COMPILED)
    ended = site.lock("--precompiled", "never", "--json")
    assert json.loads(ended.out)["site"]["images"] == [site.name(ORDINARY)]
    part = locked(site).site
    assert part is not None
    assert part.components[0].values == ()


def test_every_system_gets_its_own(site: Site) -> None:
    site.serve_tags(ORDINARY, "595.91.07-ubuntu24.04")
    site.write(UBUNTU, NOBLE)
    ended = site.lock("--json")
    assert json.loads(ended.out)["site"]["images"] == [
        site.name(ORDINARY),
        site.name("595.91.07-ubuntu24.04"),
    ]


def test_no_driver_for_a_host_names_it_and_what_there_is(site: Site) -> None:
    site.serve_tags(ORDINARY, COMPILED, "595-5.15.0-91-generic-ubuntu22.04", "latest")
    site.write(UBUNTU, NOBLE)
    ended = site.lock("--json")
    assert ended.status == 2
    error = json.loads(ended.out)["error"]
    assert error["code"] == "no-driver-for-kernel"
    (problem,) = error["problems"]
    assert "profile gpu-2 (n2): ubuntu 24.04, kernel 6.8.0-40-generic, amd64" in problem
    assert f"looked for {site.name('595.91.07-ubuntu24.04')}" in problem
    assert f"there are {ORDINARY}, " in problem
    assert "gpu.driver: host" in error["hint"]
    assert not (site.folder / "images.lock").exists()


def test_a_required_kernel_that_nobody_compiled_for_shows_the_kernels_there_are(
    site: Site,
) -> None:
    near = "595-5.15.0-91-generic-ubuntu22.04"
    site.serve_tags(ORDINARY, near)
    site.write(UBUNTU, precompiled=PrecompiledChoice.REQUIRE)
    ended = site.lock()
    assert ended.status == 2
    assert "error[no-driver-for-kernel]" in ended.err
    assert f"looked for {site.name(COMPILED)}" in ended.err
    assert f"there are {near}, " in ended.err
    site.mini.server.lie("/v2/nvidia/driver/tags/list", Lie(status=404))
    assert "no tags that the registry would tell" in site.lock().err


def test_a_driver_of_the_host_needs_no_registry(site: Site) -> None:
    site.write(replace(UBUNTU, nvidia_driver="580.105.08"), driver=DriverChoice.HOST)
    ended = site.lock()
    assert ended.status == 0, ended.err
    site_part = locked(site).site
    assert site_part is not None
    assert site_part.images == frozenset()
    assert site_part.components[0].values == ("driver:", "  enabled: false")
    assert not [seen for seen in site.mini.server.seen if "/nvidia/" in seen.path]


def test_facts_that_nobody_trusted_signed_reach_no_registry(site: Site) -> None:
    site.write(UBUNTU)
    site.mini.server.seen.clear()
    generate_key(site.folder / "other.key")
    ended = site.run("lock", "mini", "--site-facts", "site-facts.json", "--trust", "other.pub")
    assert ended.status == 5
    assert "error[not-trusted]: no trusted key signed site-facts.json" in ended.err
    assert site.mini.server.seen == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--site-facts", "site-facts.json"), "--site-facts needs --trust"),
        (("--trust", "site.pub"), "--trust means nothing without --site-facts"),
        (("--precompiled", "never"), "--precompiled means nothing without --site-facts"),
        (
            ("--site-facts", "site-facts.json", "--trust", "site.pub", "--unresolved"),
            "--unresolved and --site-facts exclude each other",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    site: Site, options: tuple[str, ...], said: str
) -> None:
    site.write(UBUNTU)
    ended = site.run("lock", "mini", *options)
    assert ended.status == 2
    assert f"error[bad-option]: {said}" in ended.err


def test_a_site_that_refuses_precompiled_modules_is_not_overruled(site: Site) -> None:
    site.serve_tags(ORDINARY, COMPILED)
    site.write(UBUNTU, precompiled=PrecompiledChoice.NEVER)
    ended = site.lock("--precompiled", "prefer")
    assert ended.status == 2
    assert "error[site-refuses-precompiled]" in ended.err
    assert site.lock("--precompiled", "never").status == 0


def test_without_facts_nothing_is_locked_for_the_hosts_and_that_is_said(site: Site) -> None:
    site.serve_tags(ORDINARY)
    ended = site.run("lock", "mini")
    assert ended.status == 0, ended.err
    assert "depends on the hosts of a site" in ended.err
    assert locked(site).site is None
    assert not [i for i in locked(site).images if "/nvidia/" in str(i.reference)]
    shown = site.run("plan", "mini", "--no-lock").out
    assert "their tags depend on the hosts of a site" in shown


def test_plan_with_facts_takes_only_the_lock_that_was_written_with_them(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    options = ("--lock", "images.lock", "--site-facts", "site-facts.json", "--trust", "site.pub")
    site.run("lock", "mini")
    ended = site.run("plan", "mini", *options)
    assert "the lock was not written with these site facts" in ended.err
    assert "none: it was written without --site-facts" in ended.err
    site.lock()
    assert site.name(ORDINARY) in site.run("plan", "mini", *options).out


def test_a_lock_for_another_driver_version_than_the_catalog_has_is_refused(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    site.lock()
    path = site.mini.catalog_root / "gpu" / "component.yaml"
    path.write_text(path.read_text().replace("595.91.07", "600.1"))
    ended = site.run("plan", "mini", "--lock", "images.lock")
    assert ended.status == 2
    assert f"{site.name(ORDINARY)} was locked for a site, but site_tags of gpu do not" in ended.err
    path.write_text(path.read_text().replace("600.1", "595.91.07"))
    lock = locked(site)
    assert lock.site is not None
    other = replace(lock.site, components=(replace(lock.site.components[0], name="none"),))
    (site.folder / "other.lock").write_bytes(replace(lock, site=other).to_bytes())
    ended = site.run("plan", "mini", "--lock", "other.lock")
    assert "none has values for a site, and is not in the release" in ended.err


def test_a_render_that_asks_for_another_version_is_refused(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    policy = cluster_policy()
    policy["spec"]["driver"]["repository"] = f"{site.mini.host}/nvidia"
    policy["spec"]["driver"]["version"] = "580.105.08"
    site.serve_policy(policy)
    ended = site.lock()
    assert ended.status == 2
    assert "error[site-tag-mismatch]" in ended.err


def test_a_registry_that_fails_is_an_error_and_no_missing_driver(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    lies = [Lie(status=403)] * 8
    site.mini.server.lie(f"/v2/nvidia/driver/manifests/{COMPILED}", *lies)
    ended = site.lock()
    assert ended.status == 3
    assert "error[forbidden]" in ended.err


def push(registry: Distribution, folder: Path, image: TestImage, tags: set[str]) -> None:
    client = PushClient(RegistryEndpoint.parse("r", registry.url, ca_pem=registry.ca.certificate))
    for digest, data in image.blobs.items():
        (folder / digest.hex).write_bytes(data)
        extents = (Extent(folder / digest.hex, 0, len(data)),)
        client.push_blob("nvidia/driver", digest, extents, len(data), lambda sent: None)
    for tag in tags:
        client.push_manifest("nvidia/driver", tag, image.media_type, image.top)
    client.close()


def test_packages_for_a_driver_that_compiles_are_locked_carried_and_listed(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    site.serve_packages(PACKAGES)
    ended = site.lock("--os-repositories", "os.yaml")
    assert ended.status == 0, ended.err
    lock = locked(site)
    assert lock.site is not None
    (component,) = lock.site.components
    assert [f"{p.name} {p.version} {p.architecture}" for p in component.packages] == [
        "libc6 2:2.35-0ubuntu3.1 amd64",
        "libstdc++6 12~rc amd64",
        "linux-headers-5.15.0-78 5.15.0-78.85 all",
        f"linux-headers-{K} 5.15.0-78.85 amd64",
        f"linux-image-{K} 5.15.0-78.85 amd64",
        f"linux-modules-{K} 5.15.0-78.85 amd64",
    ]
    assert component.values == (
        "driver:", "  repoConfig:", "    configMapName: perimeter-driver-repositories"
    )  # fmt: skip
    built = site.mini.build(lock, site.folder / "bundle")
    listed = json.loads((built.root / site_packages_path("gpu")).read_bytes())["packages"]
    assert len(listed) == 6
    for one in listed:
        item = built.manifest.find(one["reference"])
        assert str(item.payload) == one["digest"]
        data = (built.root / blob_path(item.payload)).read_bytes()
        assert data.startswith(f"{one['name']} {one['version']} ".encode())
    assert "libstdc++6_12~rc_amd64.deb" in {one["file"] for one in listed}
    sign_bundle(built.root, site.folder / "site.key")
    opened = open_bundle(built.root, Trust.load(site.folder / "site.pub"))
    assert opened.lock.site == lock.site
    assert opened.read(site_values_path("gpu")).startswith(b"driver:\n  repoConfig:\n")


def test_without_repositories_the_packages_are_named(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    ended = site.lock()
    assert ended.status == 0
    assert f"linux-headers-{K}, linux-image-{K} from a repository for ubuntu22.04" in ended.err
    part = locked(site).site
    assert part is not None
    assert part.components[0].values == ()


def test_a_kernel_the_repository_no_longer_has_is_refused_with_its_packages(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    lacking = {name: what for name, what in PACKAGES.items() if name != "linux-headers-5.15.0-78"}
    del lacking[f"linux-image-{K}"], lacking[f"linux-modules-{K}"]
    site.serve_packages(lacking)
    ended = site.lock("--os-repositories", "os.yaml", "--json")
    assert ended.status == 2
    error = json.loads(ended.out)["error"]
    assert error["code"] == "no-driver-packages"
    text = "\n".join(error["problems"])
    assert f"linux-headers-5.15.0-78, which linux-headers-{K} needs, looked for in" in text
    assert f"kernel {K}, amd64: linux-image-{K}, looked for in" in text
    assert "linux-modules" not in text


def test_an_index_that_its_distribution_did_not_sign_is_refused(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    site.serve_packages(PACKAGES)
    other = AptKeys(site.folder / "other")
    (site.folder / "archive.gpg").write_bytes(other.keyring.read_bytes())
    ended = site.lock("--os-repositories", "os.yaml")
    assert ended.status == 5
    assert "error[bad-signature]" in ended.err
    assert "is not signed by a key in archive.gpg" in ended.err


def test_a_changed_index_is_refused(site: Site) -> None:
    site.serve_tags(ORDINARY)
    site.write(UBUNTU)
    site.serve_packages(PACKAGES)
    path = "/ubuntu/dists/jammy/main/binary-amd64/Packages.gz"
    good = site.mini.server.files[path].data
    site.mini.server.serve(path, good[:-1] + b"x")
    ended = site.lock("--os-repositories", "os.yaml")
    assert ended.status == 4
    assert "it is not what InRelease promises" in ended.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("apt:\n", "yum:\n", "yum: unknown key; there are apt"),
        ("https:", "http:", "must be a full address beginning with https://"),
        ("system: ubuntu22.04", "system: rhel9.6", "system"),
        ("suites: [jammy]", "suites: ['../x']", "suites"),
        ("suites: [jammy]", "suites: [a/..]", "a/.. is no suite or component"),
        ("keyring: archive.gpg", "keyring: none.gpg", "there is no file none.gpg beside it"),
        ("keyring: archive.gpg", "keyring: archive.gpg\n    trusted: true", "unknown key"),
    ],
)
def test_repositories_that_cannot_be_are_refused_with_their_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = REPOSITORIES.format(url="https://mirror.example")
    assert old in text
    (tmp_path / "archive.gpg").write_bytes(b"")
    path = tmp_path / "os.yaml"
    path.write_text(text)
    (repository,) = load_os_repositories(path)
    assert repository.keyring == tmp_path / "archive.gpg"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_os_repositories(path)
    assert caught.value.code == "bad-os-repositories"
    assert said in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        load_os_repositories(path)


def test_a_real_registry_lists_its_tags_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perimeter_bundle.registry.client.PAGE_SIZE", 3)
    image = single_image()
    tags = {f"595-5.15.0-{number}-generic-ubuntu22.04" for number in range(10)}
    with Distribution(tmp_path) as registry:
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text(registry.ca.certificate)
        push(registry, tmp_path, image, tags)
        client = RegistryClient(RegistrySettings(ca_file=ca_file))
        reference = ImageReference.parse(f"127.0.0.1:{registry.port}/nvidia/driver:x")
        assert client.list_tags(reference) == tags
