"""The key with which a site signs what it tells the builder, for commands that tell something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from perimeter_bundle.format.signature import generate_key
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_installer.site.model import Site

P = ParamSpec("P")
R = TypeVar("R")

WriteSigned = Callable[[Path, str | None], tuple[Path, str]]  # by key and password


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A key that is there, or with ``is_new`` will be made when it is first needed."""

    path: Path
    is_new: bool
    password: str | None = field(default=None, repr=False)

    def sign(self, out: Path, write: WriteSigned) -> tuple[Path, str]:
        """What ``write`` gives: path of the signature and id of the key.

        Raises what generate_key and ``write`` raise, and HostError[cannot-write] for ``out``.
        """
        if self.is_new:
            generate_key(self.path, self.password)
        try:
            return write(self.path, self.password)
        except OSError as error:
            raise HostError("cannot-write", f"cannot write {out}: {error.strerror}") from error


def site_key_options(command: Callable[P, R]) -> Callable[P, R]:
    """--key, --new-key and --key-password-file."""
    command = click.option(
        "--key-password-file",
        "key_password_file",
        type=click.Path(path_type=Path),
        help="File whose first line is the password of the key.",
    )(command)
    command = click.option(
        "--new-key", is_flag=True, help="Make the key first; it must not be there yet."
    )(command)
    return click.option(
        "--key",
        "key_path",
        type=click.Path(path_type=Path),
        help="The site's private key.  [default: site.key beside site.yaml]",
    )(command)


def site_key(
    site: Site, key_path: Path | None, password_file: Path | None, *, new_key: bool
) -> SiteKey:
    """The key of the options; raises InputError[no-site-key] or [unreadable-password]."""
    key = SiteKey(key_path or site.site_key_file, new_key, _password(password_file))
    if not new_key and not key.path.exists():
        raise InputError(
            "no-site-key",
            f"there is no key {key.path}",
            hint="--new-key makes one; it is not the key that signs bundles",
        )
    return key


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("unreadable-password", f"cannot read {path}: {error}") from error
    return lines[0] if lines else ""
