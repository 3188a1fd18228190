"""A small program, compiled by the real go from a proxy that is a folder: what is made, what is
refused. Offline; each compile takes about a second once the standard library is compiled."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.go_modules import (
    GREETER,
    HELLO,
    LIBRARY,
    LIBRARY_MOD,
    MAIN,
    VERSION,
    GoProxy,
    hello_files,
    hello_proxy,
)

from perimeter_bundle.catalog.built import BuiltImageSpec, GoRecipe
from perimeter_bundle.format.oci import Descriptor, ImageManifest, parse_manifest
from perimeter_bundle.gobuild import compiling
from perimeter_bundle.gobuild.compiling import (
    Module,
    Workshop,
    compile_program,
    refuse_without_room,
)
from perimeter_bundle.gobuild.kept import Kept, MadeImage
from perimeter_bundle.gobuild.made import Bases, GoSettings, kept_image, make_image
from perimeter_bundle.gobuild.recipe import BaseImage, Recipe
from perimeter_bundle.gobuild.toolchain import Toolchain, find_toolchain
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, NetworkError
from perimeter_bundle.model.events import Event, EventKind, ignore_events
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.tools.run import run_long

ARM64 = Platform("linux", "arm64")


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    recipe = GoRecipe(HELLO, VERSION, "", ".", "1.0.x", (), ())
    try:
        return find_toolchain(recipe, dict(os.environ))
    except HostError as error:
        assert error.problems, "these tests need a go command"
        program, _, version = error.problems[0].partition(" is ")
        return Toolchain(Path(program), version)


@pytest.fixture(scope="module")
def standard_library(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GOCACHE with what every program needs: compiled once for all tests."""
    return tmp_path_factory.mktemp("packages")


@pytest.fixture
def proxy(tmp_path: Path) -> GoProxy:
    return hello_proxy(tmp_path / "proxy")[0]


class Shop:
    """One build folder, one proxy, and recipes for the program in it."""

    def __init__(self, folder: Path, proxy: GoProxy, toolchain: Toolchain, cache: Path) -> None:
        self.folder, self.proxy, self.toolchain, self.cache = folder, proxy, toolchain, cache
        self.events: list[Event] = []
        self.settings = self.settings_in(folder / "kept")

    def settings_in(self, folder: Path) -> GoSettings:
        return GoSettings(Kept(folder), self.proxy.environment)

    def recipe(self, **changes: object) -> Recipe:
        library = self.proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": LIBRARY})
        files = hello_files(library)
        total = self.proxy.add(HELLO, VERSION, files)
        go = GoRecipe(HELLO, VERSION, total, ".", "1.x.x", ("-s", "-w"), ())
        own = {key: value for key, value in changes.items() if key in GoRecipe.__slots__}
        go = replace(go, **own)  # type: ignore[arg-type]
        script = self.folder / "start.sh"
        script.write_text("#!/bin/sh\nexec hello\n")
        spec = BuiltImageSpec(
            reference=ImageReference.parse("quay.io/example/hello:1.2.3"),
            why="it greets",
            licence="AGPL-3.0-only",
            go=go,
            base=None,
            user="1000",
            entrypoint=("/usr/bin/hello",),
            command=("serve",),
            paths=("/usr/bin/hello",),
            files=(("/usr/bin/start.sh", script),),
        )
        platforms = changes.get("platforms", (LINUX_AMD64,))
        assert isinstance(platforms, tuple)
        return Recipe(spec, self.toolchain.version, None, platforms)

    def make(
        self, recipe: Recipe, settings: GoSettings | None = None, bases: Bases | None = None
    ) -> MadeImage:
        used = replace(settings or self.settings, packages=self.cache)
        return make_image(recipe, self.toolchain, bases or {}, used, self.events.append)


@pytest.fixture
def shop(
    tmp_path: Path, proxy: GoProxy, toolchain: Toolchain, standard_library: Path
) -> Iterator[Shop]:
    yield Shop(tmp_path, proxy, toolchain, standard_library)


def manifest_of(made: MadeImage, position: int = 0) -> ImageManifest:
    entry = made.read_index().manifests[position]
    parsed = parse_manifest(made.blobs[entry.digest].read_bytes())
    assert isinstance(parsed, ImageManifest)
    return parsed


def program_in(made: MadeImage, folder: Path) -> Path:
    layer = manifest_of(made).layers[-1]
    with tarfile.open(made.blobs[layer.digest]) as tar:
        tar.extractall(folder, filter="data")
    return folder / "usr/bin/hello"


# --- what is made ------------------------------------------------------------------------------


def test_a_module_becomes_an_image_that_runs(shop: Shop, tmp_path: Path) -> None:
    stamp = f"-X main.Stamp={VERSION}"
    made = shop.make(shop.recipe(ldflags=("-s", stamp)))
    program = program_in(made, tmp_path / "root")
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stderr == f"hello {VERSION}\n"
    config = json.loads(made.blobs[manifest_of(made).config.digest].read_text())
    assert config["config"]["Entrypoint"] == ["/usr/bin/hello"]
    assert config["config"]["Cmd"] == ["serve"]
    assert config["config"]["User"] == "1000"
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert config["config"]["Labels"]["org.opencontainers.image.licenses"] == "AGPL-3.0-only"
    assert (tmp_path / "root/usr/bin/start.sh").stat().st_mode & 0o111
    # nothing of the building stays but the result
    assert [path.name for path in (tmp_path / "kept").iterdir() if path.is_dir()] == [
        shop.recipe(ldflags=("-s", stamp)).key.hex
    ]


def test_made_twice_in_different_folders_it_is_the_same(shop: Shop, tmp_path: Path) -> None:
    recipe = shop.recipe(platforms=(ARM64, LINUX_AMD64))
    first = shop.make(recipe)
    # the second time with caches of its own, in a longer path
    elsewhere = shop.settings_in(tmp_path / "another" / "place" / "for builds")
    second = make_image(recipe, shop.toolchain, {}, elsewhere, ignore_events)
    assert first.index == second.index
    assert {digest.hex for digest in first.blobs} == {digest.hex for digest in second.blobs}
    assert [str(e.platform) for e in first.read_index().manifests] == [
        "linux/amd64",
        "linux/arm64",
    ]


def test_its_source_materials_and_provenance_come_with_it(shop: Shop) -> None:
    recipe = shop.recipe()
    made = shop.make(recipe)
    source = made.file("hello-source", None)
    assert source is not None
    archive = shop.proxy.folder / HELLO / "@v" / f"{VERSION}.zip"
    assert made.blobs[source.digest].read_bytes() == archive.read_bytes()
    sbom_file, statement_file = (
        made.file("hello-sbom", LINUX_AMD64),
        made.file("hello-provenance", None),
    )
    assert sbom_file is not None
    assert statement_file is not None
    sbom = json.loads(made.blobs[sbom_file.digest].read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    found = {one["purl"] for one in sbom["components"]}
    go = shop.toolchain.version.removeprefix("go")
    assert found == {
        f"pkg:golang/{HELLO}@{VERSION}",
        f"pkg:golang/{GREETER}@v0.1.0",
        f"pkg:golang/std@{go}",
    }
    assert sbom["components"][0]["licenses"] == [{"expression": "AGPL-3.0-only"}]
    statement = json.loads(made.blobs[statement_file.digest].read_text())
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "quay.io/example/hello:1.2.3", "digest": {"sha256": made.index.hex}}
    ]
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["recipe"]["go"]["sum"] == recipe.spec.go.sum


def test_it_stands_on_the_layers_of_its_base(shop: Shop) -> None:
    layer = Descriptor(
        "application/vnd.docker.image.rootfs.diff.tar.gzip", Digest.of_bytes(b"base"), 4
    )
    config = {
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "User": "root"},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of_bytes(b"diff"))]},
    }
    recipe = shop.recipe()
    base = ImageReference.parse("docker.io/library/busybox:1.37").with_digest(
        Digest.of_bytes(b"index")
    )
    recipe = replace(recipe, base=base)
    made = shop.make(recipe, bases={LINUX_AMD64: BaseImage((layer,), config)})
    manifest = manifest_of(made)
    assert manifest.layers[0].digest == layer.digest
    assert manifest.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert layer.digest not in made.blobs
    table = json.loads(made.blobs[manifest.config.digest].read_text())
    assert table["config"]["Env"] == ["A=b"]
    assert table["config"]["User"] == "1000"
    assert table["rootfs"]["diff_ids"][0] == str(Digest.of_bytes(b"diff"))
    short = {LINUX_AMD64: BaseImage((layer, layer), config)}
    shop.settings.kept.forget(recipe.key)
    with pytest.raises(IntegrityError) as caught:
        shop.make(recipe, bases=short)
    assert caught.value.code == "bad-base"


def test_what_was_made_is_taken_again_and_hashed_again(shop: Shop) -> None:
    recipe = shop.recipe()
    made = shop.make(recipe)
    assert kept_image(recipe, shop.settings, ignore_events) == made
    blob = made.blobs[manifest_of(made).layers[0].digest]
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    blob.write_bytes(damaged)
    assert kept_image(recipe, shop.settings, ignore_events) is None
    assert kept_image(shop.recipe(tags=("x",)), shop.settings, ignore_events) is None


# --- what is refused ---------------------------------------------------------------------------


def test_a_version_that_does_not_exist_is_refused(shop: Shop) -> None:
    with pytest.raises(NetworkError) as caught:
        shop.make(shop.recipe(version="v9.9.9"))
    assert caught.value.code == "module-missing"
    assert f"fetching {HELLO}@v9.9.9" in caught.value.message


def test_a_module_with_another_checksum_is_refused(shop: Shop) -> None:
    wrong = "h1:" + "A" * 43 + "="
    with pytest.raises(IntegrityError) as caught:
        shop.make(shop.recipe(sum=wrong))
    assert caught.value.code == "sum-mismatch"
    assert caught.value.context["expected"] == wrong
    assert caught.value.context["got"] == shop.recipe().spec.go.sum


def test_a_dependency_that_was_changed_after_it_was_published_is_refused(shop: Shop) -> None:
    recipe = shop.recipe()
    evil = LIBRARY.replace("hello", "evil")
    shop.proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": evil})
    with pytest.raises(IntegrityError) as caught:
        shop.make(recipe)
    assert caught.value.code == "sum-mismatch"
    assert any("checksum mismatch" in line for line in caught.value.problems)


def test_a_program_that_does_not_compile_shows_what_the_compiler_said(shop: Shop) -> None:
    shop.recipe()
    library = shop.proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": LIBRARY})
    broken = hello_files(library, MAIN.replace("greeter.Greet()", "greeter.Great()"))
    total = shop.proxy.add(HELLO, "v1.2.4", broken)
    with pytest.raises(InputError) as caught:
        shop.make(shop.recipe(version="v1.2.4", sum=total))
    assert caught.value.code == "does-not-compile"
    assert any("undefined: greeter.Great" in line for line in caught.value.problems)


def test_a_library_is_no_program(shop: Shop) -> None:
    with pytest.raises(InputError) as caught:
        shop.make(shop.recipe(package="./lib"))
    assert caught.value.code == "not-a-program"


def test_a_source_that_needs_a_newer_go_is_refused_and_no_toolchain_is_fetched(
    shop: Shop,
) -> None:
    shop.recipe()
    library = shop.proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": LIBRARY})
    total = shop.proxy.add(HELLO, "v1.2.5", hello_files(library, go="1.999.0"))
    with pytest.raises(HostError) as caught:
        shop.make(shop.recipe(version="v1.2.5", sum=total))
    assert caught.value.code == "go-too-old"
    assert "1.999.0" in caught.value.context["needed"]


def test_a_module_whose_go_sum_lacks_something_is_refused(shop: Shop) -> None:
    shop.recipe()
    library = shop.proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": LIBRARY})
    files = {**hello_files(library), "go.sum": ""}
    total = shop.proxy.add(HELLO, "v1.2.6", files)
    with pytest.raises(InputError) as caught:
        shop.make(shop.recipe(version="v1.2.6", sum=total))
    assert caught.value.code == "not-pinned"


def test_a_proxy_that_cannot_be_reached_is_a_network_error(shop: Shop) -> None:
    settings = GoSettings(shop.settings.kept, {"GOPROXY": "https://127.0.0.1:9", "GOSUMDB": "off"})
    with pytest.raises(NetworkError) as caught:
        shop.make(shop.recipe(), settings)
    assert caught.value.code == "module-unreachable"


def test_passwords_of_module_proxies_are_in_no_error_no_event_and_no_log(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxies = {
        "GOPROXY": "https://me:g0-pa55@127.0.0.1:9",
        "https_proxy": "http://u:g0-pa55@[::1]:9",
    }
    with pytest.raises(NetworkError) as caught:
        shop.make(shop.recipe(), GoSettings(shop.settings.kept, {**proxies, "GOSUMDB": "off"}))
    assert caught.value.code == "module-unreachable"
    assert "g0-pa55" not in str(caught.value) + repr(shop.events) + caplog.text


def test_too_little_room_is_told_before_anything_is_fetched(
    shop: Shop, toolchain: Toolchain
) -> None:
    workshop = Workshop(shop.folder / "work", shop.cache, toolchain, {}, None, ignore_events)
    with pytest.raises(HostError) as caught:
        refuse_without_room(workshop, needed_bytes=1 << 60)
    assert caught.value.code == "no-room"
    assert caught.value.context["needed"] == "1.0 EiB" or caught.value.context["needed"]


def test_another_version_of_go_is_refused_with_those_there_are(toolchain: Toolchain) -> None:
    recipe = GoRecipe(HELLO, VERSION, "", ".", "1.2.3", (), ())
    with pytest.raises(HostError) as caught:
        find_toolchain(recipe, {"PERIMETER_GO": str(toolchain.program)})
    assert caught.value.code == "go-other-version"
    assert caught.value.problems == (f"{toolchain.program} is {toolchain.version}",)
    assert "go1.2.3" in caught.value.message


def test_without_any_go_the_hint_says_what_to_install(tmp_path: Path) -> None:
    recipe = GoRecipe(HELLO, VERSION, "", ".", "1.26.x", (), ())
    with pytest.raises(HostError) as caught:
        find_toolchain(recipe, {"PERIMETER_GO": str(tmp_path / "none")})
    assert caught.value.code == "go-missing"
    assert caught.value.hint is not None
    assert "go1.26.x" in caught.value.hint


def test_settings_of_the_user_do_not_reach_the_compiler(shop: Shop, tmp_path: Path) -> None:
    plain = shop.make(shop.recipe())
    hostile = {
        **shop.proxy.environment,
        "GOFLAGS": "-tags=evil -toolexec=/bin/false",
        "CGO_ENABLED": "1",
        "GOAMD64": "v3",
        "GOEXPERIMENT": "nonsense",
    }
    settings = GoSettings(Kept(tmp_path / "hostile"), hostile)
    assert shop.make(shop.recipe(), settings).index == plain.index


# --- long, and cut off -------------------------------------------------------------------------


def test_a_long_compile_says_how_far_it_is(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling, "PROGRESS_EVERY_S", 0.5)
    slow = tmp_path / "go"
    slow.write_text(
        "#!/bin/sh\necho 'go: downloading a v1'; echo runtime\nsleep 3; exit 1\n".replace(
            "echo", "echo >&2"
        )
    )
    slow.chmod(0o755)
    workshop = Workshop(
        tmp_path / "work", shop.cache, Toolchain(slow, "go1.26.8"), {}, None, shop.events.append
    )
    module = Module(tmp_path, tmp_path)
    with pytest.raises(InputError):
        compile_program(shop.recipe().spec.go, module, LINUX_AMD64, workshop)
    told = [event.message for event in shop.events if event.kind is EventKind.PROGRESS]
    assert "1 modules fetched, 1 packages compiled" in told


def test_an_interrupted_compile_ends_its_processes_and_keeps_its_caches(tmp_path: Path) -> None:
    script = tmp_path / "go"
    script.write_text("#!/bin/sh\necho compiled >&2\nsleep 600 &\nsleep 600\n")
    script.chmod(0o755)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(passed_s: float, output: str) -> None:
        if "compiled" in output:
            raise KeyboardInterrupt

    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_long(
            [script],
            folder=tmp_path,
            environment={"PATH": os.environ["PATH"]},
            timeout_s=60,
            what="compiling",
            on_tick=interrupt,
        )
    assert time.monotonic() - began_s < 30


def test_a_cut_off_build_goes_on_with_what_it_had(shop: Shop, tmp_path: Path) -> None:
    recipe = shop.recipe()
    settings = shop.settings_in(tmp_path / "again")
    work = settings.kept.work_folder(recipe.key)

    def cut(event: Event) -> None:
        if event.kind is EventKind.START and event.task.startswith("compiling"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_image(recipe, shop.toolchain, {}, settings, cut)
    assert (work / "modules" / "cache" / "download" / HELLO).is_dir()
    # what was fetched is there: nobody needs to be asked again
    shutil.rmtree(shop.proxy.folder / HELLO)
    made = shop.make(recipe, settings)
    assert not work.exists()
    assert made.file("hello-source", None) is not None
