"""What the go command says when it fails: whose problem it is. Its own words."""

from __future__ import annotations

import pytest

from perimeter_bundle.gobuild.buildinfo import parse_build_info
from perimeter_bundle.gobuild.failures import judge
from perimeter_bundle.model.errors import IntegrityError


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("go: writing stat cache: write /w/x: no space left on device", "no-room"),
        ("compile: writing output: write $WORK/b003/_pkg_.a: no space left on device", "no-room"),
        (
            "verifying example.org/a@v1.0.0: checksum mismatch\n\tdownloaded: h1:x\n"
            "\tgo.sum:     h1:y\n\nSECURITY ERROR",
            "sum-mismatch",
        ),
        (
            "go: go.mod requires go >= 1.99 (running go 1.26.8; GOTOOLCHAIN=local)",
            "go-too-old",
        ),
        ("main.go:4:2: missing go.sum entry for module providing package a/b", "not-pinned"),
        ("go: updates to go.mod needed; to update it:\n\tgo mod tidy", "not-pinned"),
        (
            'go: a@v1: Get "https://p.example/a/@v/v1.info": dial tcp 127.0.0.1:9: connect: '
            "connection refused",
            "module-unreachable",
        ),
        (
            'go: a@v1: verifying module: Get "https://sum.example/": dial tcp: lookup sum.example:'
            " no such host",
            "module-unreachable",
        ),
        ("go: a@v1: reading https://p.example/a/@v/v1.info: 404 Not Found", "module-missing"),
        ("# example.org/hello\n./main.go:8:9: undefined: greet", "does-not-compile"),
    ],
)
def test_each_failure_has_its_own_code(said: str, code: str) -> None:
    error = judge(said, "compiling x", fetching=False)
    assert error.code == code
    assert error.message.startswith("compiling x: ")
    assert error.problems


def test_what_is_not_understood_while_fetching_is_a_missing_module() -> None:
    assert judge("go: nobody knows", "fetching x", fetching=True).code == "module-missing"


def test_build_info_is_read_as_go_prints_it() -> None:
    info = parse_build_info(
        "/w/program: go1.26.8\n"
        "\tpath\texample.org/hello\n"
        "\tmod\texample.org/hello\t(devel)\t\n"
        "\tdep\texample.org/b\tv1.0.0\th1:b\n"
        "\tdep\texample.org/a\tv1.0.0\n"
        "\t=>\texample.org/fork\tv1.1.0\th1:f\n"
        "\tbuild\t-trimpath=true\n"
        "\tbuild\tCGO_ENABLED=0\n"
    )
    assert info.toolchain == "go1.26.8"
    assert [(m.path, m.version, m.sum) for m in info.modules] == [
        ("example.org/b", "v1.0.0", "h1:b"),
        ("example.org/fork", "v1.1.0", "h1:f"),
    ]
    assert info.settings == (("-trimpath", "true"), ("CGO_ENABLED", "0"))


def test_a_program_without_build_info_is_refused() -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_build_info("/w/program: go1.26.8\n")
    assert caught.value.code == "no-build-info"
