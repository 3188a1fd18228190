"""perimeter-bundle keygen and sign."""

from __future__ import annotations

from pathlib import Path

import click

from perimeter_bundle.cli.bundle_argument import bundle_argument, refuse_missing_bundle
from perimeter_bundle.format.layout import signature_path, sigstore_path
from perimeter_bundle.format.signature import generate_key, public_key_path, sign_bundle
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.terminal.options import Output, common_options

_password_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File whose first line is the password of the key.",
)


@click.command()
@click.option(
    "--out",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="Where to write the private key; the public one gets the suffix .pub.",
)
@_password_option
@common_options
def keygen(output: Output, key_path: Path, password_file: Path | None) -> None:
    """Makes a key pair to sign bundles with (ECDSA P-256).

    The private key stays on the builder. The public key is carried to the site by another way
    than the bundles, and put into the site's trust folder. Nothing is ever overwritten.

    \b
    Examples:
      perimeter-bundle keygen --out builder.key
      perimeter-bundle keygen --out builder.key --password-file /run/secrets/key-password
    """
    key = generate_key(key_path, _password(password_file))
    public = public_key_path(key_path)
    output.result(
        {"private_key": str(key_path), "public_key": str(public), "key_id": key.key_id},
        f"{key_path} (keep it secret) and {public}\n  key id {key.key_id}",
    )
    output.next_step(
        f"perimeter-bundle sign DIR --key {key_path}; carry {public} to the site by another way"
    )


@click.command()
@bundle_argument
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The private key, as keygen wrote it.",
)
@_password_option
@common_options
def sign(output: Output, bundle_path: Path, key_path: Path, password_file: Path | None) -> None:
    """Signs a finished bundle; every file is checked against SHA256SUMS before.

    Several people can sign one bundle. The signature can be checked with openssl alone
    (verify.sh), with cosign, and with perimeter-install verify.

    \b
    Examples:
      perimeter-bundle sign /srv/bundles/2026.11 --key builder.key
    """
    refuse_missing_bundle(bundle_path)
    password = _password(password_file)
    with output.reporter() as reporter:
        key_id = sign_bundle(bundle_path, key_path, password, on_event=reporter.on_event)
    files = [signature_path(key_id), sigstore_path(key_id)]
    output.result(
        {"bundle": str(bundle_path), "key_id": key_id, "signatures": files},
        f"{bundle_path}: signed\n" + "\n".join(f"  {name}" for name in files),
    )
    public = public_key_path(key_path)
    output.next_step(f"perimeter-bundle verify {bundle_path} --trust {public}, then carry it over")


def _password(path: Path | None) -> str | None:
    """The first line of the password file; never an option, which everybody could see."""
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("unreadable-password", f"cannot read {path}: {error}") from error
    return lines[0] if lines else ""
