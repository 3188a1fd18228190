"""One base class for every error a user can meet, and the exit status each kind ends with.

A subclass says whose problem it is; ``code`` says which problem; ``hint`` what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of both programs; documented in docs/exit-statuses.md."""

    OK = 0
    FINDINGS = 1  # the command worked and found something wrong: preflight, check, verify of a site
    INPUT = 2  # wrong options or files people wrote
    NETWORK = 3  # a server did not answer as it should, after the retries
    INTEGRITY = 4  # bytes are not the expected ones
    TRUST = 5  # keys, signatures, thresholds
    HOST = 6  # this machine or a node lacks something (room, tool, permission)
    CLUSTER = 7  # Kubernetes did not reach the state asked for
    INTERNAL = 70  # a defect in perimeter itself
    INTERRUPTED = 130


class PerimeterError(Exception):
    """What was attempted, what was found, and what to do next.

    ``context`` holds expected/found pairs in the order in which they are shown.
    ``problems`` lists every problem when several were collected before raising.
    """

    exit_status: ExitStatus = ExitStatus.INTERNAL

    def __init__(
        self,
        code: str,
        message: str,
        *,
        context: Mapping[str, object] | None = None,
        hint: str | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.context = {key: str(value) for key, value in (context or {}).items()}
        self.hint = hint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        # a problem may hold lines of a program's output
        lines += ["  " + problem.replace("\n", "\n      ") for problem in self.problems]
        lines += [f"  {key}: {value}" for key, value in self.context.items()]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """The error as ``--json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "context": self.context,
            "problems": list(self.problems),
            "hint": self.hint,
            "exit_status": int(self.exit_status),
        }


class InputError(PerimeterError):
    """A file people wrote or an option is wrong."""

    exit_status = ExitStatus.INPUT


class NetworkError(PerimeterError):
    """A server did not answer as it should, retries included."""

    exit_status = ExitStatus.NETWORK


class IntegrityError(PerimeterError):
    """Bytes are not the ones that were promised."""

    exit_status = ExitStatus.INTEGRITY


class TrustError(PerimeterError):
    """A key, signature or threshold does not hold."""

    exit_status = ExitStatus.TRUST


class HostError(PerimeterError):
    """This machine or a node lacks something."""

    exit_status = ExitStatus.HOST


class ClusterError(PerimeterError):
    """The cluster did not reach the state that was asked for."""

    exit_status = ExitStatus.CLUSTER
