"""Where an image is had when its registry no longer has it, and images that are compiled: the whole
way through lock and build. Real HTTPS, real go."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.go_modules import HELLO, VERSION, go_archive, hello_proxy
from tests.support.images import index_image, single_image
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.catalog.built import GoRecipe
from perimeter_bundle.cli.inspect_command import inspect
from perimeter_bundle.collect.built import take_builds
from perimeter_bundle.collect.lock import lock_release, unresolved_lock
from perimeter_bundle.collect.plan import plan_release
from perimeter_bundle.collect.workspace import open_workspace
from perimeter_bundle.format import layout
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.gobuild import toolchain
from perimeter_bundle.gobuild.kept import Kept
from perimeter_bundle.gobuild.made import GoSettings
from perimeter_bundle.gobuild.toolchain import find_toolchain
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, NetworkError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.why import explain

MADE = "go-build://quay.io/example/hello:1.2.3"
OTHER = single_image(layers=(b"something", b"else"))


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def mini(tls_folder: Path, tmp_path: Path) -> Iterator[MiniUpstream]:
    server, ca_file = tls_server(tls_folder)
    with server:
        yield mini_upstream(server, tmp_path, ca_file)


def change(mini: MiniUpstream, old: str, new: str) -> None:
    path = mini.catalog_root / "shop" / "component.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def say_of_shop(mini: MiniUpstream, more: str) -> None:
    change(mini, "why: it sells,", f"why: it sells, {more},")


def gone(mini: MiniUpstream) -> None:
    """The registry of example/shop answers 404 from now on."""
    for path in [path for path in mini.server.files if path.startswith("/v2/example/shop/")]:
        del mini.server.files[path]


def shop_of(lock: Lock) -> LockedImage:
    return next(i for i in lock.images if i.reference.repository == "example/shop")


def lock_with(mini: MiniUpstream, events: list[Event]) -> Lock:
    work = mini.folder / "lock-work"
    work.mkdir(exist_ok=True)
    return lock_release(mini.release(), mini.upstream(events.append), work)


# --- alternates --------------------------------------------------------------------------------


def test_an_image_that_is_gone_is_taken_from_an_alternate_and_said_so_loudly(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    mini.serve_image("rescued/shop", "1.0", mini.image)
    say_of_shop(
        mini, f'alternates: ["{mini.host}/nowhere/shop:1.0", "{mini.host}/rescued/shop:1.0"]'
    )
    gone(mini)
    events: list[Event] = []
    lock = lock_with(mini, events)
    shop = shop_of(lock)
    assert str(shop.reference) == f"{mini.host}/example/shop:1.0"
    assert str(shop.found_at) == f"{mini.host}/rescued/shop:1.0"
    assert Lock.parse(lock.to_bytes()) == lock
    warnings = [event.message for event in events if event.kind is EventKind.WARNING]
    assert any("NO KNOWN DIGEST" in text and "rescued/shop" in text for text in warnings)
    result = mini.build(lock, tmp_path / "out")
    item = result.manifest.find(f"{mini.host}/example/shop:1.0")
    assert item.source == f"oci://{mini.host}/rescued/shop:1.0"
    assert item.digest == mini.image.digest


def test_an_alternate_is_not_asked_while_upstream_has_the_image(mini: MiniUpstream) -> None:
    say_of_shop(mini, f'alternates: ["{mini.host}/rescued/shop:1.0"]')
    assert shop_of(mini.lock()).found_at is None
    assert not any("rescued" in seen.path for seen in mini.server.seen)


def test_an_alternate_with_the_known_digest_is_believed(mini: MiniUpstream) -> None:
    mini.serve_image("rescued/shop", "1.0", mini.image)
    more = f'digest: "{mini.image.digest}", alternates: ["{mini.host}/rescued/shop:1.0"]'
    say_of_shop(mini, more)
    gone(mini)
    events: list[Event] = []
    assert shop_of(lock_with(mini, events)).digest == mini.image.digest
    assert any("its digest is the known one" in event.message for event in events)


def test_an_alternate_with_another_digest_than_the_known_one_is_refused(
    mini: MiniUpstream,
) -> None:
    mini.serve_image("rescued/shop", "1.0", OTHER)
    mini.serve_image("third/shop", "1.0", mini.image)
    places = f'["{mini.host}/rescued/shop:1.0", "{mini.host}/third/shop:1.0"]'
    say_of_shop(mini, f'digest: "{mini.image.digest}", alternates: {places}')
    gone(mini)
    with pytest.raises(IntegrityError) as caught:
        mini.lock()
    assert caught.value.code == "moved"
    assert caught.value.context["known"] == str(mini.image.digest)
    assert caught.value.context["found"] == str(OTHER.digest)
    assert caught.value.context["at"] == f"{mini.host}/rescued/shop:1.0"


def test_upstream_with_another_digest_than_the_known_one_is_refused_and_no_alternate_asked(
    mini: MiniUpstream,
) -> None:
    mini.serve_image("rescued/shop", "1.0", mini.image)
    more = f'digest: "{mini.image.digest}", alternates: ["{mini.host}/rescued/shop:1.0"]'
    say_of_shop(mini, more)
    mini.serve_image("example/shop", "1.0", OTHER)
    with pytest.raises(IntegrityError) as caught:
        mini.lock()
    assert (caught.value.code, int(caught.value.exit_status)) == ("moved", 4)
    assert not any("rescued" in seen.path for seen in mini.server.seen)


def test_when_no_place_has_it_each_is_named_with_its_reason(mini: MiniUpstream) -> None:
    dead = "127.0.0.1:9/rescued/shop:1.0"
    say_of_shop(mini, f'alternates: ["{mini.host}/rescued/shop:1.0", "{dead}"]')
    gone(mini)
    with pytest.raises(NetworkError) as caught:
        mini.lock()
    assert caught.value.code == "gone"
    assert "at none of the 3 places" in caught.value.message
    first, second, third = caught.value.problems[:3]
    assert first.startswith(f"{mini.host}/example/shop:1.0: ")
    assert "404" in first
    assert second.startswith(f"{mini.host}/rescued/shop:1.0: ")
    assert third.startswith(dead)


def test_a_lock_from_a_place_the_catalog_no_longer_names_is_refused(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    elsewhere = ImageReference.parse(f"{mini.host}/rescued/shop:1.0")
    images = tuple(replace(i, found_at=elsewhere) if i is shop_of(lock) else i for i in lock.images)
    with pytest.raises(InputError) as caught:
        mini.build(replace(lock, images=images), tmp_path / "out")
    assert caught.value.code == "lock-mismatch"
    assert "is no alternate in the catalog" in caught.value.problems[0]


def test_a_lock_with_another_digest_than_the_catalog_knows_is_refused(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    lock = mini.lock()
    say_of_shop(mini, f'digest: "{OTHER.digest}"')
    with pytest.raises(InputError) as caught:
        mini.build(lock, tmp_path / "out")
    assert f"known is {OTHER.digest}" in caught.value.problems[0]


def test_an_entry_about_an_image_that_nothing_needs_is_refused(mini: MiniUpstream) -> None:
    entry = f'  - {{reference: "{mini.host}/example/old:1.0", digest: "{OTHER.digest}"}}\n'
    change(mini, "images:\n", f"images:\n{entry}")
    with pytest.raises(InputError) as caught:
        mini.lock()
    assert caught.value.code == "catalog-unused"
    assert caught.value.problems == (f"shop: {mini.host}/example/old:1.0 is needed by nothing",)


def test_an_entry_without_a_reason_says_more_about_an_image_of_another_component(
    mini: MiniUpstream,
) -> None:
    entry = (
        f'  - {{reference: "{mini.host}/example/control-plane:1.0", digest: "{OTHER.digest}"}}\n'
    )
    change(mini, "images:\n", f"images:\n{entry}")
    with pytest.raises(IntegrityError) as caught:
        mini.lock()
    assert caught.value.code == "moved"
    assert "control-plane:1.0" in caught.value.message


# --- compiled images ---------------------------------------------------------------------------

BUILT = """\
built_images:
  - reference: quay.io/example/hello:1.2.3
    why: it greets
    licence: AGPL-3.0-only
    go: {{module: {module}, version: {version}, sum: "{total}", go: "{go}"}}
    base: {base}
    user: 1000
    entrypoint: [/usr/bin/hello]
    paths: {{/usr/bin/hello: binary}}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


class Compiled:
    """The mini release with a compiled image, and where its results are kept."""

    path = os.environ["PATH"]

    def __init__(self, mini: MiniUpstream, packages: Path, base: str) -> None:
        self.mini, self.packages = mini, packages
        self.proxy, total = hello_proxy(mini.folder / "proxy")
        self.events: list[Event] = []
        self.kept = Kept(mini.folder / "kept")
        text = BUILT.format(module=HELLO, version=VERSION, total=total, go=go_series(), base=base)
        change(mini, "charts:\n", f"{text}charts:\n")

    @property
    def settings(self) -> GoSettings:
        environment = {**self.proxy.environment, "PATH": self.path}
        return GoSettings(self.kept, environment, packages=self.packages)

    def lock(self) -> Lock:
        work = self.mini.folder / "lock-work"
        work.mkdir(exist_ok=True)
        upstream = self.mini.upstream(self.events.append)
        return lock_release(self.mini.release(), upstream, work, go=self.settings)

    def build(self, lock: Lock, out: Path, kept: Path | None = None) -> None:
        environment = {**self.proxy.environment, "PATH": self.path}
        self.mini.build(lock, out, more=environment, build_cache=kept or self.kept.folder)

    def compiles(self) -> int:
        return sum(
            event.kind is EventKind.START and event.task.startswith("compiling")
            for event in self.events
        )


def go_series() -> str:
    """The recipe takes whatever go this machine has."""
    return f"{'.'.join(this_go().split('.')[:2])}.x"


def this_go() -> str:
    """The version of this machine's go."""
    recipe = GoRecipe(HELLO, VERSION, "", ".", "1.0.x", (), ())
    with pytest.raises(HostError) as caught:
        find_toolchain(recipe, dict(os.environ))
    assert caught.value.problems, "this test needs a go command"
    return caught.value.problems[0].rpartition(" is ")[2].removeprefix("go")


def test_a_compiled_image_is_locked_built_and_verified_with_its_source_and_papers(
    mini: MiniUpstream, packages: Path, tmp_path: Path
) -> None:
    compiled = Compiled(mini, packages, base=f'"{mini.host}/example/base:1.0"')
    mini.serve_image("example/base", "1.0", index_image())
    lock = compiled.lock()
    assert Lock.parse(lock.to_bytes()) == lock
    image = next(i for i in lock.images if i.built)
    assert image.built is not None
    assert str(image.built.base) == f"{mini.host}/example/base:1.0@{mini.image.digest}"
    assert compiled.compiles() == 1
    out = tmp_path / "out"
    compiled.build(lock, out)  # from what locking kept
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    item = bundle.manifest.find("quay.io/example/hello:1.2.3")
    assert (item.licence, item.digest) == ("AGPL-3.0-only", image.digest)
    assert item.source == f"go-module://{HELLO}/@v/{VERSION}.zip"
    source = bundle.manifest.find(f"perimeter.internal/files/shop/hello-source:{VERSION}")
    archive = mini.folder / "proxy" / HELLO / "@v" / f"{VERSION}.zip"
    assert bundle.blob(source.payload).read_bytes() == archive.read_bytes()
    assert source.licence == "AGPL-3.0-only"
    assert source.why == ("the source of quay.io/example/hello:1.2.3",)
    sbom = json.loads(bundle.read(f"{layout.SBOM}/shop/hello-sbom-amd64.cdx.json"))
    assert sbom["metadata"]["component"]["name"] == "quay.io/example/hello"
    told = CliRunner().invoke(inspect, [str(out)]).stdout
    assert f"go-module://{HELLO}/@v/{VERSION}.zip" in told
    assert f"{MADE}/hello-sbom-amd64.cdx.json" in told
    (answer,) = explain("hello", lock)
    said = answer.to_dict()["compiled"]
    assert said == {
        "toolchain": f"go{this_go()}",
        "base": str(image.built.base),
        "recipe": str(image.built.recipe),
        "with": {
            f"perimeter.internal/files/shop/hello-{name}": url
            for name, url in (
                ("provenance:1.2.3", f"{MADE}/hello-provenance.intoto.json"),
                ("sbom:1.2.3-amd64", f"{MADE}/hello-sbom-amd64.cdx.json"),
                (f"source:{VERSION}", item.source),
            )
        },
    }
    statement = json.loads(bundle.read(f"{layout.SBOM}/shop/hello-provenance.intoto.json"))
    assert statement["subject"][0]["digest"]["sha256"] == item.digest.hex
    # the layers of the base are carried, its manifest is not
    assert (out / layout.blob_path(next(iter(mini.image.blobs)))).exists()
    # compiled again from nothing, elsewhere, it is the same bundle
    again = tmp_path / "again"
    compiled.build(lock, again, tmp_path / "other cache")
    assert (again / layout.SUMS).read_bytes() == (out / layout.SUMS).read_bytes()


def test_a_lock_that_pins_other_bytes_is_refused_after_compiling_again(
    mini: MiniUpstream, packages: Path, tmp_path: Path
) -> None:
    compiled = Compiled(mini, packages, base="scratch")
    lock = compiled.lock()
    other = mini.image.digest
    images = tuple(replace(i, digest=other) if i.built else i for i in lock.images)
    changed = replace(lock, images=images)
    with (
        open_workspace(tmp_path / "out", changed, changed.to_bytes()) as workspace,
        pytest.raises(IntegrityError) as caught,
    ):
        upstream = mini.upstream(compiled.events.append)
        take_builds(changed, mini.release(), upstream, workspace, compiled.settings)
    assert caught.value.code == "built-differs"
    assert f"locked {other}" in caught.value.problems[0]
    assert any("compiling it again" in event.message for event in compiled.events)
    assert compiled.compiles() == 2


def test_a_recipe_that_changed_after_locking_is_refused(
    mini: MiniUpstream, packages: Path, tmp_path: Path
) -> None:
    compiled = Compiled(mini, packages, base="scratch")
    lock = compiled.lock()
    change(mini, "user: 1000", "user: 1001")
    with pytest.raises(InputError) as caught:
        compiled.build(lock, tmp_path / "out")
    assert caught.value.code == "lock-mismatch"
    assert "another recipe" in caught.value.message


def test_without_a_network_it_is_listed_and_unresolved(mini: MiniUpstream, packages: Path) -> None:
    Compiled(mini, packages, base="scratch")
    lock = unresolved_lock(mini.release())
    names = lock.unresolved()
    assert "quay.io/example/hello:1.2.3" in names
    assert f"perimeter.internal/files/shop/hello-source:{VERSION}" in names
    plan = plan_release(mini.release(), None)
    item = next(item for item in plan.items if item.name == "quay.io/example/hello:1.2.3")
    assert item.source == f"{HELLO}@{VERSION}, compiled here"


# --- the release's own Go ----------------------------------------------------------------------

GO_COMPONENT = """\
name: go
title: Go
version: {version}
licence: BSD-3-Clause
source: https://example.org/go
phase: tools
files:
  - name: go
    url: "{url}/files/go{{version}}.{{os}}-{{arch}}.tar.gz"
    checksum_url: "{url}/files/go{{version}}.sha256"
    platforms: [linux/amd64]
"""


def carry_go(mini: MiniUpstream, version: str) -> str:
    """The release brings this machine's go as an archive of its own; gives back its path."""
    program = find_toolchain(
        GoRecipe(HELLO, VERSION, "", ".", go_series(), (), ()), dict(os.environ)
    ).program
    archive = go_archive(f'#!/bin/sh\nexec {program} "$@"\n')
    path = f"/files/go{version}.linux-amd64.tar.gz"
    mini.server.serve(path, archive)
    digest = hashlib.sha256(archive).hexdigest()
    mini.server.serve(f"/files/go{version}.sha256", digest.encode())
    folder = mini.catalog_root / "go"
    folder.mkdir()
    text = GO_COMPONENT.format(version=version, url=mini.server.url)
    (folder / "component.yaml").write_text(text)
    release = mini.catalog_root / "releases" / "mini.yaml"
    release.write_text(release.read_text().replace("[cluster, shop]", "[cluster, go, shop]"))
    return path


def go_requests(mini: MiniUpstream, path: str) -> int:
    return sum(seen.path == path and seen.method == "GET" for seen in mini.server.seen)


def test_a_builder_without_go_compiles_with_the_one_the_release_carries(
    mini: MiniUpstream, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = this_go()
    path = carry_go(mini, version)
    compiled = Compiled(mini, packages, base="scratch")
    monkeypatch.setattr(Compiled, "path", "/nonexistent")
    monkeypatch.setattr(toolchain, "_PLACES", ())
    lock = compiled.lock()
    (image,) = (image for image in lock.images if image.built)
    assert image.built is not None
    assert image.built.toolchain == f"go{version}"
    (file,) = (file for file in lock.files if file.component == "go")
    assert str(file.digest).startswith("sha256:")
    assert (compiled.compiles(), go_requests(mini, path)) == (1, 1)
    # what is kept needs no Go: it is not even fetched
    assert compiled.lock() == lock
    assert (compiled.compiles(), go_requests(mini, path)) == (1, 1)
    # from nothing, with the locked archive, the same image
    compiled.kept.forget(image.built.recipe)
    with open_workspace(tmp_path / "out", lock, lock.to_bytes()) as workspace:
        upstream = mini.upstream(compiled.events.append)
        (taken,) = take_builds(lock, mini.release(), upstream, workspace, compiled.settings)
        assert taken.locked == image
        assert file.digest and workspace.blob(file.digest).is_file()  # it is carried
    assert (compiled.compiles(), go_requests(mini, path)) == (2, 2)


def test_a_go_that_is_not_the_locked_one_compiles_nothing(
    mini: MiniUpstream, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = carry_go(mini, this_go())
    compiled = Compiled(mini, packages, base="scratch")
    mini.server.serve(path, go_archive("#!/bin/sh\ntouch /tmp/owned\n"))
    with pytest.raises(IntegrityError) as caught:
        compiled.lock()
    assert caught.value.code == "digest-mismatch"
    assert compiled.compiles() == 0


def test_a_release_whose_go_the_recipe_does_not_take_is_refused(
    mini: MiniUpstream, packages: Path
) -> None:
    Compiled(mini, packages, base="scratch")
    carry_go(mini, "1.2.3")
    with pytest.raises(InputError) as caught:
        mini.release()
    assert any("component go is 1.2.3" in problem for problem in caught.value.problems)
