"""perimeter-install: from a carried bundle to a running site."""

from __future__ import annotations

import click

from perimeter_bundle import __version__
from perimeter_bundle.terminal.commands import Commands, Place
from perimeter_bundle.terminal.guard import run_guarded

_PLACES = {
    "init": Place(
        "perimeter_installer.cli.init_command:init",
        "Describe the site: write a commented site.yaml and pin the hosts' SSH keys.",
    ),
    "site-facts": Place(
        "perimeter_installer.cli.site_facts_command:site_facts",
        "Writes what the hosts are for the builder, signed; changes nothing on them.",
    ),
    "verify-volume": Place(
        "perimeter_installer.cli.volume_commands:verify_volume",
        "Is a volume, on its own, what was packed? The other volumes need not be there.",
    ),
    "repair": Place(
        "perimeter_installer.cli.volume_commands:repair",
        "Rebuild lost and scratched volumes from the others and the parity volumes.",
    ),
    "unpack": Place(
        "perimeter_installer.cli.volume_commands:unpack_volumes",
        "Put volumes together to the bundle they were cut from.",
    ),
    "verify": Place(
        "perimeter_installer.cli.verify_command:verify",
        "Is the bundle, byte for byte, what a trusted key signed?",
    ),
    "preflight": Place(
        "perimeter_installer.cli.preflight_command:preflight",
        "Are the hosts ready? Looks at all of them at once and changes nothing.",
    ),
    "load": Place(
        "perimeter_installer.cli.load_command:load",
        "Fill the site's registry with everything the bundle holds.",
    ),
    "apply": Place(
        "perimeter_installer.cli.apply_command:apply",
        "Install or upgrade the site to what the bundle holds.",
    ),
    "check": Place(
        "perimeter_installer.cli.check_command:check",
        "Does the site really work? Looks at hosts and cluster, and tries what users will do.",
    ),
    "status": Place(
        "perimeter_installer.cli.status_command:status",
        "What is installed, by whom and when, and how the cluster is now.",
    ),
    "inventory": Place(
        "perimeter_installer.cli.inventory_command:inventory",
        "Writes what the site's registry really holds for the builder, signed; changes nothing.",
    ),
}


@click.group(
    cls=Commands,
    places=_PLACES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="perimeter-install")
def cli() -> None:
    """Stands up a site behind an air gap from a signed bundle.

    \b
    The way, once:
      perimeter-install init       describe the site, pin the host keys
      perimeter-install site-facts what the hosts are, for the builder (GPUs)
      perimeter-install unpack     volumes to a bundle, when it came in volumes
      perimeter-install verify     is the bundle what its builder signed?
      perimeter-install preflight  are the hosts ready? changes nothing
      perimeter-install load       fill the site's registry
      perimeter-install apply      install or upgrade; a second run changes nothing
      perimeter-install check      does it really work?
      perimeter-install status     what is installed, how is it
      perimeter-install inventory  what the registry holds, for the builder (deltas)

    Every command takes --json and has its own --help with examples. --site, --bundle and --trust
    can also be set as PERIMETER_SITE, PERIMETER_BUNDLE and PERIMETER_TRUST.

    \b
    Exit statuses: 0 done, 1 something was found (preflight, check), 2 wrong option or file,
    3 network, 4 bytes are not the expected ones, 5 trust, 6 host, 7 cluster, 70 defect,
    130 interrupted.
    """


def main() -> None:
    """The program; exits."""
    run_guarded(cli)


if __name__ == "__main__":
    main()
