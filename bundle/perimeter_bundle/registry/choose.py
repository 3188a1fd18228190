"""Which manifest of an index runs on a platform; the rules of containerd, but never a guess.

https://github.com/containerd/platforms/blob/v1.0.0/database.go
https://github.com/containerd/platforms/blob/v1.0.0/compare.go
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perimeter_bundle.format.oci import Descriptor
from perimeter_bundle.model.platform import Platform

# What a platform without a variant means, and which older variants the same processor runs.
# amd64 without a variant is v1: an image for v3 stops with "illegal instruction" on some servers.
_MEANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_RUNS_TOO = {
    ("arm", "v8"): ("v7", "v6", "v5"),
    ("arm", "v7"): ("v6", "v5"),
    ("arm", "v6"): ("v5",),
    ("amd64", "v4"): ("v3", "v2", "v1"),
    ("amd64", "v3"): ("v2", "v1"),
    ("amd64", "v2"): ("v1",),
}


def choose_manifest(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The entry that runs best where ``wanted`` is asked for; None when none runs there.

    An entry that says exactly the same wins, then the same meaning, then older variants.
    """
    for acceptable in _acceptable(wanted):
        for entry in entries:
            if entry.platform == acceptable and (entry.is_manifest or entry.is_index):
                return entry
    return None


def runs_on(built_for: Platform, wanted: Platform) -> bool:
    """Whether an image without an index, built for one platform, runs on another."""
    return built_for in _acceptable(wanted)


def platforms_of(entries: Iterable[Descriptor]) -> tuple[Platform, ...]:
    """The platforms an index offers, sorted; attestations (``unknown/unknown``) are none."""
    found = {entry.platform for entry in entries if entry.platform}
    return tuple(sorted(platform for platform in found if platform.os != "unknown"))


def _acceptable(wanted: Platform) -> tuple[Platform, ...]:
    os, architecture = wanted.os, wanted.architecture
    meant = _MEANT.get(architecture, "")
    variant = wanted.variant or meant
    order = [wanted.variant, variant]
    if variant == meant:
        order.append("")
    for older in _RUNS_TOO.get((architecture, variant), ()):
        order.append(older)
        if older == meant:
            order.append("")
    unique = dict.fromkeys(order)
    return tuple(Platform(os, architecture, variant) for variant in unique)
