"""perimeter-install status: what is installed, and how it is now."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.model.errors import ExitStatus
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import text_table
from perimeter_installer.cli.options import site_option
from perimeter_installer.run.status import ClusterStatus, RunStatus, SiteStatus
from perimeter_installer.run.status import status as ask_status
from perimeter_installer.site.load import load as load_site


@click.command()
@site_option
@common_options
def status(output: Output, site_path: Path) -> ExitStatus:
    """What is installed, by whom and when, and how the cluster is now.

    Needs no bundle and changes nothing. Answers when the cluster is down, too. Status 1 says that
    something needs a look: an apply that did not end, a node that is not ready, a pod that does
    not run.

    \b
    Examples:
      perimeter-install status --site site.yaml
      perimeter-install status --json | jq '.nodes[] | select(.ready | not)'
    """
    found = ask_status(load_site(site_path))
    output.result(found.to_dict(), status_text(found))
    if found.unfinished:
        output.next_step(f"perimeter-install apply --site {site_path} --bundle DIR, to go on")
    return ExitStatus.OK if is_well(found) else ExitStatus.FINDINGS


def is_well(found: SiteStatus) -> bool:
    """Whether nothing needs a look: installed, nothing left open, everything ready."""
    cluster = found.cluster
    nodes_ready = all(node.ready for node in cluster.nodes)
    open_ends = found.unfinished or cluster.problem or cluster.troubles
    return found.installed is not None and nodes_ready and not open_ends


def status_text(found: SiteStatus) -> str:
    """The status for people."""
    lines = [f"site {found.site}"]
    if found.installed:
        lines.append(f"installed: {_run(found.installed)}")
    else:
        lines.append("installed: nothing yet")
    if found.unfinished:
        what = f", in step {found.unfinished.step}" if found.unfinished.step else ""
        why = f": {found.unfinished.message}" if found.unfinished.message else ""
        lines.append(f"not finished: {_run(found.unfinished)}{what}{why}")
    return "\n".join([*lines, "", *_cluster(found.cluster)])


def _run(run: RunStatus) -> str:
    return f"release {run.release} (number {run.number}), {run.time} by {run.user}"


def _cluster(cluster: ClusterStatus) -> list[str]:
    if cluster.problem:
        return [f"cluster: {cluster.problem}"]
    rows = [
        (
            node.name,
            "ready" if node.ready else "NOT READY",
            ",".join(node.roles) or "worker",
            node.version,
            node.trouble,
        )
        for node in cluster.nodes
    ]
    pods = ", ".join(f"{number} {phase}" for phase, number in (cluster.pods or {}).items())
    lines = [
        f"cluster: {cluster.version}, answered by {cluster.control_plane}",
        text_table(("node", "state", "roles", "kubelet", ""), rows),
        f"pods: {pods or 'none'}",
    ]
    return lines + [f"  {trouble}" for trouble in cluster.troubles]
