"""A program of ours, killed at several moments and then left to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

END_S = 60


def kill_at_moments(
    program: str, words: Sequence[str], naps_ms: Sequence[int], look: Callable[[], None]
) -> int:
    """How many runs were killed; after ``naps_ms`` one more ends by itself, with status 0.

    ``program`` is Python text that prints ``ready`` when it begins. ``look`` is called after each.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = 0
    for nap_s in (*(nap / 1000 for nap in naps_ms), END_S):
        argv = [sys.executable, "-c", program, *words]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            try:
                process.wait(nap_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
        look()
    assert process.returncode == 0
    return killed
