"""perimeter-install preflight: every host at once, before anything changes."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_installer.cli.options import (
    bundle_option,
    password_option,
    same_bundle,
    site_option,
    trust_option,
    verified,
    volumes_option,
)
from perimeter_installer.load.endpoints import endpoints
from perimeter_installer.load.load import ask_for_base
from perimeter_installer.preflight.base import base_findings
from perimeter_installer.preflight.checks import RoomNeed
from perimeter_installer.preflight.findings import Finding
from perimeter_installer.preflight.run import preflight as run_preflight
from perimeter_installer.run.secrets import open_secrets
from perimeter_installer.site.load import load as load_site
from perimeter_installer.site.model import Site


@click.command()
@site_option
@bundle_option(required=False)
@volumes_option
@trust_option
@password_option
@click.option("--all", "everything", is_flag=True, help="Show what is in order too.")
@common_options
def preflight(
    output: Output,
    site_path: Path,
    bundle_path: Path | None,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    password_file: Path | None,
    everything: bool,
) -> ExitStatus:
    """Are the hosts ready? Looks at all of them at once and changes nothing.

    Each finding says what was found, why it matters and how to mend it. Errors end with status 1;
    warnings stop nothing. With --bundle, room and architecture are judged against the release, and
    of a delta every replica of the registry is asked for what the bundle leaves out.

    \b
    Examples:
      perimeter-install preflight --site site.yaml --bundle /media/disc/2026.11
      perimeter-install preflight --json | jq '.findings[] | select(.severity == "error")'
    """
    site = load_site(site_path)
    bundle = None
    if bundle_path is not None:
        bundle = verified(output, bundle_path, trust_path, site_path, volumes=volumes)
    need = need_of(bundle) if bundle else RoomNeed()
    with output.reporter() as reporter:
        beside = _ask_for_base(bundle, site, password_file, reporter.on_event) if bundle else ()
        report = run_preflight(site, need, beside=beside, on_event=reporter.on_event)
    output.result(report.to_dict(), report.text(everything=everything))
    if report.errors:
        output.next_step("mend the errors, then run preflight again")
    else:
        named = same_bundle(site_path, bundle_path or Path("DIR"), volumes)
        output.next_step(f"perimeter-install load {named}")
    return report.status


def _ask_for_base(
    bundle: VerifiedBundle, site: Site, password_file: Path | None, on_event: OnEvent
) -> tuple[Finding, ...]:
    """What the replicas lack of what a delta leaves out; nothing for a whole bundle."""
    if bundle.base is None:
        return ()
    secrets = open_secrets(site, password_file=password_file, check=True)
    wanted = f"the registry is asked for {len(bundle.base.blobs)} blobs"
    on_event(Event(EventKind.START, "base", wanted))
    answers = ask_for_base(bundle, endpoints(site, secrets))
    on_event(Event(EventKind.FINISH, "base", wanted))
    return tuple(base_findings(bundle.base, answers))


def need_of(bundle: VerifiedBundle) -> RoomNeed:
    """What a release asks of the hosts, out of its verified manifest."""
    room, items = bundle.manifest.room, bundle.manifest.items
    platforms = {Platform.parse(text) for item in items for text in item.platforms}
    return RoomNeed(
        registry_bytes=room.registry_bytes,
        node_bytes=room.node_bytes,
        architectures=frozenset(platform.architecture for platform in platforms),
    )
