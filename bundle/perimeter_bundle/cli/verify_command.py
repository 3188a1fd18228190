"""perimeter-bundle verify: the same code as on the closed side."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.cli.bundle_argument import bundle_argument, refuse_missing_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import verify_report
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output, common_options


@click.command()
@bundle_argument
@click.option(
    "--trust",
    "trust_path",
    type=click.Path(path_type=Path),
    required=True,
    envvar="PERIMETER_TRUST",
    help="Folder of trusted public keys, or one .pub file.",
)
@common_options
def verify(output: Output, bundle_path: Path, trust_path: Path) -> ExitStatus:
    """Is the bundle, byte for byte, what a trusted key signed?

    Runs the very steps that perimeter-install verify runs at the site.

    \b
    Examples:
      perimeter-bundle verify /srv/bundles/2026.11 --trust builder.pub
      perimeter-bundle verify /srv/bundles/2026.11 --trust trust/ --json
    """
    trust = Trust.load(trust_path)
    refuse_missing_bundle(bundle_path)
    with output.reporter() as reporter:
        report = verify_report(bundle_path, trust, on_event=reporter.on_event)
    output.result(report.to_dict(), report.to_text())
    if report.error:
        if not output.json:
            print_error(report.error, stderr_console())
        return report.error.exit_status
    output.next_step(
        f"carry {bundle_path} to the site; there: sh verify.sh TRUSTED.pub, sh bootstrap.sh"
    )
    return ExitStatus.OK
