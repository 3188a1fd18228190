"""Everything on the other side of the network, for one run, and work done on it in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.model.events import OnEvent, ignore_events
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop, StoppedError
from perimeter_bundle.registry.transport import Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Registries and file servers over one pool of connections."""

    images: RegistryClient
    files: FileFetcher
    stop: Stop
    workers: int


def open_upstream(settings: RegistrySettings, on_event: OnEvent = ignore_events) -> Upstream:
    """An upstream for one run; nothing is asked yet."""
    stop = Stop()
    transport = Transport(settings, stop=stop)
    return Upstream(
        images=RegistryClient(settings, on_event, transport=transport),
        files=FileFetcher(settings, on_event, transport=transport),
        stop=stop,
        workers=settings.workers,
    )


def run_all(jobs: Sequence[Callable[[], T]], upstream: Upstream) -> list[T]:
    """What the jobs give back, in their order.

    The first error, or an interruption, ends the others and is raised once they have ended.
    """
    with ThreadPoolExecutor(max_workers=upstream.workers, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            _raise_first(futures)
            return [future.result() for future in futures]
        except BaseException:
            upstream.stop.request()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _raise_first(futures: Sequence[Future[T]]) -> None:
    errors = [f.exception() for f in futures if f.done() and not f.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, StoppedError):
            raise error
