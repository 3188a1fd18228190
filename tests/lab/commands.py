"""How a command in a node is followed to its end, and how files go through a pipe."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from .host import CLEAN_ENVIRONMENT
from .state import LabError

OnLine = Callable[[str], None]


def line_printer(name: str) -> OnLine:
    return lambda line: print(f"{name}| {line}", file=sys.stderr, flush=True)


def communicate(
    process: subprocess.Popen[str], input: str | None, timeout_s: float, on_line: OnLine | None
) -> tuple[str, str, bool]:
    """Collect both outputs; the last value tells whether the process ended in time."""
    kept: dict[str, list[str]] = {"out": [], "err": []}

    def collect(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            if on_line:
                on_line(line.rstrip("\n"))

    assert process.stdout and process.stderr
    threads = [
        threading.Thread(target=collect, args=(process.stdout, kept["out"]), daemon=True),
        threading.Thread(target=collect, args=(process.stderr, kept["err"]), daemon=True),
    ]
    for thread in threads:
        thread.start()
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(input or "")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    in_time = True
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        in_time = False
        _end_session(process)
    _join(threads, lambda: len(kept["out"]) + len(kept["err"]))
    return "".join(kept["out"]), "".join(kept["err"]), in_time


def _join(threads: list[threading.Thread], progress: Callable[[], int]) -> None:
    """Wait for the readers while they read; a daemon of the command may hold the pipes open."""
    before = -1
    while any(thread.is_alive() for thread in threads) and progress() != before:
        before = progress()
        for thread in threads:
            thread.join(1.0)


def _end_session(process: subprocess.Popen[str]) -> None:
    """End the command in the node too: it shares the session of the nsenter that started it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(1.0)
            time.sleep(0.2)
        except subprocess.TimeoutExpired:
            continue


def unpack_argv(name: str, target: str) -> list[str]:
    """Unpack an archive of one entry ``name`` so that it becomes ``target``."""
    script = (
        'set -e; mkdir -p "$(dirname "$2")"; tmp=$(mktemp -d -p "$(dirname "$2")");'
        ' tar -C "$tmp" --no-same-owner -xf -;'
        ' if [ -d "$tmp/$1" ] && [ -d "$2" ]; then cp -a "$tmp/$1/." "$2/";'
        ' else mv -fT "$tmp/$1" "$2"; fi; rm -rf "$tmp"'
    )
    return ["sh", "-c", script, "sh", name, target.rstrip("/")]


def pipe(producer: list[str], consumer: list[str], timeout_s: float = 1800.0) -> None:
    """Run ``producer | consumer``; both must succeed."""
    env = CLEAN_ENVIRONMENT
    with subprocess.Popen(producer, stdout=subprocess.PIPE, env=env) as packing:
        done = subprocess.run(
            consumer, stdin=packing.stdout, capture_output=True, timeout=timeout_s, env=env
        )
        assert packing.stdout
        packing.stdout.close()
    if done.returncode != 0 or packing.returncode != 0:
        text = done.stderr.decode(errors="replace").strip()
        raise LabError(f"copy failed: {shlex.join(producer[-6:])}: {text}")
