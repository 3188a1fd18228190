"""Which manifest runs where."""

from __future__ import annotations

import pytest

from perimeter_bundle.format.oci import OCI_MANIFEST, Descriptor
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.registry.choose import choose_manifest, platforms_of


def entry(platform: str, number: int = 0) -> Descriptor:
    digest = Digest.of_bytes(f"{platform} {number}".encode())
    return Descriptor(OCI_MANIFEST, digest, 1, Platform.parse(platform))


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3"], "linux/amd64", None),
        (["linux/amd64/v1"], "linux/amd64", "linux/amd64/v1"),
        (["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", "linux/amd64/v2"),
        (["linux/amd64"], "linux/amd64/v3", "linux/amd64"),
        (["linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm64"], "linux/arm64/v8", "linux/arm64"),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm", "linux/arm/v6"),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["windows/amd64"], "linux/amd64", None),
        (["unknown/unknown"], "linux/amd64", None),
        ([], "linux/amd64", None),
    ],
)
def test_takes_the_best_that_runs_and_nothing_else(
    offered: list[str], wanted: str, chosen: str | None
) -> None:
    found = choose_manifest([entry(text) for text in offered], Platform.parse(wanted))
    assert (str(found.platform) if found else None) == chosen


def test_the_first_of_equals_wins() -> None:
    first, second = entry("linux/amd64", 1), entry("linux/amd64", 2)
    assert choose_manifest([first, second], Platform.parse("linux/amd64")) == first


def test_attestations_are_no_platform() -> None:
    entries = [entry("unknown/unknown"), entry("linux/arm64"), entry("linux/amd64")]
    assert [str(platform) for platform in platforms_of(entries)] == ["linux/amd64", "linux/arm64"]
