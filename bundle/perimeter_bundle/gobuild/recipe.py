"""Everything an image is made from, resolved, and the digest of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.catalog.built import BuiltImageSpec
from perimeter_bundle.format.oci import Descriptor
from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import GoBuild
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

# goes up when the same recipe would give other bytes
MAKER = "perimeter-go-image/1"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What an image stands on, for one platform."""

    layers: tuple[Descriptor, ...]
    config: Mapping[str, object]  # its OCI configuration


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image to be made: nothing of it is open any more."""

    spec: BuiltImageSpec
    toolchain: str
    base: ImageReference | None  # with its digest
    platforms: tuple[Platform, ...]

    @property
    def key(self) -> Digest:
        """The digest of everything the image depends on, but the bytes it is compiled to."""
        return Digest.of_bytes(dump_object(self.to_dict()))

    @property
    def go_build(self) -> GoBuild:
        """What the lock says of it."""
        return GoBuild(self.key, self.toolchain, self.base)

    def to_dict(self) -> dict[str, object]:
        """The recipe as its digest covers it, and as provenance tells it."""
        spec, go = self.spec, self.spec.go
        return {
            "maker": MAKER,
            "reference": str(spec.reference),
            "licence": spec.licence,
            "go": {
                "module": go.module,
                "version": go.version,
                "sum": go.sum,
                "package": go.package,
                "ldflags": list(go.ldflags),
                "tags": list(go.tags),
            },
            "toolchain": self.toolchain,
            "base": str(self.base or ""),
            "platforms": [str(platform) for platform in sorted(self.platforms)],
            "user": spec.user,
            "entrypoint": list(spec.entrypoint),
            "command": list(spec.command),
            "paths": list(spec.paths),
            "files": {path: str(Digest.of_bytes(data)) for path, data in spec.file_contents()},
        }
