"""The one place where the connected side starts a program.

Argument lists only, a clean environment, stdin closed, a time limit, and the whole process group
ended when the limit passes or the user interrupts.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import HostError

log = logging.getLogger(__name__)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHOWN_OUTPUT_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program that ended with status 0 wrote."""

    stdout: bytes
    stderr: bytes


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """PATH, language and a home that holds nothing of the user's, and ``extra``."""
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        **(extra or {}),
    }


def run_tool(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    what: str,
    input_bytes: bytes | None = None,
    hint: str | None = None,
) -> Completed:
    """Run a program in ``folder`` to its end; ``what`` says in errors what was attempted.

    Without ``input_bytes`` it reads an empty input. ``hint`` is what to do when it fails.
    Raises HostError[tool-missing], [tool-failed] with the end of its output, [tool-timeout].
    """
    words = [str(argument) for argument in arguments]
    log.debug("run in %s: %s", folder, shlex.join(words))
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL if input_bytes is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(
            "tool-missing",
            f"{what}: {words[0]} cannot be started: {error.strerror}",
            hint="is the folder on a file system mounted noexec?" if error.errno == 13 else None,
        ) from error
    try:
        stdout, stderr = process.communicate(input_bytes, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise HostError(
            "tool-timeout", f"{what}: {words[0]} did not end within {timeout_s:g} s"
        ) from error
    finally:
        _end_group(process)
    if process.returncode != 0:
        output = (stderr.strip() or stdout.strip())[-_SHOWN_OUTPUT_BYTES:]
        raise HostError(
            "tool-failed",
            f"{what}: {Path(words[0]).name} ended with status {process.returncode}",
            problems=output.decode("utf-8", "replace").splitlines(),
            hint=hint,
        )
    return Completed(stdout, stderr)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
