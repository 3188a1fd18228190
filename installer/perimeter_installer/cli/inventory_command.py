"""perimeter-install inventory: what the registry holds, for the builder, signed by the site."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from perimeter_bundle.format.inventory import INVENTORY_FILE, Inventory, write_inventory
from perimeter_bundle.format.signature import public_key_path
from perimeter_bundle.model.events import OnEvent
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import human_bytes, text_table
from perimeter_installer.cli.options import password_option, refuse_missing_bundle, site_option
from perimeter_installer.cli.site_key import site_key, site_key_options
from perimeter_installer.inventory.client import ReadClient
from perimeter_installer.inventory.loaded import Loaded, carried, remembered
from perimeter_installer.inventory.take import Held, combine, known_names, look_at
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.endpoints import endpoints
from perimeter_installer.run.audit import now_text
from perimeter_installer.run.secrets import open_secrets
from perimeter_installer.run.state import State
from perimeter_installer.site.load import load as load_site
from perimeter_installer.site.model import Site


@click.command()
@site_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(INVENTORY_FILE),
    show_default=True,
    help="Where to write the inventory; the signature gets the suffix .sig.",
)
@click.option(
    "--bundle",
    "bundle_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Ask for what this bundle names too, for a registry that lists nothing; may be repeated.",
)
@click.option("--deep", is_flag=True, help="Read and hash every blob, not only ask for it.")
@site_key_options
@password_option
@common_options
def inventory(
    output: Output,
    /,
    site_path: Path,
    out: Path,
    bundle_paths: tuple[Path, ...],
    deep: bool,
    key_path: Path | None,
    new_key: bool,
    key_password_file: Path | None,
    password_file: Path | None,
) -> None:
    """Writes what the site's registry really holds for the builder, signed; changes nothing.

    Every replica is asked for its repositories, tags and manifests, and for each blob they need.
    What all replicas hold counts; what some lack is named. With the file perimeter-bundle build
    --against leaves out of the next bundle what is here already. The file holds names of replicas,
    repositories and digests, and no address; read it before it leaves the site. Carry it with its
    .sig, and the site's .pub file once, by another way.

    \b
    Examples:
      perimeter-install inventory --site site.yaml --out /media/stick/inventory.json
      perimeter-install inventory --new-key --deep
      perimeter-install inventory --bundle /media/disc/2026.11
    """
    site = load_site(site_path)
    key = site_key(site, key_path, key_password_file, new_key=new_key)
    for path in bundle_paths:
        refuse_missing_bundle(path)
    with output.reporter() as reporter:
        loaded = (*remembered(State.of(site), reporter.on_event), *carried(bundle_paths))
        secrets = open_secrets(
            site, password_file=password_file, check=True, on_event=reporter.on_event
        )
        found = take(site, endpoints(site, secrets), loaded, deep=deep, on_event=reporter.on_event)
    signature, key_id = key.sign(
        out, lambda path, password: write_inventory(found, out, path, password)
    )
    public = public_key_path(key.path)
    output.result(
        {
            "out": str(out),
            "signature": str(signature),
            "key_id": key_id,
            "public_key": str(public),
            "new_key": new_key,
            "replicas": list(found.replicas),
            "repositories": len(found.repositories),
            "blobs": len(found.blobs),
            "bytes": sum(found.blobs.values()),
            "hashed": found.hashed,
            "releases": [one.to_dict() for one in found.releases],
            "uneven": [str(one) for one in found.uneven],
        },
        _text(found, out, key_id),
    )
    output.next_step(
        f"carry {out} and {signature.name} to the builder; there: perimeter-bundle build RELEASE"
        f" --out DIR --against {out.name} --trust {public.name}"
    )


def take(
    site: Site,
    replicas: tuple[RegistryEndpoint, ...],
    loaded: tuple[Loaded, ...],
    *,
    deep: bool,
    on_event: OnEvent,
) -> Inventory:
    """The inventory of these replicas; raises what ``look_at`` raises."""
    known = known_names(one.manifest for one in loaded)
    held: list[Held] = []
    for replica in replicas:
        with closing(ReadClient(replica)) as client:
            held.append(look_at(client, known, deep=deep, on_event=on_event))
    return combine(site.name, now_text(), held, {one.release for one in loaded}, deep=deep)


def _text(found: Inventory, out: Path, key_id: str) -> str:
    rows = [
        (one.name, str(len(one.blobs)), human_bytes(sum(one.blobs.values())))
        for one in found.repositories
    ]
    blobs = found.blobs
    lines = [
        text_table(["repository", "blobs", "size"], rows),
        "",
        f"{len(blobs)} blobs, {human_bytes(sum(blobs.values()))}, on {', '.join(found.replicas)}"
        + (", each read and hashed" if found.hashed else ""),
    ]
    if found.uneven:
        lines += ["", "not on every replica, so not counted (load again mends it):"]
        lines += [f"  {one}" for one in found.uneven]
    return "\n".join([*lines, "", f"{out}: signed", f"  key id {key_id}"])
