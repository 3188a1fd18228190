"""How long a transfer will take yet, from how it went so far. Pure: times are handed in.

Two things cost time: bytes, and the items themselves, since each is asked for and answered. So an
item counts as if it had some more bytes: so many that the speed so far is as even as it can be.
Without that, a thousand small files after a few large ones would come as a surprise. Speed is that
of the last third of the time: what was slow at first, or has become slow, is soon forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt

MAX_SAMPLES = 128
LAST_PART = 1 / 3  # speed is measured over this part of the time so far
LONGEST_S = 180.0  # and over no more than this
SHORTEST_S = 4.0
_SILENT_S = 3.0  # before that, nothing is said
_EVEN_PARTS = 12  # the time so far is cut into these to see how even the speed was
# an item costs as much as so many bytes; the first is the usual: small ones are many at once
_ITEM_BYTES = (1 << 14, 0, *(1 << power for power in range(15, 26)))
_ENOUGH_ITEMS = 20  # of fewer, nobody can tell what one costs
_BETTER = 0.5  # chance makes one choice or other a little more even; another must halve it


@dataclass(frozen=True, slots=True)
class _Sample:
    """How far it was at a time; ``units`` of it are bytes and what its items count for."""

    at_s: float
    done_bytes: int
    done_items: int

    def units(self, item_bytes: int) -> float:
        return self.done_bytes + self.done_items * item_bytes


class Estimator:
    """Takes samples as they come; memory and work do not grow with time."""

    def __init__(self) -> None:
        self._samples: list[_Sample] = []
        self._every_s = 0.2

    def take(self, at_s: float, done_bytes: int, done_items: int = 0) -> None:
        """Notes how far it is; one that went back starts anew."""
        samples = self._samples
        if samples and (done_bytes < samples[-1].done_bytes or done_items < samples[-1].done_items):
            samples.clear()
        if samples and at_s - samples[-1].at_s < self._every_s:
            return
        samples.append(_Sample(at_s, done_bytes, done_items))
        if len(samples) > MAX_SAMPLES:
            del samples[1::2]
            self._every_s *= 2

    def left_s(
        self,
        now_s: float,
        done_bytes: int,
        total_bytes: int,
        done_items: int = 0,
        total_items: int = 0,
    ) -> float | None:
        """Seconds until all is there; None while nothing can be said."""
        now = _Sample(now_s, done_bytes, done_items)
        samples = [*(one for one in self._samples if one.at_s < now_s), now]
        first = samples[0]
        if now_s - first.at_s < _SILENT_S or now.units(1) <= first.units(1):
            return None
        item_bytes = _item_bytes(samples)
        span_s = min(LONGEST_S, max(SHORTEST_S, (now_s - first.at_s) * LAST_PART))
        from_s = now_s - span_s
        since = next((one for one in reversed(samples) if one.at_s <= from_s), first)
        moved = now.units(item_bytes) - since.units(item_bytes)
        if moved <= 0:
            return None
        left = (total_bytes - done_bytes) + max(0, total_items - done_items) * item_bytes
        return max(0.0, left) * (now_s - since.at_s) / moved


def _item_bytes(samples: Sequence[_Sample]) -> int:
    """What an item counts for, so that the speed was as even as it can be."""
    usual, parts = _ITEM_BYTES[0], _parts(samples)
    if samples[-1].done_items - samples[0].done_items < _ENOUGH_ITEMS or len(parts) < 3:
        return usual
    best = min(_ITEM_BYTES, key=lambda item_bytes: _unevenness(parts, item_bytes))
    is_clear = _unevenness(parts, best) < _unevenness(parts, usual) * _BETTER
    return best if is_clear else usual


def _parts(samples: Sequence[_Sample]) -> list[tuple[float, int, int]]:
    """Seconds, bytes and items of equal parts of the time so far."""
    step_s = (samples[-1].at_s - samples[0].at_s) / _EVEN_PARTS
    parts, before = [], samples[0]
    for one in samples[1:]:
        if one.at_s - before.at_s >= step_s * 0.99:
            parts.append(
                (
                    one.at_s - before.at_s,
                    one.done_bytes - before.done_bytes,
                    one.done_items - before.done_items,
                )
            )
            before = one
    return parts


def _unevenness(parts: Sequence[tuple[float, int, int]], item_bytes: int) -> float:
    speeds = [(size + items * item_bytes) / seconds for seconds, size, items in parts]
    mean = fsum(speeds) / len(speeds)
    if mean <= 0:
        return float("inf")
    return sqrt(fsum((speed - mean) ** 2 for speed in speeds) / len(speeds)) / mean
