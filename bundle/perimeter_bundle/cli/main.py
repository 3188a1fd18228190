"""perimeter-bundle: from a release in the catalog to a signed bundle."""

from __future__ import annotations

import click

from perimeter_bundle import __version__
from perimeter_bundle.terminal.commands import Commands, Place
from perimeter_bundle.terminal.guard import run_guarded

_PLACES = {
    "discover": Place(
        "perimeter_bundle.cli.discover_command:discover",
        "Which images Kubernetes objects will pull, each with the places that say so.",
    ),
    "plan": Place(
        "perimeter_bundle.cli.plan_command:plan",
        "Shows what will be collected and how much room each machine needs.",
    ),
    "lock": Place(
        "perimeter_bundle.cli.lock_command:lock",
        "Resolves every name of a release to a digest and writes images.lock.",
    ),
    "diff": Place(
        "perimeter_bundle.cli.diff_command:diff",
        "Shows what changes from one lock to another: versions, what comes, what goes.",
    ),
    "why": Place(
        "perimeter_bundle.cli.why_command:why",
        "Tells why an image is carried: component, rule, object and field.",
    ),
    "build": Place(
        "perimeter_bundle.cli.build_command:build",
        "Fetches everything a lock pins and makes a bundle of it.",
    ),
    "keygen": Place(
        "perimeter_bundle.cli.sign_commands:keygen",
        "Makes a key pair to sign bundles with (ECDSA P-256).",
    ),
    "sign": Place(
        "perimeter_bundle.cli.sign_commands:sign",
        "Signs a finished bundle; every file is checked against SHA256SUMS before.",
    ),
    "verify": Place(
        "perimeter_bundle.cli.verify_command:verify",
        "Is the bundle, byte for byte, what a trusted key signed?",
    ),
    "inspect": Place(
        "perimeter_bundle.cli.inspect_command:inspect",
        "Lists what a bundle says it carries: source, size, licence and reason of each item.",
    ),
    "pack": Place(
        "perimeter_bundle.cli.pack_command:pack_bundle",
        "Cuts a signed bundle into volumes that fit a medium; each is a plain tar file.",
    ),
    "verify-volume": Place(
        "perimeter_bundle.cli.verify_volume_command:verify_volume",
        "Is a volume, on its own, what was packed? The other volumes need not be there.",
    ),
    "repair": Place(
        "perimeter_bundle.cli.repair_command:repair",
        "Rebuilds lost and scratched volumes from the others and the parity volumes.",
    ),
}


@click.group(
    cls=Commands,
    places=_PLACES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="perimeter-bundle")
def cli() -> None:
    """Collects a release on a connected machine into one signed bundle.

    \b
    The way, once:
      perimeter-bundle discover FILE              which images any rendered file needs, and why
      perimeter-bundle plan 2026.11               what will be collected, and room needed
      perimeter-bundle lock 2026.11               names → digests → images.lock; review it
      perimeter-bundle diff OLD NEW               what changed since the lock before
      perimeter-bundle why IMAGE                  which component, object and field asks for it
      perimeter-bundle build 2026.11 --out DIR    only what is locked; can be interrupted
      perimeter-bundle keygen --out builder.key   once; carry builder.pub to the site
      perimeter-bundle sign DIR --key builder.key
      perimeter-bundle verify DIR --trust builder.pub
      perimeter-bundle inspect DIR                what is inside, under which licences
      perimeter-bundle pack DIR --out VOLUMES --volume-size 25G   for media smaller than the bundle
      perimeter-bundle verify-volume FILE --trust builder.pub     one volume alone
      perimeter-bundle repair VOLUMES             lost volumes, from parity volumes

    Every command takes --json and has its own --help with examples.

    \b
    Exit statuses: 0 done, 2 wrong option or file, 3 network, 4 bytes are not the expected ones,
    5 trust, 6 this machine lacks something, 70 defect, 130 interrupted.
    """


def main() -> None:
    """The program; exits."""
    run_guarded(cli)


if __name__ == "__main__":
    main()
