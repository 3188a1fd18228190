"""Where a reference is looked for: the mirrors of its host in order, then the host itself."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from perimeter_bundle.model.reference import DOCKER_HUB, ImageReference
from perimeter_bundle.registry.settings import RegistrySettings

# Docker Hub's registry answers under another name than its references have
_REGISTRY_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository on one server."""

    base: str  # https://host/v2
    repository: str  # as this server names it
    host: str  # whose credentials may be used
    is_mirror: bool

    @property
    def scope(self) -> str:
        """What a token must allow."""
        return f"repository:{self.repository}:pull"

    def manifest_url(self, name: str) -> str:
        """Address of a manifest by tag or digest."""
        return f"{self.base}/{self.repository}/manifests/{name}"

    def tags_url(self, page_size: int) -> str:
        """Address of the first page of the repository's tags."""
        return f"{self.base}/{self.repository}/tags/list?n={page_size}"

    def blob_url(self, digest: object) -> str:
        """Address of a blob."""
        return f"{self.base}/{self.repository}/blobs/{digest}"


def endpoints_for(reference: ImageReference, settings: RegistrySettings) -> tuple[Endpoint, ...]:
    """Every place to ask, in order; the last is the host of the reference itself."""
    mirrors = [
        _mirror(url, reference.repository) for url in settings.mirrors.get(reference.host, ())
    ]
    host = _REGISTRY_HOSTS.get(reference.host, reference.host)
    scheme = "http" if reference.host in settings.unsafe_http_hosts else "https"
    own = Endpoint(f"{scheme}://{host}/v2", reference.repository, reference.host, False)
    return (*mirrors, own)


def _mirror(url: str, repository: str) -> Endpoint:
    parts = urlsplit(url)
    # a path is a project or proxy name and belongs to the repository: /v2/<path>/<repository>
    segments = [segment for segment in parts.path.split("/") if segment]
    if segments[:1] == ["v2"]:
        del segments[0]
    full = "/".join([*segments, repository])
    return Endpoint(f"{parts.scheme}://{parts.netloc}/v2", full, parts.netloc, True)
