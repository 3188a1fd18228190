"""perimeter-install init: a commented site.yaml, pinned host keys, a vault key."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.terminal.console import stderr_console
from perimeter_bundle.terminal.options import Output, common_options
from perimeter_bundle.terminal.text import text_table
from perimeter_installer.cli.options import site_option
from perimeter_installer.cli.questions import ask_answers
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.init import (
    SiteAnswers,
    make_trust_folder,
    make_vault_key,
    parse_host,
    plan_site,
    write_site,
)
from perimeter_installer.site.load import load as load_site
from perimeter_installer.site.model import Site
from perimeter_installer.site.pin import SeenKey, look_at_keys, parse_fingerprints, pin


@dataclass(frozen=True, slots=True)
class Pinning:
    """How host keys become pinned; ``wanted`` false: not now."""

    wanted: bool
    expected: dict[str, str]
    yes: bool


@click.command()
@site_option
@click.option("--name", default="", help="Name of the site and its cluster.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME=ADDRESS:GROUPS",
    help="A host with its groups: registry, control_plane, worker, gpu. Give one for each.",
)
@click.option("--ssh-user", default="", help="User who logs in on every host.")
@click.option("--ssh-key", default="", help="Private key file.  [default: the SSH agent]")
@click.option("--pods", default="", help="Network of the pods.  [default: 10.244.0.0/16]")
@click.option("--services", default="", help="Network of services.  [default: 10.96.0.0/16]")
@click.option("--dns", multiple=True, metavar="ADDRESS", help="A name server of the site.")
@click.option("--no-dns", is_flag=True, help="The site has no name server.")
@click.option("--endpoint", default="", metavar="HOST:PORT", help="Virtual address of the API.")
@click.option("--registry-url", default="", help="Use a registry that exists.")
@click.option("--registry-ca", default="", help="The CA that signed its certificate.")
@click.option("--storage-path", default="", help="Where volumes lie on each worker.")
@click.option("--volume-size", default="", help="Size of each MinIO volume.  [default: 10Gi]")
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    metavar="HOST=SHA256:…",
    help="Pin this host's key only if it is this one.",
)
@click.option("--yes", is_flag=True, help="Pin the keys that the hosts offer without asking.")
@click.option("--pin", "pin_only", is_flag=True, help="Only pin the hosts of an existing site.")
@click.option("--no-pin", is_flag=True, help="Only write site.yaml; reach no host.")
@click.option("--force", is_flag=True, help="Write over an existing site.yaml.")
@common_options
def init(
    output: Output,
    /,
    site_path: Path,
    fingerprints: tuple[str, ...],
    yes: bool,
    pin_only: bool,
    no_pin: bool,
    force: bool,
    no_dns: bool,
    hosts: tuple[str, ...],
    **given: str | tuple[str, ...],
) -> None:
    """Describe the site: write a commented site.yaml and pin the hosts' SSH keys.

    Asks a few questions on a terminal for what no option says. Beside site.yaml it makes
    known_hosts, vault.key (keep a copy of it elsewhere) and an empty folder trust.

    A pinned key is never replaced: a host that offers another one is refused everywhere.

    \b
    Examples:
      perimeter-install init
      perimeter-install init --name plant --ssh-user admin --ssh-key ~/.ssh/id_ed25519 --no-dns \\
        --host n1=10.99.0.11:control_plane,worker,registry --host n2=10.99.0.12:worker \\
        --fingerprint n1=SHA256:uNiVztksCsDhcc0u9e8BrqXVe3HAtOOVo+dtjk8hXZE
      perimeter-install init --pin --site site.yaml       # a host was added to site.yaml
    """
    pinning = Pinning(not no_pin, parse_fingerprints(fingerprints), yes)
    if pin_only:
        if no_pin or hosts or any(given.values()):
            raise InputError("bad-option", "--pin takes an existing site.yaml as it is")
        site, text = load_site(site_path), ""
    else:
        if no_dns and given["dns"]:
            raise InputError("bad-option", "--dns and --no-dns exclude each other")
        answers = _answers(hosts, no_dns=no_dns, **given)
        text, site = plan_site(answers, site_path, force=force)
    known_hosts, seen = _pin(site, pinning)
    made = [site.path.name] if text else []
    if text:
        write_site(site, text)
    if seen:
        known_hosts.save(site.known_hosts_file)
        made.append(site.known_hosts_file.name)
    made += [site.vault_key_file.name] if make_vault_key(site) else []
    made += [f"{site.trust_folder.name}/"] if make_trust_folder(site) else []
    output.result(
        {
            "site": str(site.path),
            "made": made,
            "hosts": [each.to_dict() for each in seen],
        },
        f"wrote {', '.join(made)} in {site.folder}" if made else "nothing was to be done",
    )
    if site.vault_key_file.name in made and not output.quiet:
        stderr_console().print(
            f"keep a copy of {site.vault_key_file} elsewhere: without it the site's secrets are"
            " lost"
        )
    output.next_step(
        f"read {site_path}, put the builder's .pub file into {site.trust_folder}, then"
        f" perimeter-install verify --site {site_path} --bundle DIR"
    )


def _answers(hosts: Sequence[str], *, no_dns: bool, **given: str | tuple[str, ...]) -> SiteAnswers:
    """What the options say; what they leave open is asked on a terminal."""

    def one(name: str) -> str:
        value = given[name]
        return value if isinstance(value, str) else ""

    def several(name: str) -> tuple[str, ...]:
        value = given[name]
        return () if isinstance(value, str) else value

    answers = SiteAnswers(
        name=one("name"),
        hosts=tuple(map(parse_host, hosts)),
        ssh_user=one("ssh_user"),
        ssh_key=one("ssh_key"),
        pods=one("pods"),
        services=one("services"),
        dns_servers=several("dns"),
        endpoint=one("endpoint"),
        registry_url=one("registry_url"),
        registry_ca=one("registry_ca"),
        storage_path=one("storage_path"),
        volume_size=one("volume_size"),
    )
    if answers.name and answers.hosts and answers.ssh_user:
        return answers
    if not sys.stdin.isatty():
        needed = {"--name": answers.name, "--host": answers.hosts, "--ssh-user": answers.ssh_user}
        missing = ", ".join(name for name, value in needed.items() if not value)
        raise InputError(
            "missing-option", f"{missing} must be given", hint="on a terminal init asks for them"
        )
    return ask_answers(answers, ask_dns=not no_dns)


def _pin(site: Site, pinning: Pinning) -> tuple[KnownHosts, list[SeenKey]]:
    """The keys of all hosts, agreed to by a person, an option or a fingerprint."""
    known_hosts = KnownHosts.load(site.known_hosts_file)
    if not pinning.wanted:
        return known_hosts, []
    seen = look_at_keys(site, known_hosts, pinning.expected)
    stderr_console().print(_table(seen))
    open_questions = [each.host for each in seen if not each.pinned and not each.expected]
    if open_questions and not pinning.yes:
        if not sys.stdin.isatty():
            raise InputError(
                "unconfirmed-host-keys",
                f"nobody confirmed the host keys of {', '.join(open_questions)}; nothing written",
                hint="compare the fingerprints on the hosts' consoles, then give --fingerprint for"
                " each, or --yes",
            )
        click.confirm("Are these the keys of your hosts?", abort=True, err=True)
    return pin(known_hosts, seen), seen


def _table(seen: Sequence[SeenKey]) -> str:
    def state(each: SeenKey) -> str:
        if each.pinned:
            return "pinned before"
        return "as you said" if each.expected else "new: compare it on the host's console"

    rows = [(each.host, each.address, str(each.key), state(each)) for each in seen]
    return text_table(("host", "address", "host key", ""), rows)
