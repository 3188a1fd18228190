"""What a registry must hold for a bundle; pure, reads through the functions it is given.

Each blob with the repositories that need it, and every manifest in an order in which a registry
accepts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from perimeter_bundle.format.manifest import BundleItem
from perimeter_bundle.format.oci import OciIndex, parse_manifest
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError

ReadBlob = Callable[[Digest], bytes]
HasBlob = Callable[[Digest], bool]


@dataclass(frozen=True, slots=True)
class BlobNeed:
    """A blob and every repository name in which it must be found."""

    digest: Digest
    size_bytes: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ManifestNeed:
    """A manifest or index under a tag or under its digest."""

    name: str  # host and repository: quay.io/minio/minio
    reference: str  # tag, or the digest itself
    digest: Digest
    media_type: str
    depth: int  # 0: needs only blobs; an index needs what is below it
    sparse: bool = False  # an index of which the bundle carries some platforms only
    instead: Digest | None = (
        None  # sparse: the manifest a tag may stand for if the index is refused
    )

    @property
    def is_named(self) -> bool:
        """Whether people know it by this reference; others are parts of an index."""
        return self.reference != str(self.digest)

    def __str__(self) -> str:
        return f"{self.name}{':' if self.is_named else '@'}{self.reference}"


@dataclass(frozen=True, slots=True)
class Content:
    """Everything one replica must hold: blobs biggest first, manifests before their indexes."""

    blobs: tuple[BlobNeed, ...]
    manifests: tuple[ManifestNeed, ...]
    names: tuple[ManifestNeed, ...]  # what must resolve at the end, one for each item

    @property
    def total_bytes(self) -> int:
        """Bytes of all blobs, each counted once."""
        return sum(blob.size_bytes for blob in self.blobs)


def content_of(items: Iterable[BundleItem], read: ReadBlob, has: HasBlob) -> Content:
    """The content of every item that is an OCI artifact; raises IntegrityError[blob-missing]."""
    gathering = _Gathering(read, has)
    for item in items:
        if item.kind.in_index:
            gathering.add(item)
    blobs = [
        BlobNeed(digest, gathering.sizes[digest], tuple(sorted(names)))
        for digest, names in gathering.blobs.items()
    ]
    return Content(
        blobs=tuple(sorted(blobs, key=lambda blob: (-blob.size_bytes, blob.digest))),
        manifests=tuple(
            sorted(gathering.manifests.values(), key=lambda need: (need.depth, str(need)))
        ),
        names=tuple(sorted(gathering.names, key=str)),
    )


class _Gathering:
    """Walks manifests downwards and notes each thing once."""

    def __init__(self, read: ReadBlob, has: HasBlob) -> None:
        self._read = read
        self._has = has
        self.blobs: dict[Digest, set[str]] = {}
        self.sizes: dict[Digest, int] = {}
        self.manifests: dict[tuple[str, str], ManifestNeed] = {}
        self.names: list[ManifestNeed] = []

    def add(self, item: BundleItem) -> None:
        reference = item.reference
        top = self._walk(reference.name, item.digest, item.name)
        need = ManifestNeed(
            name=reference.name,
            reference=reference.tag or str(item.digest),
            digest=item.digest,
            media_type=top.media_type,
            depth=top.depth,
            sparse=top.sparse,
            instead=item.payload if top.sparse and reference.tag else None,
        )
        if reference.tag:  # stored by tag it is there by digest, too
            self.manifests.pop((reference.name, str(item.digest)), None)
        self.manifests[need.name, need.reference] = need
        self.names.append(need)

    def _walk(self, name: str, digest: Digest, item_name: str) -> ManifestNeed:
        key = (name, str(digest))
        if not self._has(digest):
            raise IntegrityError(
                "blob-missing",
                f"{item_name} needs {digest}, which the bundle lacks",
                hint="the bundle was built wrongly; build it again",
            )
        parsed = parse_manifest(self._read(digest))
        depth, sparse = 0, False
        if isinstance(parsed, OciIndex):
            here = [child for child in parsed.manifests if self._has(child.digest)]
            sparse = len(here) < len(parsed.manifests)
            below = [self._walk(name, child.digest, item_name) for child in here]
            depth = 1 + max((child.depth for child in below), default=0)
        else:
            for blob in parsed.descriptors:
                self.blobs.setdefault(blob.digest, set()).add(name)
                self.sizes[blob.digest] = blob.size_bytes
        need = ManifestNeed(name, str(digest), digest, parsed.media_type, depth, sparse)
        self.manifests[key] = need
        return need
