"""perimeter-bundle discover: which images objects need, and why."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.collect.chart_folder import is_chart, render_own_chart
from perimeter_bundle.discover.discover import discover as discover_objects
from perimeter_bundle.discover.files import read_objects
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.model.errors import ExitStatus, InputError
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import text_table


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@common_options
def discover(output: Output, path: Path) -> ExitStatus:
    """Which images Kubernetes objects will pull, each with the places that say so.

    PATH is a rendered file (.yaml, .yml, .json, also .gz), a folder of such files, or a Helm
    chart (folder or .tgz), which is rendered with its own values. No catalog and no network is
    needed. Ends with status 2 when a string looks like an image and no rule explains it; the
    result is printed all the same.

    \b
    Examples:
      perimeter-bundle discover rendered.yaml
      perimeter-bundle discover rendered/ --json
    """
    documents = [render_own_chart(path)] if is_chart(path) else read_objects(path)
    found = discover_objects(documents)
    output.result(found.to_dict(), _text(found))
    error = unclassified_error(found)
    if error is None:
        return ExitStatus.OK
    if not output.json:
        print_error(error, stderr_console())
    return error.exit_status


def unclassified_error(found: Discovery) -> InputError | None:
    """What stands between this result and a bundle; None when all is explained."""
    if found.complete:
        return None
    problems = [str(one) for one in found.unclassified]
    problems += [f"rule matches nothing: {rule}" for rule in found.unused_rules]
    return InputError(
        "unclassified",
        f"{len(problems)} string{'s' if len(problems) > 1 else ''} or rules are unexplained",
        problems=problems,
        hint="say what they are under rules: in the component.yaml; docs/discovery.md shows how",
    )


def _text(found: Discovery) -> str:
    rows = [
        (str(image.reference), image.evidence[0].rule, str(image.evidence[0].place))
        for image in found.images
    ]
    rows += [(str(one.reference), "excluded", one.reason) for one in found.excluded]
    counts = [
        f"{len(found.images)} images",
        f"{len(found.excluded)} excluded",
        f"{len(found.unclassified)} unclassified",
        f"{len(found.not_images)} strings that look like one and are none",
    ]
    return "\n".join([text_table(["image", "rule", "place"], rows), "", ", ".join(counts)])
