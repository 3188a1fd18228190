"""perimeter-install load: bundle to registry replicas."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes, text_table
from perimeter_installer.cli.options import (
    allow_older_option,
    bundle_option,
    password_option,
    same_bundle,
    site_option,
    trust_option,
    verified,
    volumes_option,
)
from perimeter_installer.load.load import load_bundle
from perimeter_installer.load.report import LoadReport, ReplicaReport
from perimeter_installer.run.secrets import open_secrets
from perimeter_installer.site.load import load as load_site


@click.command()
@site_option
@bundle_option(required=True)
@volumes_option
@trust_option
@allow_older_option
@password_option
@click.option("--check", is_flag=True, help="Say what is missing there; change nothing.")
@click.option("--deep", is_flag=True, help="Ask for every blob, as --check always does.")
@common_options
def load(
    output: Output,
    site_path: Path,
    bundle_path: Path,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    allow_older: bool,
    password_file: Path | None,
    check: bool,
    deep: bool,
) -> ExitStatus:
    """Fill the site's registry with everything the bundle holds.

    Stands up the embedded registry on its hosts first. Each replica gets everything; what is there
    already is not sent again, so an interrupted load goes on where it was. A registry that has an
    image's manifest is believed to have its blobs, unless --deep. With --check, status 1 says that
    something is missing.

    \b
    Examples:
      perimeter-install load --site site.yaml --bundle /media/disc/2026.11
      perimeter-install load --bundle /media/disc/2026.11 --check
    """
    site = load_site(site_path)
    bundle = verified(
        output, bundle_path, trust_path, site_path, volumes=volumes, allow_older=allow_older
    )
    with output.reporter() as reporter:
        secrets = open_secrets(
            site, password_file=password_file, check=check, on_event=reporter.on_event
        )
        report = load_bundle(
            bundle, site, secrets, check=check, deep=deep, on_event=reporter.on_event
        )
    output.result(report.to_dict(), _text(report))
    again = same_bundle(site_path, bundle_path, volumes)
    if not report.complete:
        output.next_step(f"perimeter-install load {again}")
        return ExitStatus.FINDINGS
    output.next_step(f"perimeter-install apply {again}")
    return ExitStatus.OK


def _text(report: LoadReport) -> str:
    rows = [_row(replica, check=report.check) for replica in report.replicas]
    head = "missing" if report.check else "sent"
    table = text_table(("replica", "address", "names", head, "there before"), rows)
    changed = "everything is there" if report.complete else "something is missing"
    return f"release {report.release}: {changed}\n{table}"


def _row(replica: ReplicaReport, *, check: bool) -> tuple[str, ...]:
    sent = f"{replica.blobs_sent} blobs, {human_bytes(replica.bytes_sent)}"
    missing = f"{len(replica.missing)} names, {human_bytes(replica.missing_bytes)}"
    return (
        replica.name,
        replica.url,
        str(replica.names),
        missing if check else sent,
        f"{replica.blobs_present + replica.blobs_mounted} blobs",
    )
