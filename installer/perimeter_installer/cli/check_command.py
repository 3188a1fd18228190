"""perimeter-install check: does it really work?"""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_installer.check import CheckOptions
from perimeter_installer.check import run as run_check
from perimeter_installer.cli.options import (
    allow_older_option,
    bundle_option,
    password_option,
    site_option,
    trust_option,
    verified,
    volumes_option,
)
from perimeter_installer.report.text import to_text
from perimeter_installer.report.write import write_report
from perimeter_installer.site.load import load as load_site

REPORT_FOLDER = "reports"


@click.command()
@site_option
@bundle_option(required=True)
@volumes_option
@trust_option
@allow_older_option
@password_option
@click.option(
    "--node-off",
    "nodes_off",
    multiple=True,
    metavar="NAME",
    help="This node is switched off on purpose; may be given several times.",
)
@click.option(
    "--report",
    "report_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where the reports go.  [default: {REPORT_FOLDER} beside site.yaml]",
)
@common_options
def check(
    output: Output,
    site_path: Path,
    bundle_path: Path,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    allow_older: bool,
    password_file: Path | None,
    nodes_off: tuple[str, ...],
    report_folder: Path | None,
) -> ExitStatus:
    """Does the site really work? Looks at hosts and cluster, and tries what users will do.

    Nodes and versions, every running image against the bundle, names, pods that reach each other,
    a volume that survives its pod, an object in and out of MinIO; of a delta, that the registry
    holds what it leaves out. What it makes is removed. Writes
    report.html (one self-contained page), report.json and junit.xml. Status 1 says that something
    does not work.

    \b
    Examples:
      perimeter-install check --site site.yaml --bundle /media/disc/2026.11
      perimeter-install check --bundle /media/disc/2026.11 --node-off n3
      perimeter-install check --json | jq '.checks[] | select(.outcome == "failed")'
    """
    site = load_site(site_path)
    bundle = verified(
        output, bundle_path, trust_path, site_path, volumes=volumes, allow_older=allow_older
    )
    with output.reporter() as reporter:
        report = run_check(
            site,
            bundle,
            options=CheckOptions(nodes_off=nodes_off, password_file=password_file),
            on_event=reporter.on_event,
        )
    files = write_report(report, report_folder or site.folder / REPORT_FOLDER)
    output.result(
        {**report.to_dict(), "files": dict(files.to_dict())},
        f"{to_text(report)}\nreport: {files.html}",
    )
    if report.ok:
        output.next_step(f"perimeter-install status --site {site_path}, any time")
        return ExitStatus.OK
    output.next_step(f"read {files.html}, mend what failed, then run check again")
    return ExitStatus.FINDINGS
