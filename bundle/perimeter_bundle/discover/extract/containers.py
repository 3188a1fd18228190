"""Containers of every workload and template, and volumes that are images.

A container is known by the list it stands in (`containers`), by its parent's key (`container`) or
by having the fields of one; so templates in custom resources and ConfigMaps need no rule of their
own.
"""

from __future__ import annotations

from perimeter_bundle.discover.extract.note import note
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.meaning import Meaning
from perimeter_bundle.discover.spots import Spot
from perimeter_bundle.discover.words import Position, word_set, words

_FIELDS = word_set(
    "command args env envFrom ports volumeMounts volumeDevices livenessProbe readinessProbe",
    "startupProbe lifecycle workingDir terminationMessagePath resources script stdin tty",
)

_OTHER_PARTS = frozenset({"repository", "registry", "hub"})


def containers(spot: Spot, findings: Findings) -> set[str]:
    """``image`` of a container: a bare name is complete there."""
    node = spot.table
    image = node.get("image")
    if not isinstance(image, str) or not image or not is_container(spot):
        return set()
    note(findings, image, Position.CONTAINER, spot.child("image").place(), "container-image")
    return {"image"}


def container_like(spot: Spot, findings: Findings) -> set[str]:
    """``image`` beside a name and the fields of a container, in no list of containers.

    Asked after split fields: in values of charts such a name is completed by others.
    """
    node = spot.table
    image = node.get("image")
    if not isinstance(image, str) or not image or "name" not in node or not _FIELDS & node.keys():
        return set()
    place = spot.child("image").place()
    note(findings, image, Position.CONTAINER, place, "container-like-image")
    return {"image"}


def image_volumes(spot: Spot, findings: Findings) -> set[str]:
    """``volumes[].image.reference``: an image mounted as a volume.

    https://kubernetes.io/docs/concepts/storage/volumes/#image
    """
    node = spot.table
    reference = node.get("reference")
    if spot.key != "image" or not isinstance(reference, str) or not reference:
        return set()
    note(findings, reference, Position.CONTAINER, spot.child("reference").place(), "image-volume")
    return {"reference"}


def is_container(spot: Spot) -> bool:
    """Whether the mapping stands where containers stand, and its image is whole."""
    if not _OTHER_PARTS.isdisjoint(spot.table):
        return False  # the image is split over fields, whatever the parent is called
    if spot.meaning is Meaning.CONTAINER:
        return True
    if isinstance(spot.key, int) and spot.parent is not None:
        key = spot.parent.key
        return isinstance(key, str) and words(key)[-1:] in (("containers",), ("sidecars",))
    return isinstance(spot.key, str) and words(spot.key)[-1:] == ("container",)
