"""What a delta leaves out, in one replica: is all of it there, and linked to where it is needed.

1. Before anything is sent, every replica is asked for every blob of base.json: in the repository in
   which the inventory had found it, and in those that need it.
2. A blob that is there is linked into the repositories that need it; its bytes do not move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perimeter_bundle.format.base import Base, LeftOut
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, PerimeterError
from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.load import retry
from perimeter_installer.load.at_once import Lane, at_once
from perimeter_installer.load.content import Content
from perimeter_installer.load.registry import PushClient

MEND = (
    "bring the whole release; or run perimeter-install inventory here, and at the builder"
    " perimeter-bundle build --against it"
)


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """What one replica lacks of a base, or why it could not be asked."""

    replica: str
    missing: tuple[LeftOut, ...] = ()
    error: PerimeterError | None = None


def missing_base(client: PushClient, base: Base, content: Content) -> tuple[LeftOut, ...]:
    """What the replica lacks of the base; a blob of another size counts as missing."""
    needs = _names(content)

    def is_there(blob: LeftOut) -> bool:
        places = dict.fromkeys((blob.repository, *needs.get(blob.digest, ())))
        return any(_holds(client, name, blob) for name in places)

    found = at_once(client, is_there, Lane(retry.CHECKS_AT_ONCE, base.blobs))
    return tuple(blob for blob, there in zip(base.blobs, found, strict=True) if not there)


def link_base(client: PushClient, base: Base, content: Content) -> int:
    """Links every blob of the base into the repositories that need it; how many links were made.

    Raises HostError[base-not-linked] when the registry links nothing.
    """
    needs = _names(content)

    def link(blob: LeftOut) -> int:
        names = needs.get(blob.digest, ())
        lacking = [name for name in names if not _holds(client, name, blob)]
        sources = [blob.repository, *(name for name in names if name not in lacking)]
        for name in lacking:
            if not any(client.mount_blob(name, blob.digest, source) for source in sources):
                raise HostError(
                    "base-not-linked",
                    f"{client.endpoint.name} holds {blob.digest}, and does not link it to {name}",
                    hint="this registry takes no cross-repository mounts: bring the whole release",
                )
        return len(lacking)

    return sum(at_once(client, link, Lane(retry.CHECKS_AT_ONCE, base.blobs)))


def refuse_missing_base(
    base: Base, missing: Sequence[tuple[str, tuple[LeftOut, ...]]], release: str
) -> None:
    """Raises HostError[base-missing] that names each blob, who needs it, and where it is missing.

    ``missing`` says for each replica what it lacks.
    """
    lacking: dict[LeftOut, list[str]] = {}
    for replica, blobs in missing:
        for blob in blobs:
            lacking.setdefault(blob, []).append(replica)
    if not lacking:
        return
    total = sum(blob.size_bytes for blob in lacking)
    raise HostError(
        "base-missing",
        f"release {release} is a delta here, and the site's registry lacks {len(lacking)} blobs"
        f" ({human_bytes(total)}) that it counts on; nothing was sent",
        problems=[f"not on {', '.join(lacking[blob])}: {told(blob)}" for blob in by_item(lacking)],
        context={"built against": base.about, "inventory": base.inventory},
        hint=MEND,
    )


def told(blob: LeftOut) -> str:
    """A blob for messages: digest, size, and the images and files that need it."""
    return f"{blob.digest}, {human_bytes(blob.size_bytes)}, of {', '.join(blob.items)}"


def by_item(blobs: Iterable[LeftOut]) -> list[LeftOut]:
    """In the order of what needs them."""
    return sorted(blobs, key=lambda one: (one.items, one.digest))


def _names(content: Content) -> Mapping[Digest, tuple[str, ...]]:
    return {need.digest: need.names for need in content.blobs}


def _holds(client: PushClient, name: str, blob: LeftOut) -> bool:
    return client.head_blob(name, blob.digest) in (blob.size_bytes, -1)
