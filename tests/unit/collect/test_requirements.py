"""Hashed requirement files and environment markers."""

from __future__ import annotations

import pytest

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.collect.requirements import evaluate_marker, parse_requirements
from perimeter_bundle.collect.wheelhouse import REQUIREMENT_FILES, wheel_tags
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.model.platform import LINUX_AMD64, Platform

HASH = "--hash=sha256:" + "ab" * 32


def test_reads_what_uv_writes() -> None:
    text = f"Six_.Seven==1.0 ; python_version < '3.12' \\\n    {HASH}\n    # via perimeter\n# end\n"
    (one,) = parse_requirements(text.encode(), "r.txt")
    assert (one.name, one.version, one.marker) == ("six-seven", "1.0", "python_version < '3.12'")
    assert one.to_line() == f"six-seven==1.0 {HASH}"
    assert one.applies("3.11", "x86_64")
    assert not one.applies("3.12", "x86_64")


@pytest.mark.parametrize("name", [*REQUIREMENT_FILES, "bundle.txt", "dev.txt"])
def test_the_requirement_files_of_this_repository_are_hashed_and_name_no_index(name: str) -> None:
    data = (content_root() / "requirements" / name).read_bytes()
    assert parse_requirements(data, name)
    assert b"://" not in data


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "six==1.0",
        f"six>=1.0 {HASH}",
        f"six @ https://example.org/six.whl {HASH}",
        "--index-url https://example.org/simple",
        "-r other.txt",
        f"six==1.0 {HASH} --global-option=x",
        f"six==1.0 ; python_version < '3.12' or __import__('os') {HASH}",
        f"six==1.0 ; unknown_thing == 'x' {HASH}",
    ],
)
def test_refuses_what_is_not_pinned_and_hashed(line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_requirements(f"good==1 {HASH}\n{line}\n".encode(), "r.txt")
    assert caught.value.code == "bad-requirements"
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("entry 2: ")


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("sys_platform == 'win32'", False),
        ("platform_python_implementation != 'PyPy'", True),
        ("python_full_version >= '3.11.4' and python_full_version < '3.13'", True),
        ("python_version == '3.12'", False),
        ("python_version <= '3.9' or platform_machine in 'x86_64 aarch64'", True),
        ("platform_machine not in 'x86_64'", False),
        ("'3.10' < python_version", True),
    ],
)
def test_markers_are_judged_for_the_jump_host(marker: str, holds: bool) -> None:
    environment = {
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "python_version": "3.11",
        "python_full_version": "3.11.99",
        "platform_machine": "x86_64",
    }
    assert evaluate_marker(marker, environment) is holds


def test_wheels_run_on_the_oldest_supported_c_library() -> None:
    tags = wheel_tags(LINUX_AMD64)
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux1_x86_64"} <= set(tags)
    assert "manylinux1_aarch64" not in wheel_tags(Platform("linux", "arm64"))


def test_a_jump_host_without_wheels_is_a_clear_error() -> None:
    with pytest.raises(HostError) as caught:
        wheel_tags(Platform("linux", "s390x"))
    assert caught.value.code == "no-wheels"
