"""perimeter-install verify: every numbered step, one line each."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.verify import verify_report
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_installer.cli.options import (
    allow_older_option,
    bundle_option,
    refuse_missing_bundle,
    same_bundle,
    site_option,
    trust_at,
    trust_option,
    volumes_option,
)


@click.command()
@site_option
@bundle_option(required=True)
@volumes_option
@trust_option
@allow_older_option
@common_options
def verify(
    output: Output,
    site_path: Path,
    bundle_path: Path,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    allow_older: bool,
) -> ExitStatus:
    """Is the bundle, byte for byte, what a trusted key signed?

    Hashes every file, and refuses one that is missing, changed or not listed. Keys inside a bundle
    are never trusted: yours come by another way.

    \b
    Examples:
      perimeter-install verify --bundle /media/disc/2026.11 --trust trust/
      perimeter-install verify --bundle /media/disc/2026.11 --trust site-trusted.pub --json
    """
    trust = trust_at(trust_path, site_path)
    refuse_missing_bundle(bundle_path)
    with output.reporter() as reporter:
        report = verify_report(
            bundle_path,
            trust,
            volumes=volumes,
            allow_older=allow_older,
            on_event=reporter.on_event,
        )
    output.result(report.to_dict(), report.to_text())
    if report.error:
        if not output.json:
            print_error(report.error, stderr_console())
        return report.error.exit_status
    output.next_step(f"perimeter-install preflight {same_bundle(site_path, bundle_path, volumes)}")
    return ExitStatus.OK
