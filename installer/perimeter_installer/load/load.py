"""Load: a bundle into every registry replica of a site.

 0. Of a delta, every replica must hold what it leaves out (base.py); else nothing is changed.
 1. An embedded registry is stood up first: the playbook of step ``registry``.
 2. Every replica is filled, all at the same time.
 3. On each, every name resolves to the bundle's digest.
Twice the same load sends nothing; a load that was killed goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from perimeter_bundle.format import layout
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, PerimeterError
from perimeter_bundle.model.events import OnEvent, ignore_events
from perimeter_installer.inventory.loaded import remember
from perimeter_installer.load.base import (
    BaseAnswer,
    link_base,
    missing_base,
    refuse_missing_base,
)
from perimeter_installer.load.content import Content, content_of
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.endpoints import endpoints
from perimeter_installer.load.push import check_replica, fill_replica
from perimeter_installer.load.registry import PushClient
from perimeter_installer.load.report import LoadReport, ReplicaReport
from perimeter_installer.load.room import registry_room
from perimeter_installer.plan.steps import History, plan
from perimeter_installer.run.audit import audited
from perimeter_installer.run.secrets import Secrets
from perimeter_installer.run.state import State
from perimeter_installer.site.model import Site

Result = TypeVar("Result")


def load_bundle(
    bundle: VerifiedBundle,
    site: Site,
    secrets: Secrets,
    *,
    on_event: OnEvent = ignore_events,
    check: bool = False,
    deep: bool = False,
) -> LoadReport:
    """Stands up the site's registry and fills it; with ``check`` says what is missing there.

    ``deep`` asks a registry for every blob, also where it has all manifests; ``check`` always does.

    Raises HostError (base-missing, registry-full, already-running, a host of the registry step),
    NetworkError, TrustError, IntegrityError; what was sent by then stays. When several replicas
    fail, the others are still filled and the error lists all.
    """
    if check:
        return _report(bundle, endpoints(site, secrets), check_replica, check=True)
    state = State.of(site)
    with (
        state.locked("load"),
        audited(state, "load", bundle.manifest.release, str(bundle.identity)),
    ):
        if site.registry.mode == "embedded":
            refuse_without_base(bundle, endpoints(site, secrets), bundle_content(bundle))
            _stand_up(bundle, site, secrets, on_event)
        report = fill_registries(bundle, site, secrets, on_event, deep=deep)
        remember(state, bundle)
        return report


def fill_registries(
    bundle: VerifiedBundle,
    site: Site,
    secrets: Secrets,
    on_event: OnEvent = ignore_events,
    *,
    deep: bool = False,
) -> LoadReport:
    """Fills registries that are already running; raises as ``load_bundle``."""
    free = registry_room(site, on_event)
    return fill_replicas(bundle, endpoints(site, secrets), on_event, deep=deep, free=free)


def fill_replicas(
    bundle: VerifiedBundle,
    replicas: tuple[RegistryEndpoint, ...],
    on_event: OnEvent = ignore_events,
    *,
    deep: bool = False,
    free: Mapping[str, int] = MappingProxyType({}),
) -> LoadReport:
    """Fills these, of which ``free`` says the room by name; raises as ``load_bundle``."""

    def fill(client: PushClient, content: Content) -> ReplicaReport:
        if bundle.base:
            link_base(client, bundle.base, content)
        return fill_replica(
            client,
            content,
            bundle.extents,
            on_event,
            deep=deep,
            free_bytes=free.get(client.endpoint.name),
        )

    return _report(bundle, replicas, fill, check=False)


def check_loaded(bundle: VerifiedBundle, site: Site, secrets: Secrets) -> None:
    """Raises HostError[not-loaded] unless every replica holds the whole bundle."""
    report = load_bundle(bundle, site, secrets, check=True)
    short = [replica for replica in report.replicas if not replica.complete]
    if short:
        raise HostError(
            "not-loaded",
            f"release {report.release} is not loaded into the site's registry",
            problems=[
                f"{one.name}: {len(one.missing)} of {one.names} are missing" for one in short
            ],
            hint="perimeter-install load, with the same --site and --bundle",
        )


def refuse_without_base(
    bundle: VerifiedBundle, replicas: tuple[RegistryEndpoint, ...], content: Content
) -> None:
    """Raises HostError[base-missing] when a replica lacks what a delta leaves out."""
    base = bundle.base
    if base is None:
        return
    lacking = _on_every(
        replicas, lambda client: (client.endpoint.name, missing_base(client, base, content))
    )
    refuse_missing_base(base, lacking, bundle.manifest.release)


def ask_for_base(
    bundle: VerifiedBundle, replicas: tuple[RegistryEndpoint, ...]
) -> tuple[BaseAnswer, ...]:
    """What each replica lacks of what a delta leaves out; changes nothing, and no answer for none.

    A replica that cannot be asked is an answer, too.
    """
    base = bundle.base
    if base is None:
        return ()
    content = bundle_content(bundle)

    def ask(client: PushClient) -> BaseAnswer:
        try:
            client.ping()  # one that is away is known once, not by every blob
            return BaseAnswer(client.endpoint.name, missing_base(client, base, content))
        except PerimeterError as error:
            return BaseAnswer(client.endpoint.name, error=error)

    return _on_every(replicas, ask)


def bundle_content(bundle: VerifiedBundle) -> Content:
    """What a replica must hold for this bundle."""

    def has(digest: Digest) -> bool:
        return layout.blob_path(digest) in bundle.sizes

    def read(digest: Digest) -> bytes:
        return bundle.read(layout.blob_path(digest))

    return content_of(bundle.manifest.items, read, has)


def _stand_up(bundle: VerifiedBundle, site: Site, secrets: Secrets, on_event: OnEvent) -> None:
    # paramiko and all that runs Ansible: a load into a registry that stands does not wait for it
    from perimeter_installer.run.step_runner import step_runner

    steps = [one for one in plan(bundle.manifest, site, History()) if one.name == "registry"]
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    with step_runner(bundle, site, secrets, run_id, check=False, on_event=on_event) as runner:
        for step in steps:
            runner.run(step)


def _report(
    bundle: VerifiedBundle,
    replicas: tuple[RegistryEndpoint, ...],
    work: Callable[[PushClient, Content], ReplicaReport],
    *,
    check: bool,
) -> LoadReport:
    content = bundle_content(bundle)
    refuse_without_base(bundle, replicas, content)
    reports = _on_every(replicas, lambda client: work(client, content))
    return LoadReport(bundle.manifest.release, check, reports)


def _on_every(
    replicas: tuple[RegistryEndpoint, ...], work: Callable[[PushClient], Result]
) -> tuple[Result, ...]:
    """``work`` on all replicas at once; one that fails does not stop the others."""
    with ExitStack() as stack:
        clients = [PushClient(replica) for replica in replicas]
        for client in clients:
            stack.callback(client.close)
        with ThreadPoolExecutor(max_workers=max(1, len(clients))) as pool:
            futures = [pool.submit(work, client) for client in clients]
            try:
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:  # Ctrl-C: uploads end within a block
                for client in clients:
                    client.cancel()
                raise
    unexpected = [error for error in errors if not isinstance(error, PerimeterError)]
    if unexpected:
        raise unexpected[0]
    if errors:
        raise _joined([error for error in errors if isinstance(error, PerimeterError)])
    return tuple(future.result() for future in futures)


def _joined(errors: list[PerimeterError]) -> PerimeterError:
    """The first error; when there are more, with one line for each."""
    first = errors[0]
    if len(errors) == 1:
        return first
    return type(first)(
        first.code,
        f"{len(errors)} replicas could not be loaded; the first: {first.message}",
        context=first.context,
        hint=first.hint,
        problems=[error.message for error in errors],
    )
