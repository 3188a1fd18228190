"""Where one replica of a registry answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.loopback import is_loopback


@dataclass(frozen=True, slots=True)
class RegistryEndpoint:
    """Where one replica answers and how to log in; ``name`` is what messages call it.

    ``prefix`` is empty or ends with a slash: the project of an external registry under which
    every repository lies. ``ca_pem`` is empty for the system's authorities.
    """

    name: str
    url: str  # https://host:port (http on loopback), no slash at the end, without the prefix
    prefix: str = ""
    ca_pem: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(
        cls, name: str, url: str, *, ca_pem: str = "", username: str = "", password: str = ""
    ) -> RegistryEndpoint:
        """The endpoint at ``url`` (https, perhaps with a path); raises InputError.

        On this machine itself http will do.
        """
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        known = parts.scheme == "https" or plain
        if not known or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise InputError(
                "bad-registry-url",
                f"not a registry address: {url[:200]!r}",
                hint="write https://host:port or https://host/project; http only of this machine",
            )
        path = parts.path.strip("/")
        prefix = f"{path}/" if path else ""
        return cls(name, f"{parts.scheme}://{parts.netloc}", prefix, ca_pem, username, password)

    def repository(self, name: str) -> str:
        """The repository that holds ``name`` (``quay.io/minio/minio``) here."""
        return self.prefix + name

    def blob_url(self, name: str, digest: Digest) -> str:
        """The address from which anyone on the site fetches a blob."""
        return f"{self.url}/v2/{self.repository(name)}/blobs/{digest}"
