"""The one table of what is tried again, how often and after which pause; for images and files.

A ``Failure`` is a mishap that may pass. Code below the ``Retrier`` raises it and never retries by
itself, so attempts do not multiply. Everything else that is raised is final at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeVar

from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.registry.stop import Stop

T = TypeVar("T")

MIB = 1024 * 1024
RETRY_AFTER_LIMIT_S = 300.0  # a server that wants a longer pause gets a clear error instead
PROGRESS_THAT_COUNTS_BYTES = 4 * MIB  # a transfer that won this much starts counting afresh


class FailureKind(Enum):
    """Closed set of mishaps that may pass; the value is the error code when they do not."""

    CONNECT = "connect-failed"  # no name, no route, refused, TLS handshake cut
    BROKEN = "connection-broken"  # closed before the whole answer head was there
    TIMEOUT = "timed-out"  # nothing came, or far too little, for the read timeout
    TRUNCATED = "truncated"  # the body ended before its promised length
    THROTTLED = "throttled"  # 429
    SERVER = "server-error"  # 408, 5xx


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Pause before attempt n+1 is ``first_s * 2**(n-1)``, at most ``cap_s``, times 0.5 to 1."""

    attempts: int
    first_s: float
    cap_s: float
    hint: str

    def pause_s(self, failed: int, jitter: float) -> float:
        """The pause after ``failed`` attempts; ``jitter`` from 0 up to 1."""
        return float(min(self.first_s * 2 ** (failed - 1), self.cap_s) * (0.5 + jitter / 2))


RETRY_TABLE: Mapping[FailureKind, RetryRule] = {
    # a name or route that is missing will mostly stay so: say it soon
    FailureKind.CONNECT: RetryRule(
        4, 1, 8, "check the name, the route and the proxy settings of this machine"
    ),
    FailureKind.BROKEN: RetryRule(5, 1, 15, "a proxy or firewall may be cutting connections"),
    # each attempt has already waited for the read timeout
    FailureKind.TIMEOUT: RetryRule(4, 1, 8, "the server is overloaded or a firewall drops answers"),
    # cheap: the next attempt goes on where this one ended
    FailureKind.TRUNCATED: RetryRule(
        6, 0.5, 8, "run the same command again: it goes on where it stopped"
    ),
    # registries count in minutes
    FailureKind.THROTTLED: RetryRule(
        6, 5, 60, "log in (docker login) for a higher limit, use a mirror, or wait"
    ),
    FailureKind.SERVER: RetryRule(5, 1, 30, "the server has a problem of its own; try later"),
}
# a host that does not answer, or asks for patience, would treat other transfers alike
_OF_THE_HOST = frozenset({FailureKind.CONNECT, FailureKind.THROTTLED})


class Failure(Exception):
    """One attempt that failed and may be repeated; never reaches people.

    ``retry_after_s`` is what the server asked for, None when it asked for nothing.
    """

    def __init__(
        self, kind: FailureKind, found: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(found)
        self.kind = kind
        self.found = found
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance as parameters, so that tests take none."""

    sleep: Callable[[Stop, float], None] = field(default=Stop.wait)
    monotonic: Callable[[], float] = field(default=time.monotonic)
    wall: Callable[[], float] = field(default=time.time)
    # jitter only spreads clients over time, so a plain generator will do
    random: Callable[[], float] = field(default=random.random)


@dataclass(frozen=True, slots=True)
class Retrier:
    """Repeats an action as the table says."""

    clock: Clock = field(default_factory=Clock)
    stop: Stop = field(default_factory=Stop)
    on_event: OnEvent = ignore_events
    table: Mapping[FailureKind, RetryRule] = field(default_factory=lambda: RETRY_TABLE)

    def run(
        self,
        attempted: str,
        action: Callable[[], T],
        *,
        task: str = "",
        done_bytes: Callable[[], int] | None = None,
    ) -> T:
        """What ``action`` gives back once it does not raise Failure.

        ``attempted`` names the work in messages: ``fetching quay.io/minio/minio:X``. With
        ``done_bytes`` (how much is safe on disc) a transfer that moves on is not given up.
        Raises NetworkError named after the last failure when the table allows no more.
        """
        counts: dict[FailureKind, int] = {}
        mark = done_bytes() if done_bytes else 0
        while True:
            self.stop.check()
            try:
                return action()
            except Failure as caught:
                failure = caught
            self.stop.check()
            if done_bytes and done_bytes() - mark >= PROGRESS_THAT_COUNTS_BYTES:
                counts.clear()
                mark = done_bytes()
            counts[failure.kind] = counts.get(failure.kind, 0) + 1
            rule = self.table[failure.kind]
            asked_s = failure.retry_after_s
            # kinds that alternate may not multiply the attempts, so the sum is bounded too
            tried = max(counts[failure.kind], sum(counts.values()) - 2)
            if tried >= rule.attempts or (asked_s or 0) > RETRY_AFTER_LIMIT_S:
                raise self._final(attempted, failure, sum(counts.values())) from failure
            pause_s = rule.pause_s(counts[failure.kind], self.clock.random())
            if asked_s is not None:
                pause_s = max(pause_s, asked_s)
            note = f"{attempted}: {failure.found}; trying again in {pause_s:.1f} s"
            self.on_event(Event(EventKind.NOTE, task or attempted, note))
            # a first mishap may be this transfer's alone; what comes again is its host's
            is_first = sum(counts.values()) == 1 and asked_s is None
            is_its_own = is_first and failure.kind not in _OF_THE_HOST
            with nullcontext() if is_its_own else self.stop.pausing():
                self.clock.sleep(self.stop, pause_s)

    def _final(self, attempted: str, failure: Failure, attempts: int) -> NetworkError:
        asked_s = failure.retry_after_s or 0
        hint = self.table[failure.kind].hint
        if asked_s > RETRY_AFTER_LIMIT_S:
            hint = f"the server asks to come back in {asked_s:.0f} s; {hint}"
        plural = "attempt" if attempts == 1 else "attempts"
        return NetworkError(
            failure.kind.value,
            f"{attempted} failed after {attempts} {plural}",
            context={"found": failure.found},
            hint=hint,
        )


def retry_after_s(text: str | None, wall_s: float) -> float | None:
    """Seconds that a Retry-After header asks for, None without a usable one.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    if not text:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - wall_s)
