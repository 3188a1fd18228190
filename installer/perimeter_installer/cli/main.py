"""perimeter-install: from a carried bundle to a running site."""

from __future__ import annotations

import click

from perimeter_bundle import __version__
from perimeter_bundle.terminal.commands import Commands
from perimeter_bundle.terminal.guard import run_guarded

_PLACES = {
    "init": "perimeter_installer.cli.init_command:init",
    "site-facts": "perimeter_installer.cli.site_facts_command:site_facts",
    "verify-volume": "perimeter_installer.cli.volume_commands:verify_volume",
    "repair": "perimeter_installer.cli.volume_commands:repair",
    "unpack": "perimeter_installer.cli.volume_commands:unpack_volumes",
    "verify": "perimeter_installer.cli.verify_command:verify",
    "preflight": "perimeter_installer.cli.preflight_command:preflight",
    "load": "perimeter_installer.cli.load_command:load",
    "apply": "perimeter_installer.cli.apply_command:apply",
    "check": "perimeter_installer.cli.check_command:check",
    "status": "perimeter_installer.cli.status_command:status",
    "inventory": "perimeter_installer.cli.inventory_command:inventory",
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
