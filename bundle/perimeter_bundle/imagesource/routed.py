"""Several places that images come from, as one: each name is asked of the place that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from perimeter_bundle.format.oci import Descriptor
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.manifests import FetchedManifest
from perimeter_bundle.registry.resolve import ImageSource, Registries, Resolved
from perimeter_bundle.registry.transfer import Verified


class RoutedImages:
    """``local`` answers for its own names, ``registries`` for all others."""

    def __init__(self, registries: Registries, local: Mapping[ImageReference, ImageSource]) -> None:
        self._registries = registries
        self._local = local

    def resolve(self, reference: ImageReference, platforms: Sequence[Platform]) -> Resolved:
        """As the place of this name answers."""
        return self._of(reference).resolve(reference, platforms)

    def fetch_manifest(
        self, reference: ImageReference, digest: Digest | None = None
    ) -> FetchedManifest:
        """As the place of this name answers."""
        return self._of(reference).fetch_manifest(reference, digest)

    def fetch_small_blob(
        self, reference: ImageReference, descriptor: Descriptor, limit_bytes: int
    ) -> bytes:
        """As the place of this name answers."""
        return self._of(reference).fetch_small_blob(reference, descriptor, limit_bytes)

    def fetch_blob(
        self,
        reference: ImageReference,
        descriptor: Descriptor,
        target: Path,
        on_event: OnEvent | None = None,
        *,
        verified: Verified | None = None,
    ) -> int:
        """As the place of this name answers."""
        source = self._of(reference)
        return source.fetch_blob(reference, descriptor, target, on_event, verified=verified)

    def list_tags(self, reference: ImageReference) -> frozenset[str]:
        """Of the repository in its registry; what lies on the builder is in no list."""
        return self._registries.list_tags(reference)

    def _of(self, reference: ImageReference) -> ImageSource:
        return self._local.get(reference.without_digest(), self._registries)
