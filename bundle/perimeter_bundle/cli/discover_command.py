"""perimeter-bundle discover: which images objects need, and why."""

from __future__ import annotations

import difflib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from perimeter_bundle.catalog.load import has_component, load_catalog
from perimeter_bundle.catalog.values import Catalog, Component
from perimeter_bundle.cli.options import (
    catalog_option,
    catalog_root,
    network_options,
    network_settings,
)
from perimeter_bundle.collect.chart_folder import is_chart, render_own_chart
from perimeter_bundle.collect.own_folder import OwnFolder
from perimeter_bundle.collect.own_kustomization import is_kustomization, render_own_kustomization
from perimeter_bundle.collect.reading import discover_component
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.discover.discover import discover as discover_objects
from perimeter_bundle.discover.files import read_objects
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.format.disc import disc_errors
from perimeter_bundle.model.errors import ExitStatus, InputError
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import text_table


@click.command()
@click.argument("what", metavar="COMPONENT|PATH")
@catalog_option
@click.option(
    "--kustomize",
    "kustomize_path",
    type=click.Path(path_type=Path),
    envvar="PERIMETER_KUSTOMIZE",
    metavar="PROGRAM",
    help="What renders a kustomization folder.  [default: kustomize on PATH]",
)
@network_options
@common_options
def discover(
    output: Output,
    what: str,
    catalog_path: Path | None,
    kustomize_path: Path | None,
    ca_file: Path | None,
    mirrors: tuple[str, ...],
    docker_config: Path | None,
    workers: int,
) -> ExitStatus:
    """Which images Kubernetes objects will pull, each with the places that say so.

    PATH is a rendered file (.yaml, .yml, .json, also .gz), a folder of such files, a Helm chart
    (folder or .tgz), which is rendered with its own values, or a kustomization folder, which is
    rendered with your kustomize. Charts and kustomizations somewhere below a folder are rendered
    too; one that cannot be is said and read as plain YAML. No catalog and no network is needed.

    COMPONENT is a name of the catalog: its charts, manifests and kustomizations are fetched,
    rendered and judged by its own rules. A path of that name is taken first.

    Ends with status 2 when a string looks like an image and no rule explains it; the result is
    printed all the same.

    \b
    Examples:
      perimeter-bundle discover rendered.yaml
      perimeter-bundle discover rendered/ --json
      perimeter-bundle discover cert-manager
    """
    settings = network_settings(ca_file, mirrors, docker_config, workers)
    path = Path(what)
    with (
        disc_errors(Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="perimeter-discover-") as work,
    ):
        if path.exists():
            if has_component(catalog_path or catalog_root(), what):
                output.note(f"{what} is a component too; what is shown is the path {path}")
            found = _discover_path(path, kustomize_path, Path(work), output)
        else:
            catalog = load_catalog(catalog_path or catalog_root())
            refuse_unknown(catalog, what)
            if not has_objects(catalog.components[what]):
                output.note(f"{what} has no objects to look at; plan and lock show what it lists")
            with output.reporter() as reporter:
                upstream = open_upstream(settings, reporter.on_event)
                found = discover_component(catalog, what, upstream, Path(work))
    output.result(found.to_dict(), _text(found))
    error = unclassified_error(found)
    if error is None:
        return ExitStatus.OK
    if not output.json:
        print_error(error, stderr_console())
    return error.exit_status


def _discover_path(
    path: Path, kustomize_path: Path | None, work: Path, output: Output
) -> Discovery:
    search_path = os.environ.get("PATH", "")
    if is_chart(path):
        return discover_objects([render_own_chart(path, output.note)])
    if is_kustomization(path):
        rendered = render_own_kustomization(path, kustomize_path, search_path, work)
        return discover_objects([rendered])
    if not path.is_dir():
        return discover_objects(read_objects(path))
    folder = OwnFolder(path, kustomize_path, search_path, work, output.note)
    found = discover_objects(folder.objects())
    return replace(found, unclassified=tuple(sorted([*found.unclassified, *folder.unread])))


def has_objects(component: Component) -> bool:
    """Whether anything of the component is rendered."""
    return bool(component.charts or component.manifests or component.kustomizations)


def refuse_unknown(catalog: Catalog, name: str) -> None:
    """Raises InputError[no-objects] when ``name`` is no component, with the nearest names."""
    if name in catalog.components:
        return
    near = difflib.get_close_matches(name, catalog.components, n=3)
    raise InputError(
        "no-objects",
        f"there is no file or folder {name}, and no component of that name in the catalog",
        context={"nearest": ", ".join(near)} if near else {},
        hint="give a rendered file (.yaml, .json, .gz), a folder of such files, a chart, or a "
        "component",
    )


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
