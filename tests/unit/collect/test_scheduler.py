"""Many transfers at once, and how they end."""

from __future__ import annotations

import threading

import pytest

from perimeter_bundle.collect.scheduler import FetchTask, fetch_all, join_equal
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
