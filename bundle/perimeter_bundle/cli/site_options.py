"""--site-facts and what goes with it, for the commands that work for one site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from perimeter_bundle.catalog.os_repositories import load_os_repositories
from perimeter_bundle.collect.site_lock import SiteRequest
from perimeter_bundle.format.site_facts import PrecompiledChoice, open_site_facts
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock

P = ParamSpec("P")
R = TypeVar("R")


def site_options(command: Callable[P, R]) -> Callable[P, R]:
    """--site-facts and --trust."""
    command = click.option(
        "--trust",
        "trust_path",
        type=click.Path(path_type=Path),
        help="The site's public key (.pub), or a folder of such; checks what the site signed.",
    )(command)
    return click.option(
        "--site-facts",
        "site_facts_path",
        type=click.Path(path_type=Path),
        help="What the hosts of the site are, as perimeter-install site-facts wrote it.",
    )(command)


precompiled_option = click.option(
    "--precompiled",
    type=click.Choice([choice.value for choice in PrecompiledChoice]),
    help="Driver modules compiled for the hosts' kernels.  [default: as the site asks]",
)


os_repositories_option = click.option(
    "--os-repositories",
    "os_repositories_path",
    type=click.Path(path_type=Path),
    help="Where packages of the hosts' systems are, for drivers that compile at the site.",
)


def site_request(
    facts_path: Path | None,
    trust_path: Path | None,
    precompiled: str | None = None,
    os_repositories_path: Path | None = None,
) -> SiteRequest | None:
    """The verified facts the options name; None without --site-facts.

    Raises InputError[bad-option], and what open_site_facts and Trust.load raise.
    """
    if facts_path is None:
        others = {
            "--trust": trust_path,
            "--precompiled": precompiled,
            "--os-repositories": os_repositories_path,
        }
        for name, value in others.items():
            if value is not None:
                raise InputError("bad-option", f"{name} means nothing without --site-facts")
        return None
    if trust_path is None:
        raise InputError(
            "bad-option",
            "--site-facts needs --trust",
            hint="it names the site's .pub file; a key that came with the facts proves nothing",
        )
    verified = open_site_facts(facts_path, Trust.load(trust_path))
    return SiteRequest(
        verified,
        PrecompiledChoice(precompiled) if precompiled else None,
        load_os_repositories(os_repositories_path) if os_repositories_path else (),
    )


def refuse_other_site(lock: Lock, request: SiteRequest | None, again: str) -> None:
    """Raises InputError[lock-mismatch] when ``lock`` was not written with these facts."""
    if request is None:
        return
    found = str(lock.site.facts) if lock.site else "none: it was written without --site-facts"
    if found != str(request.verified.digest):
        raise InputError(
            "lock-mismatch",
            "the lock was not written with these site facts",
            context={"facts of the lock": found, "facts given": request.verified.digest},
            hint=f"run {again} --site-facts FILE --trust PUB",
        )
