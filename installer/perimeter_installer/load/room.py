"""Room on the discs of embedded registries, asked before the first byte is sent."""

from __future__ import annotations

from collections.abc import Mapping

from perimeter_bundle.model.errors import HostError
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.site.model import Site


def registry_room(site: Site, on_event: OnEvent) -> Mapping[str, int]:
    """Free bytes where each embedded replica keeps its content, by the name of its host.

    What cannot be learned is left out: an external registry, a host that does not answer.
    """
    if site.registry.mode != "embedded":
        return {}
    # paramiko: a load into an external registry does not wait for it
    from perimeter_installer.preflight.gather import gather
    from perimeter_installer.site.host_keys import KnownHosts

    known_hosts = KnownHosts.load(site.known_hosts_file)
    found = gather(site, known_hosts, hosts=site.group("registry"), on_event=on_event)
    discs = {
        name: facts.disc_of(site.registry.data_dir)
        for name, facts in found.items()
        if not isinstance(facts, HostError)
    }
    return {name: disc.free_bytes for name, disc in discs.items() if disc is not None}


def refuse_without_room(
    endpoint: RegistryEndpoint, missing_bytes: int, free_bytes: int | None
) -> None:
    """Raises HostError[registry-full] when what is missing does not fit; None: not known."""
    if free_bytes is None or missing_bytes <= free_bytes:
        return
    raise HostError(
        "registry-full",
        f"no room on {endpoint.name} for what is missing there; nothing was sent",
        context={
            "registry": endpoint.url,
            "needed": human_bytes(missing_bytes),
            "free": human_bytes(free_bytes),
        },
        hint="make room on the registry's disc and load again; what is there already stays",
    )
