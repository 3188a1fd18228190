"""What a load did, or with --check would do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One replica: what was sent, what was there, what is still missing (check only)."""

    name: str
    url: str
    names: int  # images, charts and files that were looked at
    blobs_sent: int = 0
    blobs_mounted: int = 0
    blobs_present: int = 0
    bytes_sent: int = 0
    manifests_stored: int = 0
    missing: tuple[str, ...] = ()  # names that do not resolve to the bundle's digest
    missing_bytes: int = 0
    without_index: tuple[str, ...] = ()  # tags that stand for one platform: index was refused

    @property
    def changed(self) -> bool:
        """Whether anything was sent."""
        return bool(self.blobs_sent or self.blobs_mounted or self.manifests_stored)

    @property
    def complete(self) -> bool:
        """Whether every name resolves."""
        return not self.missing

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        return {
            "name": self.name,
            "url": self.url,
            "changed": self.changed,
            "complete": self.complete,
            "names": self.names,
            "blobs_sent": self.blobs_sent,
            "blobs_mounted": self.blobs_mounted,
            "blobs_present": self.blobs_present,
            "bytes_sent": self.bytes_sent,
            "manifests_stored": self.manifests_stored,
            "missing": list(self.missing),
            "missing_bytes": self.missing_bytes,
            "without_index": list(self.without_index),
        }


@dataclass(frozen=True, slots=True)
class LoadReport:
    """All replicas of a site."""

    release: str
    check: bool
    replicas: tuple[ReplicaReport, ...]

    @property
    def changed(self) -> bool:
        """Whether any replica was sent anything."""
        return any(replica.changed for replica in self.replicas)

    @property
    def complete(self) -> bool:
        """Whether every replica holds everything."""
        return all(replica.complete for replica in self.replicas)

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        return {
            "release": self.release,
            "check": self.check,
            "changed": self.changed,
            "complete": self.complete,
            "pushed_blobs": sum(one.blobs_sent + one.blobs_mounted for one in self.replicas),
            "skipped_blobs": sum(one.blobs_present for one in self.replicas),
            "replicas": [replica.to_dict() for replica in self.replicas],
        }
