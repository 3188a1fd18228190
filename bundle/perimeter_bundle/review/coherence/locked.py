"""What the lock shows about images: platforms, and manifests nobody should use any more."""

from __future__ import annotations

from collections.abc import Iterator

from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.review.coherence.values import Finding, Severity, Spot

# https://github.com/containerd/containerd/blob/main/docs/containerd-2.0.md: not pulled since 2.0
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)


def missing_platforms(lock: Lock) -> Iterator[Finding]:
    """Locked images that lack a platform of the release."""
    for image in lock.images:
        missing = [platform for platform in lock.platforms if platform not in image.manifests]
        if image.digest and missing:
            names = ", ".join(str(platform) for platform in missing)
            has = ", ".join(str(platform) for platform in sorted(image.manifests)) or "nothing"
            yield Finding(
                rule="missing-platform",
                subject=str(image.reference),
                severity=Severity.ERROR,
                title=f"{image.reference} is not there for {names}; it has {has}",
                why="a node of that architecture cannot start it: exec format error",
                spots=_spots(image),
                what_to_do="take a version that upstream builds for the platform, or leave the "
                "platform out of the release",
            )


def old_manifests(lock: Lock) -> Iterator[Finding]:
    """Images whose manifest is Docker's schema 1."""
    for image in lock.images:
        if image.media_type in _SCHEMA_1:
            yield Finding(
                rule="old-manifest",
                subject=str(image.reference),
                severity=Severity.ERROR,
                title=f"{image.reference} has a manifest of Docker's schema 1",
                why="containerd 2 does not pull it, and its layers have no fixed digests",
                spots=_spots(image),
                what_to_do="take a newer version, or push the image again with a current tool",
            )


def _spots(image: LockedImage) -> tuple[Spot, ...]:
    return tuple(Spot(name, "", "", str(image.reference)) for name in image.components)
