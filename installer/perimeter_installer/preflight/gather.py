"""Asks every host for its facts at once: one SSH connection and one small script each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources

from perimeter_bundle.model.errors import HostError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_installer.preflight import wanted
from perimeter_installer.preflight.facts import HostFacts, parse_facts
from perimeter_installer.site.every import on_every
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.model import Host, Site
from perimeter_installer.site.ssh import (
    CONNECT_TIMEOUT_S,
    RUN_TIMEOUT_S,
    Connection,
    Target,
    connect,
)


def gather(
    site: Site,
    known_hosts: KnownHosts,
    *,
    hosts: Iterable[Host] | None = None,
    on_event: OnEvent = ignore_events,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    run_timeout_s: float = RUN_TIMEOUT_S,
) -> Mapping[str, HostFacts | HostError]:
    """Facts of ``hosts`` (default: all) by name; a HostError for each that could not be asked.

    Nothing is changed on any host.
    """

    def ask(host: Host) -> HostFacts:
        task = f"facts/{host.name}"
        on_event(Event(EventKind.START, task))
        try:
            with connect(
                Target.of(host), site.ssh, known_hosts, timeout_s=connect_timeout_s
            ) as connection:
                facts = ask_host(connection, host, site, timeout_s=run_timeout_s)
        except HostError as error:
            on_event(Event(EventKind.FAIL, task, error.message))
            raise
        on_event(Event(EventKind.FINISH, task))
        return facts

    return on_every(site.hosts if hosts is None else hosts, ask)


def ask_host(
    connection: Connection, host: Host, site: Site, *, timeout_s: float = RUN_TIMEOUT_S
) -> HostFacts:
    """The facts of one host; raises HostError when it has no usable Python or answers nonsense."""
    script = resources.files("perimeter_installer.preflight").joinpath("remote_facts.py")
    request = json.dumps(
        {
            "config": {
                "paths": wanted.paths_of(host, site),
                "registry": wanted.registry_paths_of(host, site),
                "ports": wanted.ports_of(host, site),
                "programs": wanted.programs_of(host),
                "modules": list(wanted.MODULES),
                "leftovers": wanted.LEFTOVER_PATHS,
                "processes": wanted.LEFTOVER_PROCESSES,
                "names": wanted.names_of(site),
            },
            "peers": wanted.peers_of(host, site),
        }
    )
    answer = connection.run(
        ["/usr/bin/python3", "-I", "-", request],
        stdin=script.read_bytes(),
        root=True,
        timeout_s=timeout_s,
    )
    if answer.status != 0:
        raise _no_facts(connection.target, answer.status, answer.stderr)
    return parse_facts(answer.stdout, sent_at=answer.sent_at, received_at=answer.received_at)


def _no_facts(target: Target, status: int, stderr: bytes) -> HostError:
    said = stderr.decode("utf-8", "replace").strip()[-300:]
    if status in (126, 127):
        return HostError(
            "no-python",
            f"{target} has no /usr/bin/python3",
            hint="install Python 3.8 or newer from the system's own packages",
        )
    if "SyntaxError" in said:
        return HostError(
            "old-python",
            f"the Python of {target} is too old",
            hint="install Python 3.8 or newer from the system's own packages",
        )
    return HostError(
        "no-facts",
        f"{target} could not tell its facts (status {status}): {said or 'it said nothing'}",
        hint="log in and run python3; the host must be able to start programs",
    )
