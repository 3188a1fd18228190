"""Many transfers at once, and how they end."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from perimeter_bundle.collect.scheduler import (
    MIDDLING_BYTES,
    SMALL_BYTES,
    FetchTask,
    fetch_all,
    join_equal,
)
from perimeter_bundle.model.errors import InputError, NetworkError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.registry.stop import Stop, StoppedError


def task(name: str, size: int = 1, run: object = None) -> FetchTask:
    return FetchTask(name, name, size, run if callable(run) else lambda: None)


def test_the_largest_begins_first() -> None:
    order: list[str] = []

    def noting(name: str, size: int) -> FetchTask:
        return task(name, size, lambda: order.append(name))

    assert fetch_all([noting("b", 1), noting("c", 9), noting("a", 1)], 1) == 3
    assert order == ["c", "a", "b"]


def test_a_blob_that_several_images_share_is_fetched_once() -> None:
    calls: list[int] = []
    shared = [FetchTask("sha256:x", f"image {n}", 5, lambda: calls.append(1)) for n in range(5)]
    assert fetch_all(shared, 3) == 1
    assert calls == [1]


def test_one_blob_cannot_have_two_sizes() -> None:
    with pytest.raises(InputError, match="x has two sizes") as caught:
        join_equal([FetchTask("x", "a", 1, print), FetchTask("x", "b", 2, print)])
    assert caught.value.context == {"a": "1 bytes", "b": "2 bytes"}


def test_as_many_run_at_once_as_there_are_workers() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert fetch_all([task(str(n), 1, barrier.wait) for n in range(6)], 3) == 6


def test_progress_counts_items_and_bytes() -> None:
    events: list[Event] = []
    fetch_all([task("a", 10), task("b", 5)], 1, events.append)
    assert [(event.kind, event.done_items, event.done_bytes) for event in events] == [
        (EventKind.START, 0, 0),
        (EventKind.PROGRESS, 1, 10),
        (EventKind.PROGRESS, 2, 15),
        (EventKind.FINISH, 2, 15),
    ]


def test_the_first_final_error_stops_new_work_and_wakes_the_rest() -> None:
    stop = Stop()
    begun: list[str] = []
    waiting = threading.Event()

    def waits() -> None:
        begun.append("waits")
        waiting.set()
        stop.wait(60)

    def fails() -> None:
        waiting.wait(10)
        raise NetworkError("not-found", "no such blob")

    tasks = [
        task("waits", 9, waits),
        task("fails", 8, fails),
        task("never", 1, lambda: begun.append("never")),
    ]
    with pytest.raises(NetworkError, match="no such blob") as caught:
        fetch_all(tasks, 2, stop=stop)
    assert begun == ["waits"]
    assert caught.value.problems == ("0 transfers were finished before, 1 had not begun",)


def test_errors_that_came_together_are_all_named() -> None:
    barrier = threading.Barrier(2, timeout=10)

    def fails() -> None:
        barrier.wait()
        raise NetworkError("not-found", "no such blob")

    with pytest.raises(NetworkError) as caught:
        fetch_all([task("a", 1, fails), task("b", 1, fails)], 2)
    assert caught.value.problems == (
        "also failed: error[not-found]: no such blob",
        "0 transfers were finished before, 0 had not begun",
    )


def test_a_defect_in_a_task_is_not_swallowed() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch_all([task("a", 1, broken)], 1)


def test_work_that_somebody_stopped_says_so() -> None:
    stop = Stop()
    with pytest.raises(StoppedError):
        fetch_all([task("a", 2, stop.request), task("b", 1)], 1, stop=stop)


def test_nothing_to_do_is_done() -> None:
    assert fetch_all([], 4) == 0


def test_small_transfers_have_places_of_their_own_beside_large_ones() -> None:
    barrier = threading.Barrier(5, timeout=10)
    large = [task(f"large {n}", SMALL_BYTES + 1, barrier.wait) for n in range(2)]
    small = [task(f"small {n}", SMALL_BYTES, barrier.wait) for n in range(3)]
    assert fetch_all([*large, *small], 2, small_workers=3) == 5


@pytest.mark.parametrize(
    ("size_bytes", "at_once"), [(SMALL_BYTES + 1, 4), (MIDDLING_BYTES, 4), (MIDDLING_BYTES + 1, 2)]
)
def test_as_many_small_places_as_there_are_workers_help_with_what_is_middling(
    size_bytes: int, at_once: int
) -> None:
    lock = threading.Lock()
    now, most = 0, 0

    def counts() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        barrier.wait()
        with lock:
            now -= 1

    barrier = threading.Barrier(at_once, timeout=10)
    tasks = [task(str(n), size_bytes, counts) for n in range(8)]
    assert fetch_all(tasks, 2, small_workers=8) == 8
    assert most == at_once


def test_small_places_help_only_when_nothing_small_is_left_and_with_the_least_first() -> None:
    order: list[str] = []
    all_but_the_largest = threading.Event()

    def note(name: str) -> None:
        order.append(name)
        if len(order) == 3:
            all_but_the_largest.set()

    tasks = [
        task("largest", SMALL_BYTES + 9, lambda: all_but_the_largest.wait(10)),
        *(
            task(name, SMALL_BYTES + n, partial(note, name))
            for n, name in ((2, "more"), (1, "less"))
        ),
        task("small", 1, partial(note, "small")),
    ]
    assert fetch_all(tasks, 1, small_workers=1) == 4
    assert order == ["small", "less", "more"]


def test_a_host_that_asks_for_a_pause_does_not_hold_up_another() -> None:
    stop, order = Stop(), list[str]()
    all_of_b = threading.Event()
    begun = threading.Event()

    def throttled() -> None:
        with stop.pausing():
            begun.set()
            assert all_of_b.wait(10)  # b's transfers run in the place that is left
        order.append("a first")

    def of_b(number: int) -> None:
        assert begun.wait(10)
        order.append(f"b {number}")
        if number == 2:
            all_of_b.set()

    tasks = [FetchTask("a1", "a1", 9, throttled, "a")]
    tasks += [FetchTask("a2", "a2", 8, lambda: order.append("a second"), "a")]
    tasks += [FetchTask(f"b{n}", "b", 5 - n, partial(of_b, n), "b") for n in range(3)]
    assert fetch_all(tasks, 1, stop=stop) == 5
    assert sorted(order[:3]) == ["b 0", "b 1", "b 2"]
    assert sorted(order[3:]) == ["a first", "a second"]  # nothing new of a while a pauses


def test_a_pause_ends_at_once_when_another_transfer_fails() -> None:
    stop, pauses = Stop(), threading.Event()

    def waits() -> None:
        with stop.pausing():
            pauses.set()
            stop.wait(60)

    def fails() -> None:
        assert pauses.wait(10)
        raise NetworkError("not-found", "no such blob")

    tasks = [FetchTask("a", "a", 9, waits, "a"), FetchTask("b", "b", 8, fails, "b")]
    with pytest.raises(NetworkError, match="no such blob"):
        fetch_all(tasks, 1, stop=stop)
