"""perimeter-install site-facts: what the hosts are, for the builder, signed by the site."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.format.signature import public_key_path
from perimeter_bundle.format.signed_file import signature_file
from perimeter_bundle.format.site_facts import (
    SITE_FACTS_FILE,
    SiteFacts,
    write_site_facts,
)
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import text_table
from perimeter_installer.cli.options import site_option
from perimeter_installer.cli.site_key import site_key, site_key_options
from perimeter_installer.preflight.gather import gather
from perimeter_installer.preflight.site_facts import site_facts_of
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.load import load as load_site


@click.command("site-facts")
@site_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(SITE_FACTS_FILE),
    show_default=True,
    help="Where to write the facts; the signature gets the suffix .sig.",
)
@site_key_options
@common_options
def site_facts(
    output: Output,
    /,
    site_path: Path,
    out: Path,
    key_path: Path | None,
    new_key: bool,
    key_password_file: Path | None,
) -> None:
    """Writes what the hosts are for the builder, signed; changes nothing on them.

    Operating system, kernel, architecture, GPUs and room of each host: with them
    perimeter-bundle lock --site-facts takes the GPU driver that fits. The file holds names of hosts
    and no address; read it before it leaves the site. Carry it with its .sig, and the site's .pub
    file once, by another way.

    \b
    Examples:
      perimeter-install site-facts --site site.yaml --new-key
      perimeter-install site-facts --site site.yaml --out /media/stick/site-facts.json
    """
    site = load_site(site_path)
    key = site_key(site, key_path, key_password_file, new_key=new_key)
    known_hosts = KnownHosts.load(site.known_hosts_file)
    with output.reporter() as reporter:
        facts = site_facts_of(site, gather(site, known_hosts, on_event=reporter.on_event))
    signature, key_id = key.sign(
        out, lambda path, password: write_site_facts(facts, out, path, password)
    )
    public = public_key_path(key.path)
    output.result(
        {
            "out": str(out),
            "signature": str(signature),
            "key_id": key_id,
            "public_key": str(public),
            "new_key": new_key,
            "profiles": [
                {"name": profile.name, "hosts": [host.name for host in profile.hosts]}
                for profile in facts.profiles
            ],
        },
        _text(facts, out, key_id),
    )
    output.next_step(
        f"carry {out} and {signature_file(out).name} to the builder; there: perimeter-bundle lock"
        f" RELEASE --site-facts {out.name} --trust {public.name}"
    )


def _text(facts: SiteFacts, out: Path, key_id: str) -> str:
    rows = [
        (
            profile.name,
            profile.host_names,
            profile.machine.text,
            ", ".join(f"{gpu.count} × {gpu.name or gpu.device}" for gpu in profile.machine.gpus)
            or "none",
        )
        for profile in facts.profiles
    ]
    table = text_table(["profile", "hosts", "system", "GPUs"], rows)
    return f"{table}\n\n{out}: signed\n  key id {key_id}"
