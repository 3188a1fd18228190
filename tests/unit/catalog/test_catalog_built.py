"""built_images, alternates and known digests of component.yaml: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.catalog.test_catalog_load import COMPONENT, RELEASE, catalog, loaded, problems_of

from perimeter_bundle.catalog.built import GoRecipe
from perimeter_bundle.collect.wanted import made_files_of, wanted_builds, wanted_images
from perimeter_bundle.model.platform import LINUX_AMD64

SUM = "h1:" + "A" * 43 + "="
BUILT = f"""\
built_images:
  - reference: quay.io/minio/minio:RELEASE.1
    why: stores
    go:
      module: github.com/minio/minio
      version: v0.0.0-20260212201848-7aac2a2c5b7c
      sum: "{SUM}"
      package: ./cmd
      go: 1.26.x
      ldflags: [-s, -w, "-X github.com/minio/minio/cmd.Version=2025-10-15T17:29:55Z"]
      tags: [kqueue]
    base: docker.io/library/busybox:1.37
    user: 1000
    entrypoint: [/usr/bin/minio]
    paths: {{/usr/bin/minio: binary}}
    files: {{/usr/bin/start.sh: start.sh}}
files:
"""


def with_built(folder: Path, built: str = BUILT) -> Path:
    root = catalog(folder, COMPONENT.replace("files:\n", built))
    (root / "shop" / "start.sh").write_text("#!/bin/sh\n")
    return root


def test_reads_an_image_that_is_compiled(tmp_path: Path) -> None:
    release = loaded(with_built(tmp_path))
    (wanted,) = wanted_builds(release)
    assert wanted.spec.licence == "MIT"
    assert wanted.spec.user == "1000"
    assert str(wanted.spec.base) == "docker.io/library/busybox:1.37"
    assert wanted.spec.file_contents() == (("/usr/bin/start.sh", b"#!/bin/sh\n"),)
    assert str(wanted.spec.reference) not in {str(i.reference) for i in wanted_images(release)}
    assert [(str(f.reference), f.platform) for f in made_files_of(wanted, release)] == [
        (
            "perimeter.internal/files/shop/minio-source:v0.0.0-20260212201848-7aac2a2c5b7c",
            None,
        ),
        ("perimeter.internal/files/shop/minio-provenance:RELEASE.1", None),
        ("perimeter.internal/files/shop/minio-sbom:RELEASE.1-amd64", LINUX_AMD64),
    ]


def test_the_path_of_a_source_marks_capital_letters(tmp_path: Path) -> None:
    built = BUILT.replace("github.com/minio/minio\n", "github.com/IBM/sarama\n")
    (wanted,) = wanted_builds(loaded(with_built(tmp_path, built)))
    assert wanted.source_url.startswith("go-module://github.com/!i!b!m/sarama/@v/v0.0.0-")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-s, -w", '"-s; rm -rf /", -w', "go.ldflags[0]: must be -s, -w or"),
        ("-s, -w", '"-X main.A=$(id)", -w', "go.ldflags[0]: must be -s, -w or"),
        ("-s, -w", '"-X main.A=a b", -w', "go.ldflags[0]: must be -s, -w or"),
        ("-s, -w", "\"-X main.A='b'\", -w", "go.ldflags[0]: must be -s, -w or"),
        ("-s, -w", '"-extld=/tmp/evil", -w', "go.ldflags[0]: must be -s, -w or"),
        ("-s, -w", '"-X main.A=b\\n-extld=evil", -w', "go.ldflags[0]: must be -s, -w or"),
        ("./cmd", "../../etc", "go.package: must be"),
        ("./cmd", "./cmd/../../etc", "go.package: must be"),
        ("./cmd", "github.com/other/thing", "go.package: must be"),
        ("./cmd", "-o=/etc/passwd", "go.package: must be"),
        ("module: github.com/minio/minio", "module: ../minio", "go.module: must be a module"),
        ("module: github.com/minio/minio", "module: -modfile=x", "go.module: must be a module"),
        ("version: v0.0.0-20260212201848-7aac2a2c5b7c", "version: latest", "must be a module ver"),
        ("version: v0.0.0-20260212201848-7aac2a2c5b7c", "version: master", "must be a module ver"),
        (SUM, "h1:short", "go.sum: "),
        ("go: 1.26.x", "go: 1.26.x\n      cgo: true", "go.cgo: "),
        ("go: 1.26.x", "go: latest", "go.go: "),
        ("[kqueue]", '["a b"]', "go.tags[0]: "),
        ("/usr/bin/minio: binary", "/usr/../etc/minio: binary", "must be a plain absolute path"),
        ("/usr/bin/minio: binary", "usr/bin/minio: binary", "must be an absolute path"),
        ("/usr/bin/minio: binary", "/usr/bin/minio: source", "Input should be 'binary'"),
        ("start.sh}", "../start.sh}", "must be the name of a file beside component.yaml"),
        ("start.sh}", "gone.sh}", "there is no file gone.sh beside it"),
        ("/usr/bin/start.sh", "/usr/bin/minio", "the program lies there"),
        ("/usr/bin/start.sh", "/usr/bin", "/usr/bin is a file and a folder"),
        ("user: 1000", "user: root", "user"),
        ("user: 1000", "user: -1", "user"),
        ("base: docker.io/library/busybox:1.37", "base: busybox", "write the complete reference"),
        ("base: docker.io/library/busybox:1.37", "", "base: "),
        (
            "library/busybox:1.37\n    user: 1000\n    entrypoint: [/usr/bin/minio]",
            "library/busybox:1.37\n    entrypoint: []",
            "entrypoint: List should have at least 1 item",
        ),
        ("quay.io/minio/minio:RELEASE.1", "quay.io/example/shop:1.0", "stands under images too"),
    ],
)
def test_what_a_recipe_must_not_say(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in BUILT
    problems = problems_of(with_built(tmp_path, BUILT.replace(old, new)))
    assert any(reason in problem for problem in problems), problems


def test_an_image_on_nothing_starts_what_is_in_it(tmp_path: Path) -> None:
    built = BUILT.replace("docker.io/library/busybox:1.37", "scratch")
    started = built.replace("entrypoint: [/usr/bin/minio]", "entrypoint: [/bin/sh]")
    assert any(
        "there is no /bin/sh in an image on nothing" in problem
        for problem in problems_of(with_built(tmp_path, started))
    )


def test_what_cannot_be_compiled_for_a_platform_is_refused(tmp_path: Path) -> None:
    root = with_built(tmp_path)
    text = RELEASE.replace("linux/amd64", "linux/arm/v7")
    (root / "releases" / "1.yaml").write_text(text)
    assert any(
        "quay.io/minio/minio:RELEASE.1 cannot be compiled for linux/arm/v7" in problem
        for problem in problems_of(root)
    )


def test_a_toolchain_is_taken_by_its_series_or_exactly() -> None:
    series = GoRecipe("example.org/x", "v1.0.0", SUM, ".", "1.26.x", (), ())
    assert series.takes("go1.26.8")
    assert not series.takes("go1.25.8")
    assert not series.takes("go1.260.1")
    exact = GoRecipe("example.org/x", "v1.0.0", SUM, ".", "1.26.8", (), ())
    assert exact.takes("go1.26.8")
    assert not exact.takes("go1.26.80")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("    alternates: [quay.io/example/shop:1.0]\n", "stands there twice"),
        ("    alternates: [shop]\n", "write the complete reference"),
        ("    digest: sha256:zz\n", "digest"),
    ],
)
def test_alternates_and_digests_are_checked(tmp_path: Path, more: str, reason: str) -> None:
    component = COMPONENT.replace("    why: sells\n", f"    why: sells\n{more}")
    assert any(reason in problem for problem in problems_of(catalog(tmp_path, component)))


def test_an_entry_that_says_nothing_is_refused(tmp_path: Path) -> None:
    component = COMPONENT.replace("    why: sells\n", "")
    assert any(
        "needs why, or says something" in p for p in problems_of(catalog(tmp_path, component))
    )
