"""The audit log: who ran which command on which bundle, when, and how it ended."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from perimeter_bundle.model.errors import PerimeterError
from perimeter_installer.run.journal import append_line
from perimeter_installer.run.state import State


@dataclass(frozen=True, slots=True)
class Audit:
    """One command on its way into the log."""

    command: str  # apply, load, apply --check …; never with a secret in it
    release: str
    bundle: str  # digest of SHA256SUMS
    user: str


@contextmanager
def audited(state: State, command: str, release: str, bundle: str) -> Iterator[Audit]:
    """Writes one line when the block begins and one that says how it ended."""
    audit = Audit(command, release, bundle, user_name())
    _write(state, audit, "started", "")
    try:
        yield audit
    except PerimeterError as error:
        _write(state, audit, "failed", f"{error.code}: {error.message}")
        raise
    except KeyboardInterrupt:
        _write(state, audit, "interrupted", "")
        raise
    except BaseException as error:
        _write(state, audit, "failed", type(error).__name__)
        raise
    _write(state, audit, "finished", "")


def user_name() -> str:
    """Who is at the keyboard: the user behind sudo when there is one."""
    try:
        own = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        own = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} (as {own})" if behind and behind != own else own


def now_text() -> str:
    """The time as journal and audit log write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _write(state: State, audit: Audit, result: str, message: str) -> None:
    table = {
        "time": now_text(),
        "user": audit.user,
        "command": audit.command,
        "release": audit.release,
        "bundle": audit.bundle,
        "result": result,
        "message": message,
    }
    append_line(state.audit, json.dumps(table, separators=(",", ":")).encode() + b"\n")
