"""The registry replicas of a site, ready to be pushed to."""

from __future__ import annotations

from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.run.secrets import Secrets
from perimeter_installer.site.model import Site


def endpoints(site: Site, secrets: Secrets | None) -> tuple[RegistryEndpoint, ...]:
    """One endpoint for each replica, in the order of site.yaml.

    Without ``secrets`` they only name addresses. Raises InputError for an address that is none.
    """
    if site.registry.mode == "external":
        ca_file = site.registry.ca_file
        return (
            RegistryEndpoint.parse(
                "the site's registry",
                site.registry.url,
                ca_pem=ca_file.read_text() if ca_file else "",
                username=secrets.registry_username if secrets else "",
                password=secrets.registry_password if secrets else "",
            ),
        )
    return tuple(
        RegistryEndpoint.parse(host.name, url, ca_pem=secrets.ca.certificate if secrets else "")
        for host, url in zip(site.group("registry"), site.registry_endpoints, strict=True)
    )
