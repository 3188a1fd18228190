"""Digests, platforms, references, errors and events."""

from __future__ import annotations

import hashlib

import pytest

from perimeter_bundle.model.digest import Algorithm, Digest
from perimeter_bundle.model.errors import (
    ClusterError,
    ExitStatus,
    HostError,
    InputError,
    IntegrityError,
    NetworkError,
    PerimeterError,
    TrustError,
)
from perimeter_bundle.model.events import Event, EventKind, ignore_events
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_a_digest_is_its_text_and_its_parts() -> None:
    digest = Digest.parse(HELLO)
    assert str(digest) == HELLO
    assert digest.hex == HELLO[7:]
    assert digest.algorithm is Algorithm.SHA256
    assert Digest.of_bytes(b"hello") == digest


def test_sha512_digests_are_parsed_and_made() -> None:
    hasher = Digest.parse("sha512:" + "0" * 128).new_hasher()
    hasher.update(b"x")
    assert Digest.of_hasher(hasher).text == "sha512:" + hashlib.sha512(b"x").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        HELLO[7:],
        HELLO.upper(),
        HELLO[:-1],
        HELLO + "0",
        "md5:" + "0" * 32,
        "sha512:" + "0" * 64,
        "sha256:" + "g" * 64,
        HELLO + "\n",
        f" {HELLO}",
        "sha256:../" + "0" * 61,
    ],
)
def test_refuses_what_is_not_a_digest(text: str) -> None:
    with pytest.raises(InputError, match="not a digest") as caught:
        Digest.parse(text)
    assert caught.value.code == "bad-digest"
    assert caught.value.hint is not None


def test_platforms_print_as_they_are_written() -> None:
    assert str(Platform.parse("linux/amd64")) == "linux/amd64"
    assert str(Platform.parse("linux/arm64/v8")) == "linux/arm64/v8"
    assert Platform.parse("linux/amd64") == LINUX_AMD64


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "Linux/amd64", "a/b\n"]
)
def test_refuses_what_is_not_a_platform(text: str) -> None:
    with pytest.raises(InputError, match="not a platform") as caught:
        Platform.parse(text)
    assert caught.value.code == "bad-platform"


@pytest.mark.parametrize(
    ("built", "wanted", "serves"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm64", "linux/amd64", False),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_platform_serves_what_runs_on_it(built: str, wanted: str, serves: bool) -> None:
    assert Platform.parse(built).serves(Platform.parse(wanted)) is serves


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("rancher/k3s:v1", "docker.io/rancher/k3s:v1"),
        ("index.docker.io/library/busybox:1", "docker.io/library/busybox:1"),
        ("registry-1.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("quay.io/minio/minio:X", "quay.io/minio/minio:X"),
        ("localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("HOST/x:1", "HOST/x:1"),
        ("[::1]:5000/x/y:1", "[::1]:5000/x/y:1"),
        (f"quay.io/a/b@{HELLO}", f"quay.io/a/b@{HELLO}"),
        (f"quay.io/a/b:1@{HELLO}", f"quay.io/a/b:1@{HELLO}"),
    ],
)
def test_references_are_completed_as_runtimes_do(text: str, full: str) -> None:
    reference = ImageReference.parse(text)
    assert str(reference) == full
    assert ImageReference.parse(full) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "quay.io/",
        "quay.io/UPPER:1",
        "quay.io/a//b:1",
        "quay.io/../etc:1",
        "quay.io/a:",
        "quay.io/a:-x",
        "quay.io/a:" + "x" * 129,
        "quay.io/a b:1",
        "quay.io/a:1\n",
        "quay.io:port/a:1",
        "-bad.io/a:1",
        "quay.io/" + "a" * 250,
    ],
)
def test_refuses_what_is_not_a_reference(text: str) -> None:
    with pytest.raises(InputError, match="not an image reference") as caught:
        ImageReference.parse(text)
    assert caught.value.code == "bad-reference"


def test_refuses_a_reference_with_a_bad_digest() -> None:
    with pytest.raises(InputError, match="not a digest"):
        ImageReference.parse("quay.io/a/b@sha256:00")


def test_a_reference_is_pinned_and_unpinned() -> None:
    digest = Digest.parse(HELLO)
    tagged = ImageReference.parse("quay.io/a/b:1")
    assert str(tagged.with_digest(digest)) == f"quay.io/a/b:1@{HELLO}"
    assert tagged.with_digest(digest).without_digest() == tagged
    only_digest = ImageReference.parse(f"quay.io/a/b@{HELLO}")
    assert only_digest.without_digest() == only_digest
    assert tagged.name == "quay.io/a/b"


def test_an_error_says_what_was_expected_found_and_next() -> None:
    error = IntegrityError(
        "digest-mismatch",
        "refused quay.io/minio/minio",
        context={"expected": "a", "got": 3},
        problems=["one", "two"],
        hint="fetch it again",
    )
    assert str(error) == (
        "error[digest-mismatch]: refused quay.io/minio/minio\n"
        "  one\n  two\n  expected: a\n  got: 3\n  hint: fetch it again"
    )
    assert error.to_dict() == {
        "code": "digest-mismatch",
        "message": "refused quay.io/minio/minio",
        "context": {"expected": "a", "got": "3"},
        "problems": ["one", "two"],
        "hint": "fetch it again",
        "exit_status": 4,
    }
    assert str(PerimeterError("x", "plain")) == "error[x]: plain"


def test_lines_of_one_problem_stay_together() -> None:
    error = HostError("step-failed", "it failed", problems=["n1: first\nsecond", "n2: other"])
    assert str(error).splitlines()[1:] == ["  n1: first", "      second", "  n2: other"]


def test_each_kind_of_error_has_its_exit_status() -> None:
    kinds = {
        PerimeterError: ExitStatus.INTERNAL,
        InputError: ExitStatus.INPUT,
        NetworkError: ExitStatus.NETWORK,
        IntegrityError: ExitStatus.INTEGRITY,
        TrustError: ExitStatus.TRUST,
        HostError: ExitStatus.HOST,
        ClusterError: ExitStatus.CLUSTER,
    }
    assert {kind: kind("x", "y").exit_status for kind in kinds} == kinds


def test_an_event_leaves_out_what_is_not_known() -> None:
    event = Event(EventKind.PROGRESS, "sums", done_bytes=0, total_bytes=9)
    assert event.to_dict() == {
        "kind": "progress",
        "task": "sums",
        "done_bytes": 0,
        "total_bytes": 9,
    }
    ignore_events(event)
