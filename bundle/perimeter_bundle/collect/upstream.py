"""Everything on the other side of the network, for one run, and work done on it in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.collect.scheduler import FetchTask, fetch_all
from perimeter_bundle.model.events import OnEvent, ignore_events
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.resolve import Registries
from perimeter_bundle.registry.settings import SMALL_PER_WORKER, RegistrySettings
from perimeter_bundle.registry.stop import Stop
from perimeter_bundle.registry.transport import Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Registries and file servers over one pool of connections.

    ``images`` may hold more than registries: what a site brings from the builder itself.
    """

    images: Registries
    files: FileFetcher
    stop: Stop
    workers: int

    @property
    def small_workers(self) -> int:
        """How many small transfers run beside ``workers`` large ones."""
        return self.workers * SMALL_PER_WORKER


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


def run_all(
    jobs: Mapping[str, Callable[[], T]],
    upstream: Upstream,
    task_name: str,
    *,
    are_small: bool = False,
) -> list[T]:
    """What the jobs give back, in their order; a job is known by its name.

    ``are_small``: each only waits for an answer or two, so many run at once.
    Raises the first error, or KeyboardInterrupt, after the other jobs ended.
    """
    results: dict[str, T] = {}

    def task(name: str, job: Callable[[], T]) -> FetchTask:
        def run() -> None:
            results[name] = job()

        return FetchTask(key=name, name=name, size_bytes=0, run=run)

    tasks = [task(name, job) for name, job in jobs.items()]
    fetch_all(
        tasks,
        upstream.workers,
        upstream.files.on_event,
        small_workers=upstream.small_workers if are_small else 0,
        stop=upstream.stop,
        task_name=task_name,
    )
    return [results[name] for name in jobs]
