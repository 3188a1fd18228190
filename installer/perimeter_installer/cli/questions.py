"""The few questions init asks on a terminal; all on stderr, so that stdout stays the result's."""

from __future__ import annotations

from dataclasses import replace

import click

from perimeter_bundle.model.errors import InputError
from perimeter_installer.site.init import HostAnswer, SiteAnswers, parse_host


def ask_answers(answers: SiteAnswers, *, ask_dns: bool) -> SiteAnswers:
    """``answers`` with what was missing, asked of a person."""
    if not answers.name:
        answers = replace(answers, name=_ask("Name of the site", default="site"))
    if not answers.ssh_user:
        answers = replace(answers, ssh_user=_ask("User who logs in on the hosts", default="admin"))
        if not answers.ssh_key:
            key = _ask("Private key file (empty: the SSH agent)", default="")
            answers = replace(answers, ssh_key=key)
    if not answers.hosts:
        answers = replace(answers, hosts=_ask_hosts())
    if ask_dns and not answers.dns_servers:
        text = _ask("Name servers of the site, separated by blanks (empty: none)", default="")
        answers = replace(answers, dns_servers=tuple(text.split()))
    return answers


def _ask(question: str, *, default: str) -> str:
    answer = click.prompt(question, default=default, show_default=bool(default), err=True)
    return str(answer).strip()


def _ask_hosts() -> tuple[HostAnswer, ...]:
    click.echo(
        "Hosts, one a line: NAME=ADDRESS:GROUPS, such as"
        " n1=10.99.0.11:control_plane,worker,registry; an empty line ends.",
        err=True,
    )
    hosts: list[HostAnswer] = []
    while True:
        text = _ask(f"Host {len(hosts) + 1}", default="")
        if not text and hosts:
            return tuple(hosts)
        if text:
            try:
                hosts.append(parse_host(text))
            except InputError as error:  # a typing error ends nothing
                click.echo(f"{error.message}; {error.hint}", err=True)
