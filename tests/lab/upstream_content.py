"""What the upstream has to give: images out of an OCI layout, static files, and wheels."""

from __future__ import annotations

import hashlib
import html
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REFERENCE_NAME = "org.opencontainers.image.ref.name"
INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFEST_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
WHEELS_HOST = "wheels.upstream.test"


@dataclass(frozen=True, slots=True)
class Manifest:
    digest: str
    media_type: str


@dataclass(slots=True)
class Repository:
    """One repository: its tags, its manifests, and the blobs that belong to it."""

    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


class RegistryContent:
    """Repositories by host and name, read from an OCI layout; read again when it changes."""

    def __init__(self, layout: Path) -> None:
        self.layout = layout
        self._lock = threading.Lock()
        self._seen = -1
        self._repositories: dict[tuple[str, str], Repository] = {}

    def repository(self, host: str, name: str) -> Repository | None:
        return self._current().get((host, name))

    def hosts(self) -> set[str]:
        return {host for host, _ in self._current()}

    def blob_path(self, digest: str) -> Path | None:
        """The file of a blob, whatever repository it belongs to; None where it is not kept."""
        if not re.fullmatch(r"sha(256|512):[0-9a-f]{64,128}", digest):
            return None
        path = self.layout / "blobs" / digest.replace(":", "/", 1)
        return path if path.is_file() else None

    def media_type(self, digest: str) -> str:
        """Media type of a manifest that no descriptor names."""
        path = self.blob_path(digest)
        document = json.loads(path.read_bytes()) if path else {}
        guess = INDEX_TYPES if "manifests" in document else MANIFEST_TYPES
        return str(document.get("mediaType") or next(t for t in guess if "oci" in t))

    def _current(self) -> dict[tuple[str, str], Repository]:
        index = self.layout / "index.json"
        with self._lock:
            stamp = index.stat().st_mtime_ns
            if stamp != self._seen:
                self._repositories = self._read(json.loads(index.read_bytes()))
                self._seen = stamp
            return self._repositories

    def _read(self, index: dict[str, Any]) -> dict[tuple[str, str], Repository]:
        found: dict[tuple[str, str], Repository] = {}
        for descriptor in index["manifests"]:
            reference = descriptor.get("annotations", {}).get(REFERENCE_NAME)
            if reference is None:
                continue
            host, name, tag = split_reference(reference)
            repository = found.setdefault((host, name), Repository())
            if tag:
                repository.tags[tag] = descriptor["digest"]
            self._add(repository, descriptor)
        return found

    def _add(self, repository: Repository, descriptor: dict[str, Any]) -> None:
        """Note a manifest with all it refers to; what the layout lacks stays unknown."""
        digest = descriptor["digest"]
        path = self.blob_path(digest)
        if path is None or digest in repository.manifests:
            return
        document = json.loads(path.read_bytes())
        media_type = descriptor.get("mediaType") or document.get("mediaType", "")
        repository.manifests[digest] = Manifest(digest, media_type)
        for child in document.get("manifests", []):
            self._add(repository, child)
        parts = [document["config"]] if "config" in document else []
        repository.blobs.update(part["digest"] for part in parts + document.get("layers", []))


def split_reference(reference: str) -> tuple[str, str, str]:
    """Host, repository and tag of a full reference; the tag is empty where there is none."""
    name, _, _ = reference.partition("@")
    host, _, path = name.partition("/")
    head, colon, tag = path.rpartition(":")
    path, tag = (head, tag) if colon and "/" not in tag else (path, "")
    if host == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return host, path, tag


def static_file(files: Path, host: str, path: str) -> Path | None:
    """The file a host serves at a path; None where there is none or the path leaves the folder."""
    root = (files / host).resolve()
    wanted = (root / path.lstrip("/")).resolve()
    inside = root.parent == files.resolve() and wanted.is_relative_to(root)
    if not inside or not root.is_dir():
        return None
    if wanted.is_dir():
        wanted /= "index.html"
    return wanted if wanted.is_file() else None


class WheelIndex:
    """A simple package index (PEP 503) over folders of wheels."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._sums: dict[tuple[str, int, int], str] = {}

    def wheels(self) -> dict[str, list[Path]]:
        """Wheels by normalised project name."""
        found: dict[str, list[Path]] = {}
        for folder in self._folders:
            for path in sorted(folder.rglob("*.whl")) + sorted(folder.rglob("*.tar.gz")):
                name = re.sub(r"-\d.*$", "", path.name)
                found.setdefault(normalise(name), []).append(path)
        return found

    def file(self, name: str) -> Path | None:
        paths = [path for paths in self.wheels().values() for path in paths]
        return next((path for path in paths if path.name == name), None)

    def page(self, project: str | None) -> str | None:
        """The page of a project, or of all projects; None where there is no such project."""
        wheels = self.wheels()
        if project is None:
            links = [f'<a href="/simple/{name}/">{name}</a>' for name in sorted(wheels)]
        elif (paths := wheels.get(normalise(project))) is not None:
            links = [
                f'<a href="/files/{p.name}#sha256={self._sha256(p)}">{html.escape(p.name)}</a>'
                for p in paths
            ]
        else:
            return None
        return "<!DOCTYPE html>\n<html><body>\n" + "<br>\n".join(links) + "\n</body></html>\n"

    def _sha256(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in self._sums:
            with path.open("rb") as stream:
                self._sums[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._sums[key]


def normalise(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()
