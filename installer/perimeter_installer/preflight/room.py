"""Checks of room: what must fit on each file system of a host, against what is free there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.checks import ERROR, WARNING, Judge, Remark, Subject
from perimeter_installer.preflight.facts import Disc

NETWORK_KINDS = {"nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "glusterfs"}
MEMORY_KINDS = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What will be written below ``path``; ``may_grow``: later, and perhaps never in full."""

    path: str
    size_bytes: int
    what: str
    may_grow: bool = False


def claims(subject: Subject) -> list[Claim]:
    """Everything that will be written on this host."""
    host, site, need = subject.host, subject.site, subject.need
    found = [Claim("/", wanted.ROOT_BYTES, "programs and logs")]
    if host.is_node:
        found.append(Claim(wanted.CONTAINERD_DIR, need.node_bytes, "images"))
    if "control_plane" in host.groups:
        found.append(Claim(wanted.ETCD_DIR, wanted.ETCD_BYTES, "etcd"))
    if "registry" in host.groups and site.registry.mode == "embedded":
        rest = max(0, need.registry_bytes - subject.facts.registry_bytes)
        found.append(Claim(site.registry.data_dir, rest, "the registry"))
    if "worker" in host.groups and site.minio.replicas:
        found.append(
            Claim(site.storage.path, site.minio.node_bytes, "volumes of MinIO", may_grow=True)
        )
    return found


def room(subject: Subject) -> Iterator[Remark]:
    """Claims are added up for each file system, however many paths lie on it."""
    for disc, listed in _by_disc(subject).items():
        if subject.ours:
            yield from _still_room(disc)
            continue
        surely = sum(claim.size_bytes for claim in listed if not claim.may_grow)
        perhaps = sum(claim.size_bytes for claim in listed)
        told = ", ".join(
            f"{claim.what} {human_bytes(claim.size_bytes)}" for claim in listed if claim.size_bytes
        )
        if surely > disc.free_bytes:
            yield Remark(
                ERROR,
                f"{disc.mount}: {human_bytes(disc.free_bytes)} free, {human_bytes(surely)} needed",
                f"there go {told}",
                "make room, or mount a larger disc there",
            )
        elif perhaps > disc.free_bytes:
            yield Remark(
                WARNING,
                f"{disc.mount}: {human_bytes(disc.free_bytes)} free,"
                f" {human_bytes(perhaps)} promised",
                f"there go {told}; volumes grow until the disc is full, and the node fails then",
                "make minio.volume_size smaller, or mount a larger disc there",
            )
        elif disc.free_bytes - surely < disc.total_bytes * wanted.LEAST_FREE_SHARE:
            yield _little_left(disc, "after the installation")


def _still_room(disc: Disc) -> Iterator[Remark]:
    """The host is installed already: its room is spent, only the eviction threshold counts."""
    if disc.free_bytes < disc.total_bytes * wanted.LEAST_FREE_SHARE:
        yield _little_left(disc, "now")


def _little_left(disc: Disc, when: str) -> Remark:
    return Remark(
        WARNING,
        f"{disc.mount}: less than {wanted.LEAST_FREE_SHARE:.0%} of"
        f" {human_bytes(disc.total_bytes)} are free {when}",
        "the kubelet evicts pods from a node whose disc is that full",
        "make room, or mount a larger disc there",
    )


def inodes(subject: Subject) -> Iterator[Remark]:
    for disc in _by_disc(subject):
        if 0 <= disc.free_inodes < wanted.LEAST_INODES:
            yield Remark(
                ERROR,
                f"{disc.mount}: {disc.free_inodes} inodes free",
                "images are many small files; the disc is full when the inodes are",
                "remove small files, or make the file system anew with more inodes",
            )


def file_systems(subject: Subject) -> Iterator[Remark]:
    for claim in claims(subject):
        disc = subject.facts.disc_of(claim.path)
        if disc is None:
            continue
        if "ro" in disc.options:
            yield Remark(
                ERROR,
                f"{claim.path} is read-only ({disc.mount})",
                f"{claim.what} cannot be written",
                "mount it writable; after an error of the disc the kernel makes it read-only",
            )
        if disc.kind in MEMORY_KINDS and claim.path != "/":
            yield Remark(
                ERROR,
                f"{claim.path} is in memory ({disc.kind})",
                f"{claim.what} would be gone after a reboot",
                "put a disc there",
            )
        if claim.path == wanted.CONTAINERD_DIR and disc.kind == "overlay":
            yield Remark(
                ERROR,
                f"{claim.path} is itself an overlay",
                "containerd cannot put an overlay upon an overlay; no container starts",
                "mount an ext4 or xfs file system there",
            )
        if disc.kind in NETWORK_KINDS:
            yield Remark(
                ERROR if claim.path in (wanted.ETCD_DIR, wanted.CONTAINERD_DIR) else WARNING,
                f"{claim.path} is on a network ({disc.kind})",
                f"{claim.what} needs a disc of the host's own",
                "mount a local disc there",
            )


def _by_disc(subject: Subject) -> dict[Disc, list[Claim]]:
    """Claims by file system; one that is not known was reported by the check of facts."""
    discs: dict[int, Disc] = {}
    found: dict[Disc, list[Claim]] = {}
    for claim in claims(subject):
        disc = subject.facts.disc_of(claim.path)
        if disc is not None:
            first = discs.setdefault(disc.device, disc)
            found.setdefault(first, []).append(claim)
    return found


ROOM_CHECKS: dict[str, Judge] = {
    "room": room,
    "inodes": inodes,
    "file systems": file_systems,
}
