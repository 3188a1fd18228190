"""perimeter-install preflight: every host at once, before anything changes."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_installer.cli.options import (
    bundle_option,
    site_option,
    trust_option,
    verified,
    volumes_option,
)
from perimeter_installer.preflight.checks import RoomNeed
from perimeter_installer.preflight.run import preflight as run_preflight
from perimeter_installer.site.load import load as load_site


@click.command()
@site_option
@bundle_option(required=False)
@volumes_option
@trust_option
@click.option("--all", "everything", is_flag=True, help="Show what is in order too.")
@common_options
def preflight(
    output: Output,
    site_path: Path,
    bundle_path: Path | None,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    everything: bool,
) -> ExitStatus:
    """Are the hosts ready? Looks at all of them at once and changes nothing.

    Each finding says what was found, why it matters and how to mend it. Errors end with status 1;
    warnings stop nothing. With --bundle, room and architecture are judged against the release.

    \b
    Examples:
      perimeter-install preflight --site site.yaml --bundle /media/disc/2026.11
      perimeter-install preflight --json | jq '.findings[] | select(.severity == "error")'
    """
    site = load_site(site_path)
    need = RoomNeed()
    if bundle_path is not None:
        need = need_of(verified(output, bundle_path, trust_path, site_path, volumes=volumes))
    with output.reporter() as reporter:
        report = run_preflight(site, need, on_event=reporter.on_event)
    output.result(report.to_dict(), report.text(everything=everything))
    if report.errors:
        output.next_step("mend the errors, then run preflight again")
    else:
        where = bundle_path or "DIR"
        output.next_step(f"perimeter-install load --site {site_path} --bundle {where}")
    return report.status


def need_of(bundle: VerifiedBundle) -> RoomNeed:
    """What a release asks of the hosts, out of its verified manifest."""
    room, items = bundle.manifest.room, bundle.manifest.items
    platforms = {Platform.parse(text) for item in items for text in item.platforms}
    return RoomNeed(
        registry_bytes=room.registry_bytes,
        node_bytes=room.node_bytes,
        architectures=frozenset(platform.architecture for platform in platforms),
    )
