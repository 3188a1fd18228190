"""Image references, after the grammar of the distribution project.

https://github.com/distribution/reference/blob/v0.6.0/reference.go
A short name is completed as every container runtime does it: Docker Hub, ``library/``, ``latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError

DOCKER_HUB = "docker.io"
INTERNAL_HOST = "perimeter.internal"  # names of charts and files; .internal is never public

_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
MAX_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True, order=True)
class ImageReference:
    """Host, repository, and a tag or a digest or both."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """The complete reference for ``text``; raises InputError[bad-reference]."""
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
            host, rest = head, tail
        else:
            host = DOCKER_HUB
        repository, _, tag = rest.partition(":")
        if host in ("index.docker.io", "registry-1.docker.io"):
            host = DOCKER_HUB
        if host == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if (
            not _HOST.fullmatch(host)
            or not _REPOSITORY.fullmatch(repository)
            or (":" in rest and not _TAG.fullmatch(tag))
            or len(host) + 1 + len(repository) > MAX_NAME_LENGTH
        ):
            raise InputError(
                "bad-reference",
                f"not an image reference: {text[:300]!r}",
                hint="write host/repository:tag, such as quay.io/minio/minio:RELEASE.2025-10-15",
            )
        return cls(host, repository, tag or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Host and repository; also the repository under which a site's registry holds it."""
        return f"{self.host}/{self.repository}"

    def with_digest(self, digest: Digest) -> ImageReference:
        """The same reference pinned to ``digest``."""
        return replace(self, digest=digest)

    def without_digest(self) -> ImageReference:
        """The same reference by tag alone; by digest when it has no tag."""
        return replace(self, digest=None) if self.tag else self

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"
