"""Why a host could not be asked: each reason has a name of its own."""

from __future__ import annotations

from enum import Enum

from perimeter_bundle.model.errors import HostError


class SshProblem(Enum):
    """Why a host could not be asked; the value is the error's code."""

    UNREACHABLE = "ssh-unreachable"
    REFUSED = "ssh-refused"
    SILENT = "ssh-silent"
    NOT_SSH = "ssh-not-ssh"
    KEY_UNKNOWN = "ssh-host-key-unknown"
    KEY_CHANGED = "ssh-host-key-changed"
    AUTH_FAILED = "ssh-auth-failed"
    SUDO_PASSWORD = "sudo-needs-password"  # noqa: S105 - a code, not a password
    SUDO_MISSING = "sudo-missing"
    COMMAND_TIMEOUT = "ssh-command-timeout"
    BROKEN = "ssh-broken"


class SshError(HostError):
    """A host that could not be asked; ``problem`` says why."""

    def __init__(
        self,
        problem: SshProblem,
        message: str,
        *,
        hint: str,
        context: dict[str, object] | None = None,
    ) -> None:
        super().__init__(problem.value, message, hint=hint, context=context)
        self.problem = problem
