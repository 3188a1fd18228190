"""What long work reports while it runs. Library code calls ``on_event`` and never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class EventKind(Enum):
    """Closed set of things worth saying during long work."""

    START = "start"  # a task begins; total_bytes or total_items when known
    PROGRESS = "progress"  # done_* is absolute, never a difference
    FINISH = "finish"  # a task ended well
    SKIP = "skip"  # a task was found done already
    FAIL = "fail"  # a task ended badly; an error or a report says the rest
    NOTE = "note"  # one line for the operator
    WARNING = "warning"  # one line the operator must see


@dataclass(frozen=True, slots=True)
class Event:
    """One report; ``task`` is a stable name: ``quay.io/minio/minio:X``, ``registry/n1``.

    A task that ends (FINISH, SKIP, FAIL) ends everything below it: ``node`` ends ``node/n1``.
    ``where`` names the hosts that ``message`` is about; ``host`` is the one that the bytes of this
    task come from or go to: one that falls silent while others go on is named.
    """

    kind: EventKind
    task: str
    message: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None
    done_items: int | None = None
    total_items: int | None = None
    where: tuple[str, ...] = ()
    host: str = ""

    def to_dict(self) -> dict[str, object]:
        """The event as one JSON line; fields without a value are left out."""
        pairs = {
            "kind": self.kind.value,
            "task": self.task,
            "message": self.message or None,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "done_items": self.done_items,
            "total_items": self.total_items,
            "where": list(self.where) or None,
            "host": self.host or None,
        }
        return {key: value for key, value in pairs.items() if value is not None}


OnEvent = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """An ``on_event`` for callers that show nothing."""
