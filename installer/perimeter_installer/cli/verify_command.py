"""perimeter-install verify: every numbered step, one line each."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.verify import StepResult, VerifyReport, verify_report
from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_installer.cli.options import (
    allow_older_option,
    bundle_option,
    refuse_missing_bundle,
    site_option,
    trust_at,
    trust_option,
)


@click.command()
@site_option
@bundle_option(required=True)
@trust_option
@allow_older_option
@common_options
def verify(
    output: Output,
    site_path: Path,
    bundle_path: Path,
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
            bundle_path, trust, allow_older=allow_older, on_event=reporter.on_event
        )
    output.result(_to_dict(report), "\n".join(map(_line, report.steps)))
    if report.error:
        if not output.json:
            print_error(report.error, stderr_console())
        return report.error.exit_status
    output.next_step(f"perimeter-install preflight --site {site_path} --bundle {bundle_path}")
    return ExitStatus.OK


def _line(step: StepResult) -> str:
    word = {True: "ok", False: "FAILED", None: "not reached"}[step.passed]
    detail = f": {step.detail}" if step.detail else ""
    return f"{step.number:2}. {word}  {step.title}{detail}"


def _to_dict(report: VerifyReport) -> dict[str, object]:
    bundle = report.bundle
    return {
        "verified": bundle is not None,
        "release": bundle.manifest.release if bundle else None,
        "number": bundle.manifest.number if bundle else None,
        "identity": str(bundle.identity) if bundle else None,
        "signers": [key.name for key in bundle.signers] if bundle else [],
        "steps": [step.to_dict() for step in report.steps],
        "error": report.error.to_dict() if report.error else None,
    }
