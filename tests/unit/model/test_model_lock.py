"""images.lock: written deterministically, read strictly, every problem at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import (
    LOCK_FORMAT,
    MAX_LOCK_BYTES,
    FileKind,
    GoBuild,
    ImageOrigin,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
    oci_tag,
)
from perimeter_bundle.model.locked_dependency import LockedDependency
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.model.toml_writer import toml_string, toml_table, toml_value

D = Digest.of_bytes(b"x")
ARM64 = Platform("linux", "arm64")
IMAGE = LockedImage(
    ImageReference.parse("quay.io/minio/minio:X"),
    D,
    "application/vnd.oci.image.index.v1+json",
    {LINUX_AMD64: D, ARM64: Digest.of_bytes(b"y")},
    10,
    ("minio", "kubernetes"),
    ("StatefulSet/minio", "Deployment/a"),
)
CHART = LockedChart("minio", "5.4.0+1", "minio", "https://charts.min.io", "https://x/y.tgz", D, 3)
KUBEADM = LockedFile(
    "kubeadm", "v1.34.4", "kubernetes", FileKind.FILE, LINUX_AMD64, "https://dl.k8s.io/x", D, 5
)
STORAGE = LockedFile(
    "storage.yaml", "v0.0.37", "local-path", FileKind.MANIFEST, None, "https://x/s.yaml", D, 6
)
OTHER = dataclasses.replace(IMAGE, reference=ImageReference.parse("ghcr.io/a/b:1"))
COMMIT = "0123456789abcdef" * 2 + "01234567"
ARGO, LOOSE = "https://github.com/argo/flows//base?ref=v1", "https://example.org/x.yaml"
SOURCE = LockedSource(
    "trees", "1.0+1", "https://x/trees", COMMIT, D, 7, (f"{LOOSE} {D}", f"{ARGO} {COMMIT}")
)
TOOLS = dataclasses.replace(SOURCE, name="tools", remote=())
LOCK = Lock(
    *("2026.11", 1, (LINUX_AMD64,), (IMAGE, OTHER), (CHART,), (STORAGE, KUBEADM)),
    sources=(TOOLS, SOURCE),
)


def refused(data: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        Lock.parse(data)
    assert caught.value.code == "bad-lock"
    return caught.value


def test_a_lock_comes_back_as_it_was_written() -> None:
    assert Lock.parse(LOCK.to_bytes()) == LOCK


def test_order_does_not_change_the_bytes() -> None:
    turned = dataclasses.replace(SOURCE, remote=SOURCE.remote[::-1])
    mixed = Lock(
        *("2026.11", 1, (LINUX_AMD64,), (OTHER, IMAGE), (CHART,), (KUBEADM, STORAGE)),
        sources=(turned, TOOLS),
    )
    assert mixed == LOCK
    assert mixed.to_bytes() == LOCK.to_bytes()


def test_an_unresolved_lock_says_which_names_lack_a_digest() -> None:
    lock = Lock(
        "r",
        1,
        (LINUX_AMD64,),
        (dataclasses.replace(IMAGE, digest=None, manifests={}),),
        (dataclasses.replace(CHART, digest=None),),
        (dataclasses.replace(KUBEADM, digest=None), STORAGE),
        sources=(dataclasses.replace(SOURCE, digest=None),),
    )
    assert Lock.parse(lock.to_bytes()) == lock
    assert lock.unresolved() == (
        "perimeter.internal/charts/minio:5.4.0_1",
        "perimeter.internal/files/kubernetes/kubeadm:v1.34.4-amd64",
        "perimeter.internal/sources/trees:1.0_1",
        "quay.io/minio/minio:X",
    )
    assert LOCK.unresolved() == ()


def test_a_source_says_what_each_remote_reference_stands_for() -> None:
    assert SOURCE.pins == {ARGO: COMMIT, LOOSE: str(D)}


def test_charts_and_files_have_names_in_the_registry() -> None:
    assert str(CHART.reference) == "perimeter.internal/charts/minio:5.4.0_1"
    assert str(STORAGE.reference) == "perimeter.internal/manifests/local-path/storage.yaml:v0.0.37"
    assert oci_tag("1.0+a") == "1.0_a"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("number = 1", "number = -1"), "lock: number must be a number"),
        (lambda text: text.replace("number = 1", "number = true"), "lock: number must be a number"),
        (lambda text: text.replace("number = 1", "number = 9007199254740992"), "must be a number"),
        (lambda text: text.replace('release = "2026.11"', 'release = ""'), "release must be a"),
        (lambda text: text.replace('"linux/amd64",', '"amd64",', 1), "platforms: not a platform"),
        (lambda text: text.replace('  "linux/amd64",\n', "", 1), "platforms names none"),
        (lambda text: text.replace("platforms =", "platform ="), "unknown key 'platform'"),
        (lambda text: text + "\n[hooks]\n", "unknown key 'hooks'"),
        (lambda text: text.replace("[[chart]]", "[[chart]]\nrun = 1"), "unknown key 'run'"),
        (lambda text: text.replace("[[file]]", "[[file]]\nrun = 1"), "unknown key 'run'"),
        (lambda text: text.replace("[[image]]", "[[image]]\nrun = 1"), "unknown key 'run'"),
        (lambda text: text.replace("[[source]]", "[[source]]\nrun = 1"), "unknown key 'run'"),
        (lambda text: text.replace(f'commit = "{COMMIT}"', 'commit = "main"'), "whole commit id"),
        (lambda text: text.replace(f"{ARGO} {COMMIT}", ARGO), "and what it stands for"),
        (lambda text: text.replace(f"{ARGO} {COMMIT}", f"a b {COMMIT}"), "what it stands for"),
        (lambda text: text.replace(f"{ARGO} {COMMIT}", f"{ARGO} main"), "remote: not a digest"),
        (lambda text: text.replace(ARGO, LOOSE), f"[[source]] trees: {LOOSE} stands there twice"),
        (lambda text: text.replace('"tools"', '"trees"'), "sources/trees:1.0_1 stands there twice"),
        (lambda text: text.replace("quay.io/minio/minio:X", "a b"), "not an image reference"),
        (lambda text: text.replace("ghcr.io/a/b:1", "quay.io/minio/minio:X"), "stands there twice"),
        (lambda text: text.replace(str(D), str(D)[:-1], 1), "not a digest"),
        (lambda text: text.replace(f'"linux/amd64 {D}"', '"linux/amd64"'), "not a digest"),
        (
            lambda text: text.replace("linux/arm64 ", "linux/amd64 "),
            "platform linux/amd64 stands there twice",
        ),
        (lambda text: text.replace('name = "kubeadm"', 'name = "../kubeadm"'), "not an image"),
        (lambda text: text.replace('name = "kubeadm"', 'name = "a/b"'), "not one path component"),
        (lambda text: text.replace('version = "v1.34.4"', 'version = "../x"'), "not an image"),
        (lambda text: text.replace('kind = "file"', 'kind = "hook"'), "'hook' is not a valid"),
        (lambda text: text.replace("components = [", "components = 3\nwhy = [", 1), "not a lock"),
        (lambda text: text.replace('"minio",\n]', "1,\n]", 1), "components must be a list"),
        (lambda text: text.replace("[[chart]]", "[chart]"), "[[chart]] must be an array of tables"),
        (lambda text: text.replace(LOCK_FORMAT, "perimeter-lock/9"), "unknown lock format"),
        (lambda text: text + "number = 2\n[[", "not a lock"),
        (lambda text: text + "\udcff", "not a lock"),
    ],
)
def test_refuses_a_lock_with(change: Callable[[str], str], problem: str) -> None:
    text = LOCK.to_bytes().decode()
    changed = change(text)
    assert changed != text
    assert problem in str(refused(changed.encode("utf-8", "surrogateescape")))


def test_collects_every_problem_before_refusing() -> None:
    text = LOCK.to_bytes().decode()
    text = text.replace("number = 1", "number = -1").replace('kind = "file"', 'kind = "x"')
    error = refused(text.encode())
    assert len(error.problems) == 2
    assert error.hint is not None


def test_refuses_a_digest_without_manifests() -> None:
    lock = Lock("r", 1, (LINUX_AMD64,), (dataclasses.replace(IMAGE, manifests={}),), (), ())
    assert "it has a digest but no manifests" in str(refused(lock.to_bytes()))


def test_an_image_named_by_its_digest_is_unresolved_until_its_manifests_are_known() -> None:
    name = f"gcr.io/example/activator@sha256:{'a' * 64}"
    reference = ImageReference.parse(name)
    bare = LockedImage(reference, reference.digest, "", {}, 0, ("shop",), ("shop: sells",))
    lock = Lock("r", 1, (LINUX_AMD64,), (bare,), (), ())
    assert Lock.parse(lock.to_bytes()) == lock
    assert lock.unresolved() == (name,)


def test_refuses_a_lock_of_unreasonable_size() -> None:
    assert "is over" in str(refused(b"#" * (MAX_LOCK_BYTES + 1)))


def test_toml_is_written_so_that_it_reads_back() -> None:
    assert toml_string('a"b\\c\n\x7fü') == '"a\\"b\\\\c\\n\\u007Fü"'
    assert toml_value(True) == "true"
    assert toml_value(False) == "false"
    assert toml_value(3) == "3"
    assert toml_value([]) == "[]"
    assert toml_value(["a"]) == '[\n  "a",\n]'
    assert toml_table("[x]", {"a": "b"}) == '[x]\na = "b"\n'
    assert toml_table("", {"a": 1}) == "a = 1\n"


BUILT = dataclasses.replace(
    IMAGE,
    origin=ImageOrigin.GO_BUILD,
    built=GoBuild(
        D, "go1.26.8", ImageReference.parse("docker.io/library/busybox:1").with_digest(D)
    ),
)


def test_where_an_image_was_found_and_what_it_was_built_from_come_back() -> None:
    found = dataclasses.replace(OTHER, found_at=ImageReference.parse("mirror.example/a/b:1"))
    assert str(found.place) == "mirror.example/a/b:1"
    lock = Lock("2026.11", 1, (LINUX_AMD64,), (BUILT, found), (), ())
    assert Lock.parse(lock.to_bytes()) == lock
    on_nothing = dataclasses.replace(BUILT, built=GoBuild(D, "go1.26.8"))
    lock = Lock("2026.11", 1, (LINUX_AMD64,), (on_nothing,), (), ())
    assert Lock.parse(lock.to_bytes()) == lock


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"go-build"', '"docker-archive"', "recipe, toolchain and base belong to origin go-build"),
        ('toolchain = "go1.26.8"', 'toolchain = "gcc"', "'gcc' is no version of Go"),
        (f"busybox:1@{D}", "busybox:1", "its base has no digest"),
        ('origin = "go-build"', 'origin = "go-build"\nfound_at = "a.example/b:1"', "found nowhere"),
        (f'recipe = "{D}"\n', "", "recipe must be a string"),
    ],
)
def test_contradictions_about_compiled_images_are_refused(old: str, new: str, reason: str) -> None:
    text = Lock("2026.11", 1, (LINUX_AMD64,), (BUILT,), (), ()).to_bytes().decode()
    assert old in text
    problems = refused(text.replace(old, new).encode()).problems
    assert any(reason in problem for problem in problems), problems


INSIDE = LockedDependency(
    *("charts/bank-1.0.0.tgz", "bank", "1.0.0", "1.x", "https://b", "https://b/bank.tgz", D, 4)
)
TWICE = dataclasses.replace(INSIDE, asked=">=1")
FULL = dataclasses.replace(CHART, upstream=D, dependencies=(INSIDE, TWICE))


def with_chart(chart: LockedChart) -> Lock:
    return dataclasses.replace(LOCK, charts=(chart,))


def test_a_chart_comes_back_with_what_was_put_into_it() -> None:
    git = dataclasses.replace(FULL, source=f"git+https://x/y@{COMMIT}#charts/a", upstream=None)
    for chart in (FULL, git):
        assert chart.is_packed_here
        lock = with_chart(chart)
        assert Lock.parse(lock.to_bytes()) == lock
        turned = dataclasses.replace(chart, dependencies=chart.dependencies[::-1])
        assert with_chart(turned).to_bytes() == lock.to_bytes()
    assert not CHART.is_packed_here


@pytest.mark.parametrize(
    ("chart", "problem"),
    [
        (dataclasses.replace(FULL, upstream=None), "upstream belongs to a chart"),
        (dataclasses.replace(CHART, upstream=D), "upstream belongs to a chart"),
        (dataclasses.replace(FULL, digest=None), "it has dependencies but no digest"),
        (dataclasses.replace(FULL, dependencies=(INSIDE, INSIDE)), "stands there twice"),
        (
            dataclasses.replace(
                FULL, dependencies=(dataclasses.replace(INSIDE, place="charts/../../x"),)
            ),
            "is no place of a chart in a chart",
        ),
    ],
)
def test_refuses_a_chart_that_contradicts_itself(chart: LockedChart, problem: str) -> None:
    assert problem in str(refused(with_chart(chart).to_bytes()))
