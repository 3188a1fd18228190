"""perimeter-bundle plan: what will be collected, sizes, room needed; fetches no image."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from perimeter_bundle.cli.against_options import against_option, inventory_at
from perimeter_bundle.cli.options import (
    Chosen,
    choose,
    find_lock,
    lock_option,
    network_options,
    network_settings,
    read_lock,
    release_options,
    workloads_option,
)
from perimeter_bundle.cli.site_options import refuse_other_site, site_options, site_request
from perimeter_bundle.collect.against import plan_base, room_of_delta
from perimeter_bundle.collect.plan import Plan, PlanItem, ask_upstream, plan_release
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.collect.workload_images import workload_upstream
from perimeter_bundle.format.base import Base
from perimeter_bundle.format.disc import disc_errors
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.phases import CARRIED
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes, text_table

_ROOM_OF = {
    "builder": "build: this machine",
    "carrier": "carry: the disc or stick",
    "volumes": "carry in volumes: all of them, and one volume for each of parity",
    "jump": "unpack: the jump host",
    "jump_volumes": "load from volumes: the jump host, and one volume",
    "registry": "load: each registry host",
    "node": "apply: each node of the cluster",
}


@click.command()
@release_options
@lock_option("Take names and sizes from this lock; no network is used.")
@click.option("--no-lock", is_flag=True, help="Ask upstream even if there is a lock.")
@workloads_option
@site_options
@against_option
@network_options
@common_options
def plan(
    output: Output,
    release_name: str,
    catalog_path: Path | None,
    platforms: tuple[str, ...],
    lock_path: Path | None,
    no_lock: bool,
    workloads_path: Path | None,
    site_facts_path: Path | None,
    trust_path: Path | None,
    against_path: Path | None,
    ca_file: Path | None,
    mirrors: tuple[str, ...],
    docker_config: Path | None,
    workers: int,
) -> None:
    """Shows what will be collected and how much room each machine needs.

    With a lock that pins the release everything is known and no network is used. Without one,
    charts, manifests and sources are fetched and rendered (no image, and of the files only the
    kustomize that renders); what the objects name is asked for its size. A string that looks like
    an image and that no rule explains is refused, as lock and build do.
    With --site-facts the lock must have been written with these very facts.
    With --against it also shows what a delta would leave out: manifests are fetched for that, no
    layer, and a lock is needed; the room is then that of the delta. Images that are compiled count
    as carried.

    \b
    Examples:
      perimeter-bundle plan 2026.11
      perimeter-bundle plan 2026.11 --no-lock --ca-file /etc/ssl/company.pem --json
    """
    settings = network_settings(ca_file, mirrors, docker_config, workers)
    only_against = against_path is not None and site_facts_path is None
    site = site_request(site_facts_path, None if only_against else trust_path)
    against = inventory_at(against_path, trust_path if against_path else None)
    chosen = choose(release_name, catalog_path, platforms, workloads_path)
    lock = None if no_lock else _usable_lock(chosen, lock_path)
    if lock is not None:
        refuse_other_site(lock, site, f"perimeter-bundle lock {release_name}")
    elif against:
        raise InputError(
            "bad-option",
            "--against needs a lock: names stand for nothing that a site could hold",
            hint=f"perimeter-bundle lock {release_name}",
        )
    asked = None
    if lock is None:
        with (
            output.reporter() as reporter,
            disc_errors(Path(tempfile.gettempdir())),
            tempfile.TemporaryDirectory(prefix="perimeter-plan-") as work,
            workload_upstream(
                open_upstream(settings, reporter.on_event), chosen.release.workloads, os.environ
            ) as upstream,
        ):
            asked = ask_upstream(chosen.release, upstream, Path(work))
    found = plan_release(chosen.release, lock, asked)
    base = None
    if lock is not None and against:
        with (
            output.reporter() as reporter,
            disc_errors(Path(tempfile.gettempdir())),
            tempfile.TemporaryDirectory(prefix="perimeter-plan-") as work,
            workload_upstream(
                open_upstream(settings, reporter.on_event), chosen.release.workloads, os.environ
            ) as upstream,
        ):
            base = plan_base(against, lock, upstream, Path(work))
        found = replace(found, room=room_of_delta(lock, chosen.release, base))
    output.result({**found.to_dict(), **_delta_dict(base)}, _text(found) + _delta_text(base))
    verb = "build" if found.locked else "lock"
    more = f" --workloads {workloads_path}" if workloads_path else ""
    more += " --out DIR" if found.locked else ""
    output.next_step(f"perimeter-bundle {verb} {release_name}{more}")


def _delta_dict(base: Base | None) -> dict[str, object]:
    if base is None:
        return {}
    counts = {"left_out_blobs": len(base.blobs), "left_out_bytes": base.total_bytes}
    return {"delta": {**base.to_dict(), **counts}}


def _delta_text(base: Base | None) -> str:
    if base is None:
        return ""
    return (
        f"\n\na delta on {base.about}: {len(base.blobs)} blobs, {human_bytes(base.total_bytes)},"
        " would be left out"
    )


def _usable_lock(chosen: Chosen, lock_path: Path | None) -> Lock | None:
    """The lock that was named; without a name, one that pins something."""
    path = find_lock(lock_path)
    if lock_path is None and not path.is_file():
        return None
    lock = Lock.parse(read_lock(path, chosen.release.name))
    if lock_path is None and (lock.unresolved() or lock.release != chosen.release.name):
        return None
    return lock


def _text(plan: Plan) -> str:
    rows = [
        (item.kind, item.name, _size(item), item.component)
        for item in sorted(plan.items, key=lambda item: (item.component, item.kind, item.name))
    ]
    needed = plan.room.to_dict()
    room = [(_ROOM_OF[key], human_bytes(int(str(needed[f"{key}_bytes"])))) for key in _ROOM_OF]
    known = sum(item.size_bytes or 0 for item in plan.items)
    lines = [
        f"release {plan.release} (number {plan.number}), "
        + ("as locked" if plan.locked else "as upstream is now"),
        "",
        text_table(["kind", "name", "size", "needed by"], rows),
        "",
        f"{len(plan.items)} items, at most {human_bytes(known)}",
        "",
        text_table(["room needed on", "at most"], room),
    ]
    lines += ["", *plan.judgement.lines()]
    if plan.carried:
        lines += ["", f"{CARRIED}:", *(f"  {text}" for text in plan.carried)]
    if plan.unknown:
        lines += ["", "not known before locking:", *(f"  {text}" for text in plan.unknown)]
    return "\n".join(lines)


def _size(item: PlanItem) -> str:
    if item.kind == "dependency":
        return "in its chart"
    return "?" if item.size_bytes is None else human_bytes(item.size_bytes)
