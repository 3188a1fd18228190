"""``make demo``: from nothing to a running, verified site in the lab, with times.

Leaves the lab up; ``make demo-down`` takes it away.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from .content import assemble
from .lab import Lab, clean
from .network import Gateway
from .scenario import SITE, Scenario
from .state import REPOSITORY, LabError, StateFolder, cache_folder
from .wheels import wheel_folder

REPORT_FOLDER = REPOSITORY / "build" / "demo"


def show(line: str) -> None:
    """Output of a command in a node, indented under its step."""
    print(f"    {line}", flush=True)


def step(number: int, title: str, action: Callable[[], object]) -> None:
    """Run one step of the demo and say how long it took."""
    print(f"\n[{number}] {title}", flush=True)
    begin = time.monotonic()
    action()
    print(f"[{number}] done in {time.monotonic() - begin:.0f} s", flush=True)


def up(gateway: Gateway) -> None:
    """Every step of the road, in order."""
    begin = time.monotonic()
    lab: list[Lab] = []
    content: list[Path] = []
    step(1, "real programs, images and charts for the lab's upstream (cached)",
         lambda: content.append(assemble()))  # fmt: skip
    wheels = wheel_folder(cache_folder())
    step(2, "servers: builder | jump n1 n2 n3, with no path between the two sides",
         lambda: lab.append(Lab.up(3, gateway)))  # fmt: skip
    lab[0].start_upstream(content[0], wheels.folder)
    road = Scenario(lab[0], wheels, on_line=show)
    step(3, "builder: install perimeter-bundle, lock, plan, build, sign, verify",
         road.build_signed_bundle)  # fmt: skip
    step(4, "carry the bundle to the jump host by hand", road.carry)
    step(5, "jump host: verify.sh with openssl and sha256sum, then bootstrap.sh",
         lambda: (road.verify_script(), road.bootstrap()))  # fmt: skip
    step(6, "perimeter-install init, verify, preflight",
         lambda: (road.init(), road.install("verify"), road.install("preflight")))  # fmt: skip
    step(7, "perimeter-install load", lambda: road.install("load"))
    step(8, "perimeter-install apply", lambda: road.install("apply"))
    step(9, "perimeter-install check", lambda: road.install("check"))
    report = road.fetch_report(REPORT_FOLDER)
    road.install("status", bundle=False)
    escapes = lab[0].closed_side_escapes()
    print(f"\npackets that tried to leave the closed side: {escapes}")
    print(f"report: {report}")
    print(f"whole demo: {time.monotonic() - begin:.0f} s")
    print("\nlook around:  .venv/bin/python -m tests.lab run jump -- "
          f"perimeter-install status --site {SITE}")  # fmt: skip
    print("take it away: make demo-down")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    parser.add_argument("verb", choices=["up", "down"])
    parser.add_argument("--gateway", choices=get_args(Gateway), default="none")
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        print(
            "demo: error: run it as root; it makes servers in network namespaces", file=sys.stderr
        )
        return 2
    try:
        if options.verb == "up":
            up(options.gateway)
        else:
            found = clean(StateFolder.from_environment())
            print(f"the lab is gone ({len(found)} traces removed)" if found else "no lab was up")
    except LabError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
