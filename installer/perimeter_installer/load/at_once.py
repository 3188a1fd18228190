"""Many small pieces of work against one registry, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from perimeter_installer.load.body import Cancelled
from perimeter_installer.load.endpoint import RegistryEndpoint

Item = TypeVar("Item")
Result = TypeVar("Result")


class Cancellable(Protocol):
    """A client whose running calls can be ended."""

    endpoint: RegistryEndpoint

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Lane(Generic[Item]):
    """Things that wait for each other, and for nothing in another lane."""

    workers: int
    items: Sequence[Item]


def at_once(
    client: Cancellable, work: Callable[[Item], Result], *lanes: Lane[Item]
) -> list[Result]:
    """``work`` of every item, in order; the first failure stops the others and is raised."""
    with ExitStack() as stack:
        futures: list[Future[Result]] = []
        pools = []
        for lane in lanes:
            pool = ThreadPoolExecutor(lane.workers, f"load-{client.endpoint.name}")
            pools.append(stack.enter_context(pool))
            futures += [pool.submit(work, item) for item in lane.items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for future in futures if future.done() if (error := future.exception())]
            if not errors:
                return [future.result() for future in futures]
        except BaseException:
            _stop(client, pools)
            raise
        _stop(client, pools)
        raise next((error for error in errors if not isinstance(error, Cancelled)), errors[0])


def _stop(client: Cancellable, pools: list[ThreadPoolExecutor]) -> None:
    client.cancel()
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)
