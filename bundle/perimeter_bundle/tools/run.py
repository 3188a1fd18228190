"""The one place where the connected side starts a program.

Argument lists only, a clean environment, stdin closed, a time limit, and the whole process group
ended when the limit passes or the user interrupts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from perimeter_bundle.model.errors import HostError

log = logging.getLogger(__name__)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHOWN_OUTPUT_BYTES = 2000
_STOP_CHECK_S = 0.5
_KEPT_OUTPUT_BYTES = 1024 * 1024
_TICK_S = 1.0


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
    file_limit_bytes: int | None = None,
    check_stop: Callable[[], None] | None = None,
) -> Completed:
    """Run a program in ``folder`` to its end; ``what`` says in errors what was attempted.

    Without ``input_bytes`` it reads an empty input. ``hint`` is what to do when it fails. With
    ``file_limit_bytes`` neither its output nor any file it writes grows past that, and
    ``check_stop`` may raise to end it early.
    Raises HostError[tool-missing], [tool-failed] with the end of its output, [tool-timeout],
    [tool-output] past the limit.
    """
    words = [str(argument) for argument in arguments]
    log.debug("run in %s: %s", folder, shlex.join(words))
    if file_limit_bytes is not None:
        limits = _Limits(timeout_s, file_limit_bytes, check_stop)
        return _run_limited(words, folder, environment, limits, what, hint)
    process = _start(
        words,
        folder,
        environment,
        what,
        subprocess.DEVNULL if input_bytes is None else subprocess.PIPE,
        (subprocess.PIPE, subprocess.PIPE),
    )
    stdout, stderr = _ended(process, input_bytes, timeout_s, what, words[0])
    _refuse_failed(process.returncode, stdout, stderr, what, words[0], hint)
    return Completed(stdout, stderr)


@dataclass(frozen=True, slots=True)
class _Limits:
    timeout_s: float
    file_bytes: int
    check_stop: Callable[[], None] | None


def _run_limited(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    limits: _Limits,
    what: str,
    hint: str | None,
) -> Completed:
    # the kernel holds the limit, for this program and all it starts; its output is a file too
    blocks = str(max(1, limits.file_bytes // 512))
    limited = ["/bin/sh", "-c", 'ulimit -c 0; ulimit -f "$1"; shift; exec "$@"', "sh", blocks]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = _start(
            [*limited, *words], folder, environment, what, subprocess.DEVNULL, (out, err)
        )
        _wait(process, limits, what, words[0])
        out.seek(0)
        stdout = out.read()
        err.seek(0)
        stderr = err.read()
    if process.returncode in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
        raise HostError(
            "tool-output", f"{what}: {words[0]} wrote more than {limits.file_bytes} bytes"
        )
    if process.returncode == 127:
        raise HostError("tool-missing", f"{what}: {words[0]} cannot be started")
    _refuse_failed(process.returncode, stdout, stderr, what, words[0], hint)
    return Completed(stdout, stderr)


def _start(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    what: str,
    stdin: int,
    outputs: tuple[int | IO[bytes], int | IO[bytes]],
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=stdin,
            stdout=outputs[0],
            stderr=outputs[1],
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(
            "tool-missing",
            f"{what}: {words[0]} cannot be started: {error.strerror}",
            hint="is the folder on a file system mounted noexec?" if error.errno == 13 else None,
        ) from error


def _ended(
    process: subprocess.Popen[bytes],
    input_bytes: bytes | None,
    timeout_s: float,
    what: str,
    program: str,
) -> tuple[bytes, bytes]:
    try:
        return process.communicate(input_bytes, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise HostError(
            "tool-timeout", f"{what}: {program} did not end within {timeout_s:g} s"
        ) from error
    finally:
        _end_group(process)


def _wait(process: subprocess.Popen[bytes], limits: _Limits, what: str, program: str) -> None:
    ends = time.monotonic() + limits.timeout_s
    try:
        while True:
            try:
                process.wait(_STOP_CHECK_S)
            except subprocess.TimeoutExpired as error:
                if limits.check_stop:
                    limits.check_stop()
                if time.monotonic() > ends:
                    raise HostError(
                        "tool-timeout",
                        f"{what}: {program} did not end within {limits.timeout_s:g} s",
                    ) from error
            else:
                return
    finally:
        _end_group(process)


def _refuse_failed(
    status: int, stdout: bytes, stderr: bytes, what: str, program: str, hint: str | None
) -> None:
    if status != 0:
        output = (stderr.strip() or stdout.strip())[-_SHOWN_OUTPUT_BYTES:]
        raise HostError(
            "tool-failed",
            f"{what}: {Path(program).name} ended with status {status}",
            problems=output.decode("utf-8", "replace").splitlines(),
            hint=hint,
        )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a long-running program ended, well or not, and what it wrote."""

    status: int
    stdout: str
    stderr: str


def run_long(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    what: str,
    on_tick: Callable[[float, str], None],
) -> Ended:
    """Run a program that takes minutes; every second ``on_tick`` gets the seconds it has run and
    what it wrote to stderr until then.

    Raises HostError[tool-missing], [tool-timeout]; a status is for the caller to judge.
    """
    words = [str(argument) for argument in arguments]
    log.debug("run in %s: %s", folder, shlex.join(words))
    # files, not pipes: nothing must be read for the program to go on
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(
                "tool-missing", f"{what}: {words[0]} cannot be started: {error.strerror}"
            ) from error
        began_s = time.monotonic()
        try:
            while process.poll() is None:
                passed_s = time.monotonic() - began_s
                if passed_s > timeout_s:
                    raise HostError(
                        "tool-timeout", f"{what}: {words[0]} did not end within {timeout_s:g} s"
                    )
                on_tick(passed_s, _all_of(err))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_TICK_S)
        finally:
            _end_group(process)
        return Ended(process.returncode, _all_of(out), _all_of(err))


def _all_of(stream: IO[bytes]) -> str:
    size = os.fstat(stream.fileno()).st_size
    start = max(0, size - _KEPT_OUTPUT_BYTES)
    # its own position is the program's: read beside it
    return os.pread(stream.fileno(), size - start, start).decode("utf-8", "replace")
