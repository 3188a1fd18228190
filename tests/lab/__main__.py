"""``python -m tests.lab``: build up a lab, look at it, break it, take it down."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from .lab import Lab, clean, status
from .state import LabError, StateFolder

NODE_VERBS = ("start", "stop", "kill", "crash", "reboot", "pause", "resume", "cut", "heal")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="build up a lab with fresh disks; clears a former one")
    up.add_argument("--nodes", type=int, default=3, help="closed nodes besides the jump host")
    up.add_argument("--gateway", choices=["none", "blackhole"], default="none")
    up.add_argument("--keep-disks", action="store_true", help="boot the disks of the last lab")
    verbs.add_parser("down", help="shut down in order; the disks stay")
    verbs.add_parser("clean", help="switch off at once and remove everything")
    verbs.add_parser("status", help="nodes with address, state, memory and disk")
    verbs.add_parser("escapes", help="packets that tried to leave the closed side, as JSON")
    upstream = verbs.add_parser("upstream", help="serve a content folder to the builder")
    upstream.add_argument("content", type=Path)
    upstream.add_argument("--wheels", type=Path, help="folder of wheels for the package index")
    shell = verbs.add_parser("shell", help="a shell in a node")
    shell.add_argument("node")
    run = verbs.add_parser("run", help="run a command in a node")
    run.add_argument("node")
    run.add_argument("--user", default="root")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    carry = verbs.add_parser("carry", help="carry a folder by hand from node to node")
    carry.add_argument("source", metavar="NODE:PATH")
    carry.add_argument("target", metavar="NODE:PATH")
    fill = verbs.add_parser("fill", help="fill a node's disk")
    fill.add_argument("node")
    fill.add_argument("--keep-free", type=int, default=0, metavar="BYTES")
    verbs.add_parser("free", help="undo fill").add_argument("node")
    for verb in NODE_VERBS:
        verbs.add_parser(verb, help=f"{verb} a node").add_argument("node")
    return top


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    state = StateFolder.from_environment()
    try:
        return _do(options, state)
    except LabError as err:
        print(f"lab: error: {err}", file=sys.stderr)
        return 1


def _do(options: argparse.Namespace, state: StateFolder) -> int:
    verb = options.verb
    if verb == "up":
        Lab.up(options.nodes, options.gateway, keep_disks=options.keep_disks, state=state)
    elif verb == "clean":
        for trace in clean(state):
            print(f"removed {trace}")
        return 0
    elif verb == "down":
        Lab.down_anyway(state)
    elif verb == "status":
        pass
    else:
        return _with_lab(options, Lab.attach(state))
    _print_status(state)
    return 0


def _with_lab(options: argparse.Namespace, lab: Lab) -> int:
    verb = options.verb
    if verb == "escapes":
        print(json.dumps(lab.closed_side_escapes(), indent=1))
    elif verb == "upstream":
        print("\n".join(lab.start_upstream(options.content, options.wheels)))
    elif verb == "carry":
        (source, path), (target, destination) = (
            text.split(":", 1) for text in (options.source, options.target)
        )
        lab.carry(path, source, target, destination)
    elif verb == "shell":
        return lab.node(options.node).shell()
    elif verb == "run":
        return _run(options, lab)
    elif verb == "fill":
        print(lab.node(options.node).fill_disc("/", options.keep_free))
    elif verb == "free":
        lab.node(options.node).free_disc()
    else:
        getattr(lab.node(options.node), verb)()
    return 0


def _run(options: argparse.Namespace, lab: Lab) -> int:
    """The command's own input and output, so that it can stand in a pipe."""
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    argv = lab.node(options.node).host_argv(words, user=options.user)
    return subprocess.run(argv, check=False).returncode


def _print_status(state: StateFolder) -> None:
    for row in status(state):
        memory, disk = row["memory_bytes"] >> 20, row["disk_bytes"] >> 20
        place = f"{row['name']:<9}{row['address']:<14}{row['state']:<7}"
        print(f"{place} memory {memory:>5} MiB  disk {disk:>6} MiB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
