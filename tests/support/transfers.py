"""What tests of transfers share: a clock that does not wait, settings for a server on loopback."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.registry.retry import Clock, Retrier
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop
from perimeter_bundle.registry.transport import Transport
from tests.support.lying_server import LyingServer


@dataclass(slots=True)
class Recorder:
    """Keeps events and pauses; ``seconds_a_look`` is how far the clock moves at each look."""

    events: list[Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    seconds_a_look: float = 0.0

    def on_event(self, event: Event) -> None:
        """An ``on_event`` that remembers."""
        self.events.append(event)

    def kinds(self) -> list[EventKind]:
        """Kinds of the events, in order."""
        return [event.kind for event in self.events]

    def clock(self) -> Clock:
        """A clock that notes pauses instead of taking them."""
        looks = itertools.count()

        def sleep(stop: Stop, seconds: float) -> None:
            stop.check()
            self.pauses.append(seconds)

        return Clock(
            sleep=sleep,
            monotonic=lambda: next(looks) * self.seconds_a_look,
            wall=lambda: 1_800_000_000.0,
            random=lambda: 1.0,
        )

    def transport(self, settings: RegistrySettings, stop: Stop | None = None) -> Transport:
        """A transport with this clock."""
        return Transport(settings, stop=stop, clock=self.clock())

    def retrier(self, transport: Transport) -> Retrier:
        """A retrier over the same clock and flag."""
        return Retrier(transport.clock, transport.stop, self.on_event)


def loopback_settings(*servers: LyingServer, **changes: Any) -> RegistrySettings:
    """Settings that speak plain HTTP to these servers and lose patience quickly."""
    values: dict[str, Any] = {
        "unsafe_http_hosts": frozenset(server.host for server in servers),
        "connect_timeout_s": 5.0,
        "read_timeout_s": 0.3,
        **changes,
    }
    return RegistrySettings(**values)
