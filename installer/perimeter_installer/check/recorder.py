"""Runs one check after the other: each becomes a result, whatever it meets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.report.model import Area, CheckResult, Outcome

PAUSE_S = 2.0

Evidence = Sequence[str]


class CheckFailed(Exception):
    """What must hold does not; ``evidence`` says what was seen instead."""

    def __init__(self, *evidence: str, hint: str = "") -> None:
        super().__init__(evidence[0] if evidence else "failed")
        self.evidence = evidence
        self.hint = hint


class CheckSkipped(Exception):
    """The check does not apply to this site."""


@dataclass(slots=True)
class Recorder:
    """Collects results in the order in which checks ran."""

    on_event: OnEvent
    results: list[CheckResult] = field(default_factory=list)

    def run(
        self, name: str, title: str, area: Area, action: Callable[[], Evidence], host: str = ""
    ) -> bool:
        """Runs ``action``; gives back whether it ended well. Only an interruption gets out."""
        task = f"check/{name}"
        self.on_event(Event(EventKind.START, task, title))
        begin = time.monotonic()
        outcome, evidence, hint = _outcome_of(action)
        seconds = time.monotonic() - begin
        self.add(CheckResult(name, title, area, outcome, seconds, tuple(evidence), host, hint))
        return outcome is not Outcome.FAILED

    def add(self, result: CheckResult) -> None:
        """Takes a result that was made elsewhere."""
        self.results.append(result)
        kind = {
            Outcome.PASSED: EventKind.FINISH,
            Outcome.SKIPPED: EventKind.SKIP,
            Outcome.FAILED: EventKind.FAIL,
        }[result.outcome]
        where = f"{result.host}: " if result.host else ""
        message = f"{where}{result.title}"
        if result.outcome is Outcome.FAILED:
            message += f": {result.evidence[0]}" if result.evidence else ": failed"
        self.on_event(Event(kind, f"check/{result.name}", message))


def _outcome_of(action: Callable[[], Evidence]) -> tuple[Outcome, Evidence, str]:
    try:
        return Outcome.PASSED, action(), ""
    except CheckSkipped as skipped:
        return Outcome.SKIPPED, [str(skipped)], ""
    except CheckFailed as failed:
        return Outcome.FAILED, failed.evidence, failed.hint
    except PerimeterError as error:
        lines = [error.message, *error.problems]
        lines += [f"{key}: {value}" for key, value in error.context.items()]
        return Outcome.FAILED, lines, error.hint or ""
    except Exception as error:  # one broken check must not hide the others
        return Outcome.FAILED, [f"unexpected {type(error).__name__}: {error}"], ""


def eventually(
    action: Callable[[], Evidence],
    timeout_s: float,
    *,
    pause_s: float = PAUSE_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Evidence:
    """What ``action`` gives as soon as it does not fail; its last failure when time is up.

    A cluster heals itself: what is looked for is whether it gets there within a bound, and the
    evidence says how long it took when it was not there at once.
    """
    begin = clock()
    while True:
        try:
            evidence = action()
        except (CheckFailed, PerimeterError):
            if clock() - begin + pause_s > timeout_s:
                raise
        else:
            waited = clock() - begin
            return [*evidence, f"after {waited:.0f} s"] if waited > 2 * pause_s else evidence
        sleep(pause_s)
