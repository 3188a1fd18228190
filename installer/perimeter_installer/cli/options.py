"""Options that several commands share, and how a command gets at its bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import BlobBytes, VerifiedBundle, open_bundle
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.terminal.options import Output
from perimeter_installer.site.model import TRUST_FOLDER

P = ParamSpec("P")
R = TypeVar("R")

SYSTEM_TRUST = Path("/etc/perimeter/trust")

site_option = click.option(
    "--site",
    "site_path",
    type=click.Path(path_type=Path),
    default=Path("site.yaml"),
    show_default=True,
    envvar="PERIMETER_SITE",
    help="The file that describes the site.",
)


def bundle_option(*, required: bool) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """``--bundle``: the folder that was carried in."""
    return click.option(
        "--bundle",
        "bundle_path",
        type=click.Path(path_type=Path),
        required=required,
        envvar="PERIMETER_BUNDLE",
        help="The folder that was carried in.",
    )


volumes_option = click.option(
    "--volumes",
    type=click.Path(path_type=Path),
    multiple=True,
    envvar="PERIMETER_VOLUMES",
    help="Volumes that hold what the folder lacks: a file, or a folder of them; may be repeated.",
)

trust_option = click.option(
    "--trust",
    "trust_path",
    type=click.Path(path_type=Path),
    envvar="PERIMETER_TRUST",
    help="Folder of trusted public keys, or one .pub file."
    f"  [default: trust beside site.yaml, else {SYSTEM_TRUST}]",
)

allow_older_option = click.option(
    "--allow-older", is_flag=True, help="Accept a release older than what is installed."
)

password_option = click.option(
    "--vault-password-file",
    "password_file",
    type=click.Path(path_type=Path),
    help="File with the password of the site's vault.  [default: vault.key beside site.yaml]",
)


def trust_at(trust_path: Path | None, site_path: Path, *, system: Path = SYSTEM_TRUST) -> Trust:
    """The keys this site trusts: the option, else beside site.yaml, else the machine's own."""
    if trust_path is not None:
        return Trust.load(trust_path)
    beside = site_path.absolute().parent / TRUST_FOLDER
    has_keys = beside.is_dir() and any(beside.iterdir())
    return Trust.load(system if not has_keys and system.is_dir() else beside)


def verified(
    output: Output,
    bundle_path: Path,
    trust_path: Path | None,
    site_path: Path,
    *,
    volumes: Sequence[Path] = (),
    allow_older: bool = False,
) -> VerifiedBundle:
    """The bundle, verified now; its blobs, which are nearly all of it, as they are used.

    No earlier verification is believed: whoever can write to the bundle could write a stamp too.
    """
    trust = trust_at(trust_path, site_path)
    refuse_missing_bundle(bundle_path)
    with output.reporter() as reporter:
        return open_bundle(
            bundle_path,
            trust,
            volumes=volumes,
            allow_older=allow_older,
            blobs=BlobBytes.LATER,
            on_event=reporter.on_event,
        )


def same_bundle(site_path: Path, bundle_path: Path, volumes: Sequence[Path] = ()) -> str:
    """The options that name site and bundle, for the command that comes next."""
    more = "".join(f" --volumes {one}" for one in volumes)
    return f"--site {site_path} --bundle {bundle_path}{more}"


def refuse_missing_bundle(bundle_path: Path) -> None:
    """Raises InputError[no-bundle] when there is no such folder."""
    if not bundle_path.is_dir():
        raise InputError(
            "no-bundle",
            f"there is no folder {bundle_path}",
            hint="--bundle names the folder that was carried in, the one with verify.sh",
        )
