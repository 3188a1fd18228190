"""workloads.yaml: what a site's own people need, read strictly, every problem with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.compiled import as_compiled

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workload_values import Workloads
from perimeter_bundle.catalog.workloads import load_workloads, with_workloads
from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.wanted import wanted_images
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import WORKLOADS, ImageOrigin, Lock
from perimeter_bundle.model.platform import LINUX_AMD64

GOOD = """\
images:
  - reference: docker.io/library/python:3.12
    why: KFP components start from it
  - reference: registry.example.org/team/train:1.4
    from: oci-layout:./train-layout:1.4
    why: trains
    licence: MIT
  - reference: registry.example.org/team/old:2
    from: docker-archive:old.tar:registry.example.org/team/old:2
    why: serves
"""


def loaded(tmp_path: Path, text: str) -> Workloads:
    (tmp_path / "workloads.yaml").write_text(text)
    return load_workloads(tmp_path / "workloads.yaml")


def refused(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, text)
    assert caught.value.code == "bad-workloads"
    assert "docs/workloads.md" in str(caught.value.hint)
    return caught.value.problems


def release() -> Release:
    return load_release(load_catalog(content_root() / "manifests"), "2026.11-base")


def pinned(lock: Lock) -> Lock:
    digest = Digest.of_bytes(b"x")
    pins = replace(
        lock,
        images=tuple(
            replace(image, digest=digest, manifests={LINUX_AMD64: digest}) for image in lock.images
        ),
        charts=tuple(replace(chart, digest=digest) for chart in lock.charts),
        files=tuple(replace(file, digest=digest) for file in lock.files),
    )
    return as_compiled(pins)


def test_images_of_registries_layouts_and_archives_are_read(tmp_path: Path) -> None:
    images = loaded(tmp_path, GOOD).images
    assert [image.origin for image in images] == [
        ImageOrigin.REGISTRY,
        ImageOrigin.OCI_LAYOUT,
        ImageOrigin.DOCKER_ARCHIVE,
    ]
    assert images[1].path == tmp_path / "train-layout"
    assert (images[1].name, images[1].licence) == ("1.4", "MIT")
    assert images[2].name == "registry.example.org/team/old:2"
    assert images[0].licence == "not stated"


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    problems = refused(
        tmp_path,
        "images:\n"
        "  - reference: python\n"
        "    why: x\n"
        "  - reference: quay.io/a/b:1\n"
        "    source: oci-layout:./x\n"
        "    why: x\n"
        "  - reference: quay.io/a/c:1\n"
        "    from: ./x\n"
        "    why: ''\n"
        "  - {reference: 'quay.io/a/d:1', from: 'docker-archive:', why: x}\n"
        "extra: 1\n",
    )
    assert sorted(problems) == [
        "workloads.yaml:10: images[3].from: docker-archive needs a path, "
        "as in docker-archive:./train",
        "workloads.yaml:11: extra: unknown key; there are images, python",
        "workloads.yaml:2: images[0].reference: write the complete reference: "
        "docker.io/library/python:latest",
        "workloads.yaml:5: images[1].source: unknown key; there are reference, why, licence, from",
        "workloads.yaml:8: images[2].from: must begin with one of oci-layout:, docker-archive:, "
        "docker-engine:; leave it out for a registry",
        "workloads.yaml:9: images[2].why: String should have at least 1 character",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "asks for nothing: no images, no python"),
        ("images: []", "asks for nothing: no images, no python"),
        ("- a", "must be a mapping of keys to values"),
        ("images: &a []\nx: *a", "alias *a: write the value out"),
        (
            "images:\n  - {reference: 'quay.io/a/b:1', why: x}\n"
            "  - {reference: 'quay.io/a/b:1', why: y}\n",
            "quay.io/a/b:1 stands there twice",
        ),
        (
            "images:\n  - {reference: 'perimeter.internal/files/a:1', why: x}\n",
            "perimeter.internal is perimeter's own host",
        ),
        (
            f"images:\n  - {{reference: 'quay.io/a/b@sha256:{'a' * 64}', why: x,"
            " from: 'oci-layout:x'}\n",
            "must be a tag without a digest: the lock writes the digest down",
        ),
        (
            "images:\n  - {reference: 'quay.io/a/b:1', why: x, from: 'oci-layout:a\\b'}\n",
            "holds characters that do not belong there",
        ),
        (
            "images:\n  - {reference: 'quay.io/a/b:1', why: x, from: 'oci-layout'}\n",
            "must be oci-layout: and what follows it",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in "\n".join(refused(tmp_path, text))


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_workloads(tmp_path / "gone.yaml")
    assert caught.value.code == "no-workloads"


def test_workload_images_are_wanted_beside_those_of_the_release(tmp_path: Path) -> None:
    wanted = {
        str(image.reference): image
        for image in wanted_images(with_workloads(release(), loaded(tmp_path, GOOD)))
    }
    train = wanted["registry.example.org/team/train:1.4"]
    assert (train.components, train.why) == ((WORKLOADS,), ("workloads.yaml: trains",))
    assert train.origin is ImageOrigin.OCI_LAYOUT
    assert len(wanted) == len(wanted_images(release())) + 3


def test_an_image_that_the_release_has_too_keeps_its_component(tmp_path: Path) -> None:
    component = next(c for c in release().components if c.images)
    reference = component.images[0].reference
    text = f"images:\n  - {{reference: '{reference}', why: we run it too}}\n"
    mine = with_workloads(release(), loaded(tmp_path, text))
    image = next(one for one in wanted_images(mine) if one.reference == reference)
    assert image.components == (component.name, WORKLOADS)
    assert "workloads.yaml: we run it too" in image.why
    text = text.replace("why:", "from: 'oci-layout:./x', why:")
    with pytest.raises(InputError) as caught:
        wanted_images(with_workloads(release(), loaded(tmp_path, text)))
    assert caught.value.code == "name-taken"
    assert caught.value.problems == (f"{reference}: {component.name}",)


def test_a_lock_fits_only_the_workloads_it_was_written_with(tmp_path: Path) -> None:
    bare, mine = release(), with_workloads(release(), loaded(tmp_path, GOOD))
    without, with_them = pinned(unresolved_lock(bare)), pinned(unresolved_lock(mine))
    check_lock(without, bare)
    check_lock(with_them, mine)
    assert Lock.parse(with_them.to_bytes()) == with_them
    with pytest.raises(InputError) as caught:
        check_lock(with_them, bare)
    assert caught.value.code == "lock-mismatch"
    assert caught.value.message == "the lock was written with a workloads.yaml"
    assert caught.value.hint == "give the same file with --workloads FILE"
    assert len(caught.value.problems) == 3
    with pytest.raises(InputError) as caught:
        check_lock(without, mine)
    assert caught.value.message == "the lock was not written with this workloads.yaml"
    assert "perimeter-bundle lock 2026.11-base --workloads FILE" in str(caught.value.hint)
    assert "docker.io/library/python:3.12 is in workloads.yaml, not in the lock" in (
        caught.value.problems
    )


def test_an_image_that_comes_from_elsewhere_now_is_refused(tmp_path: Path) -> None:
    mine = with_workloads(release(), loaded(tmp_path, GOOD))
    lock = pinned(unresolved_lock(mine))
    moved = loaded(tmp_path, GOOD.replace("oci-layout:./train-layout:1.4", "docker-archive:t.tar"))
    with pytest.raises(InputError) as caught:
        check_lock(lock, with_workloads(release(), moved))
    assert caught.value.problems == (
        "registry.example.org/team/train:1.4: the lock has it from oci-layout, "
        "workloads.yaml from docker-archive",
    )


def test_a_lock_names_where_an_image_came_from_and_no_path_of_this_machine(tmp_path: Path) -> None:
    data = unresolved_lock(with_workloads(release(), loaded(tmp_path, GOOD))).to_bytes()
    assert data.count(b'origin = "oci-layout"') == 1
    assert b'origin = "registry"' not in data
    assert str(tmp_path).encode() not in data
    assert b"train-layout" not in data


# --- Python packages -------------------------------------------------------------------------

HASH = "--hash=sha256:" + "ab" * 32


def test_packages_are_read_from_pins_and_hashed_files(tmp_path: Path) -> None:
    (tmp_path / "site.txt").write_text(f"Six_.Seven==1.0 ; python_version < '3.12' {HASH}\n")
    python = loaded(
        tmp_path,
        "python:\n  packages: [site.txt, 'torch==2.5.1+cpu']\n  pythons: ['3.9', '3.12']\n"
        "  platforms: [linux/arm64]\n  provided: [NumPy]\n",
    ).python
    assert [(one.name, one.version, len(one.hashes)) for one in python.requirements] == [
        ("six-seven", "1.0", 1),
        ("torch", "2.5.1+cpu", 0),
    ]
    assert (python.pythons, python.provided) == (("3.9", "3.12"), ("numpy",))
    assert [str(platform) for platform in python.platforms] == ["linux/arm64"]


def test_every_problem_of_the_packages_is_told(tmp_path: Path) -> None:
    (tmp_path / "loose.txt").write_text("six\n-r other.txt\n")
    good = "python:\n  packages: [{}]\n  pythons: [{}]\n{}"
    assert refused(tmp_path, good.format("loose.txt, gone.txt, 'a==1', 'a==1'", "'3.12'", "")) == (
        "workloads.yaml:2: python.packages: a==1 stands there twice",
        "loose.txt: entry 1: not a pinned and hashed requirement: six",
        "loose.txt: entry 2: not a pinned and hashed requirement: -r other.txt",
        "workloads.yaml:2: python.packages[1]: cannot read gone.txt: No such file or directory",
    )
    problems = refused(
        tmp_path, good.format("six, ../x.txt, 'six>=1'", "'2.7'", "  platforms: [linux/s390x]\n")
    )
    assert [problem.partition(": ")[2] for problem in problems] == [
        "python.packages[0]: must be name==version, or the name of a .txt file beside "
        "workloads.yaml",
        "python.packages[1]: must be name==version, or the name of a .txt file beside "
        "workloads.yaml",
        "python.packages[2]: must be name==version, or the name of a .txt file beside "
        "workloads.yaml",
        "python.pythons[0]: String should match pattern '^3\\.([89]|[1-9][0-9])$'",
        "python.platforms[0]: must be one of linux/amd64, linux/arm64",
    ]
    assert "at least 1 item" in refused(tmp_path, good.format("", "'3.12'", ""))[0]


def test_packages_are_wanted_for_each_python_and_platform(tmp_path: Path) -> None:
    text = "python:\n  packages: ['six==1.0']\n  pythons: ['3.11', '3.12']\n"
    mine = with_workloads(release(), loaded(tmp_path, text))
    lock = unresolved_lock(mine)
    assert lock.unresolved()[-1] == "six==1.0"
    assert [str(target) for target in lock.packages[0].targets] == [
        "3.11 linux/amd64",
        "3.12 linux/amd64",
    ]
    with pytest.raises(InputError) as caught:
        check_lock(pinned(replace(lock, packages=())), mine)
    assert caught.value.problems == ("six==1.0 is in workloads.yaml, not in the lock",)
