"""perimeter-install apply: the site as the bundle says."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.terminal.console import stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_duration, text_table
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
from perimeter_installer.plan.steps import STEP_NAMES, Step
from perimeter_installer.run.apply import ApplyOptions, ApplyReport, plan_apply
from perimeter_installer.run.apply import apply as run_apply
from perimeter_installer.site.load import load as load_site


@click.command()
@site_option
@bundle_option(required=True)
@volumes_option
@trust_option
@allow_older_option
@password_option
@click.option("--check", is_flag=True, help="Say what would change; change nothing.")
@click.option(
    "--step",
    "only",
    multiple=True,
    type=click.Choice(STEP_NAMES),
    help="Run this step alone; may be given several times.",
)
@click.option("--afresh", is_flag=True, help="Skip nothing that an interrupted run has done.")
@common_options
def apply(
    output: Output,
    site_path: Path,
    bundle_path: Path,
    volumes: tuple[Path, ...],
    trust_path: Path | None,
    allow_older: bool,
    password_file: Path | None,
    check: bool,
    only: tuple[str, ...],
    afresh: bool,
) -> None:
    """Install or upgrade the site to what the bundle holds.

    Shows its plan first. A second run reports zero changes; an interrupted one goes on at the step
    that was not finished. What Ansible says in full is in .perimeter/logs beside site.yaml.

    A bundle may carry components that this version does not install: they are named and nothing is
    changed, unless single steps are asked for.

    \b
    Examples:
      perimeter-install apply --site site.yaml --bundle /media/disc/2026.11
      perimeter-install apply --bundle /media/disc/2026.11 --check
      perimeter-install apply --bundle /media/disc/2026.11 --step network
    """
    site = load_site(site_path)
    bundle = verified(
        output, bundle_path, trust_path, site_path, volumes=volumes, allow_older=allow_older
    )
    options = ApplyOptions(
        check=check,
        only=only,
        allow_older=allow_older,
        afresh=afresh,
        password_file=password_file,
    )
    if not output.quiet and not output.json_events:
        stderr_console().print(_plan_text(plan_apply(bundle, site, options), check=check))
    with output.reporter() as reporter:
        report = run_apply(bundle, site, options=options, on_event=reporter.on_event)
    output.result(report.to_dict(), _text(report))
    again = "apply" if check else "check"
    output.next_step(f"perimeter-install {again} {same_bundle(site_path, bundle_path, volumes)}")


def _plan_text(steps: tuple[Step, ...], *, check: bool) -> str:
    rows = [
        (str(number), step.name, ",".join(step.hosts), "done before" if step.done else step.title)
        for number, step in enumerate(steps, 1)
    ]
    head = "plan (nothing will be changed)" if check else "plan"
    return f"{head}:\n{text_table(('', 'step', 'hosts', ''), rows, indent='  ')}"


def _text(report: ApplyReport) -> str:
    rows = [
        (
            step.step.name,
            step.outcome.value,
            str(step.changed),
            human_duration(step.seconds),
        )
        for step in report.steps
    ]
    verb = "would change" if report.check else "changed"
    return (
        f"release {report.release}: {report.changed} {verb}\n"
        f"{text_table(('step', 'outcome', 'changed', 'took'), rows)}"
    )
